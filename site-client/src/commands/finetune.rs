//! `fmct-site finetune`: every weight learns.

use site_client::train::downstream::Protocol;

use super::training::ModelArgs;
use super::trials::{self, TrialArgs};

/// Fine-tunes a backbone for each disease, keeps the best epoch by validation AUC, and scores the
/// test part once.
///
/// Writes predictions.csv, trials.jsonl, config.toml and one classifier per model.
/// Research software: not for clinical use.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    trials: TrialArgs,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    trials::run(&args.trials, Protocol::Finetune, args.model.settings())
}
