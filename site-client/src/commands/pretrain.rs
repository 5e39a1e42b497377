//! `fmct-site pretrain`: self-supervised pre-training on a site's own scans.

use std::path::PathBuf;

use site_client::train::Objective;
use site_client::train::pretrain::{PretrainRun, pretraining_scans};
use site_client::train::record::Stop;

use super::Stopped;
use super::training::{ConfigArgs, DataArgs, devices};

/// Pre-trains a model by DINO or MAE on the training part of a cohort.
///
/// SIGINT or SIGTERM stops it after a checkpoint, with status 75; a second signal at once.
///
/// Research software: not for clinical use.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to optimize.
    #[arg(long, value_enum)]
    objective: Objective,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    data: DataArgs,
    /// Share of the training patients; a smaller share is contained in a larger one.
    #[arg(long)]
    fraction: Option<f64>,
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Go on from the folder's checkpoint.
    #[arg(long)]
    resume: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let fraction = args
        .fraction
        .map(|fraction| format!("pretrain.fraction={fraction:?}"));
    let plan = args.config.plan(&Vec::from_iter(fraction))?;
    let devices = devices(&plan)?;
    let source = pretraining_scans(&args.data.open(&plan)?, plan.config().pretrain.fraction);
    let stop = Stop::on_signals()?;
    let (objective, dir) = (args.objective, args.out);
    let run = PretrainRun {
        plan,
        objective,
        dir,
        resume: args.resume,
        stop,
    };
    let outcome = run.execute(source, &devices)?;
    let stretch = outcome.stretch;
    let seconds = stretch.elapsed.as_secs_f64();
    let stopped = outcome.step < outcome.total;
    let state = if stopped { "stopped" } else { "done" };
    println!(
        "{state} at step {} of {}, loss {:.4}, {:.1} scans/s, waited for data {:.1} % of the time, \
         {} scans skipped",
        outcome.step,
        outcome.total,
        stretch.loss,
        stretch.scans as f64 / seconds.max(1e-9),
        100.0 * stretch.waited.as_secs_f64() / seconds.max(1e-9),
        outcome.skipped.len(),
    );
    if stopped {
        return Err(Stopped.into());
    }
    Ok(())
}
