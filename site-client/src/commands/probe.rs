//! `fmct-site probe`: a head on frozen features.

use std::path::PathBuf;

use clap::ValueEnum;
use site_client::train::downstream::Protocol;

use super::training::{ConfigArgs, DataArgs, ExternalArgs};
use super::trials;

/// Trains a linear or attentive probe on frozen features, computed once.
///
/// Writes what `finetune` writes. Research software: not for clinical use.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which probe.
    #[arg(long, value_enum)]
    kind: Kind,
    /// A pre-training run's folder, a weight file, or `scratch` for random features.
    #[arg(long, value_name = "CKPT|scratch")]
    from: String,
    /// `each` trains one binary model per disease, `all` one model of all; or a list of diseases.
    #[arg(long, default_value = "each")]
    tasks: String,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    external: ExternalArgs,
    /// Draws per epoch; the paper's were 5000, or 500 for CQ500.
    #[arg(long)]
    draws: Option<usize>,
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// One attention layer over all tokens.
    Attentive,
    /// A linear layer on the class token.
    Linear,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let draws = args.draws.map(|draws| format!("finetune.draws={draws}"));
    let plan = args.config.plan(&Vec::from_iter(draws))?;
    trials::run(&trials::Request {
        plan,
        protocol: match args.kind {
            Kind::Attentive => Protocol::AttentiveProbe,
            Kind::Linear => Protocol::LinearProbe,
        },
        from: &args.from,
        tasks: &args.tasks,
        data: &args.data,
        external: &args.external,
        out: &args.out,
    })
}
