//! `fmct-site finetune`: every weight learns.

use std::path::PathBuf;

use site_client::train::downstream::Protocol;

use super::training::{ConfigArgs, DataArgs, ExternalArgs};
use super::trials;

/// Fine-tunes a backbone for each disease, keeps the best epoch by validation AUC, and scores the
/// test part once.
///
/// Writes predictions.csv, trials.jsonl, config.toml and one classifier per model.
/// Research software: not for clinical use.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A pre-training run's folder, a weight file, or `scratch`.
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

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let draws = args.draws.map(|draws| format!("finetune.draws={draws}"));
    let plan = args.config.plan(&Vec::from_iter(draws))?;
    trials::run(&trials::Request {
        plan,
        protocol: Protocol::Finetune,
        from: &args.from,
        tasks: &args.tasks,
        data: &args.data,
        external: &args.external,
        out: &args.out,
    })
}
