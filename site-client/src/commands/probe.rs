//! `fmct-site probe`: a head on frozen features.

use clap::ValueEnum;
use site_client::train::downstream::Protocol;

use super::trials::{self, TrialArgs};

/// Trains a linear or attentive probe on frozen features, computed once.
///
/// Writes what `finetune` writes. Research software: not for clinical use.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which probe.
    #[arg(long, value_enum)]
    kind: Kind,
    #[command(flatten)]
    trials: TrialArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// One attention layer over all tokens.
    Attentive,
    /// A linear layer on the class token.
    Linear,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let protocol = match args.kind {
        Kind::Attentive => Protocol::AttentiveProbe,
        Kind::Linear => Protocol::LinearProbe,
    };
    trials::run(&args.trials, protocol, Vec::new())
}
