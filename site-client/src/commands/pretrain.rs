//! `fmct-site pretrain`: self-supervised pre-training on a site's own scans.

use std::path::PathBuf;

use site_client::train::Objective;
use site_client::train::pretrain::{PretrainRun, pretraining_scans};
use site_client::train::record::Stop;

use super::Stopped;
use super::training::{ConfigArgs, DataArgs, devices};

/// Pre-trains a model by DINO or MAE on the training part of a cohort.
///
/// SIGINT or SIGTERM stops it after a checkpoint, with status 75 (1 if none was ever written); a
/// second signal at once.
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
        return Err(ending(outcome.step, outcome.saved));
    }
    Ok(())
}

/// What a run that was stopped after `step` can go on from.
fn ending(step: u64, saved: Option<u64>) -> anyhow::Error {
    match saved {
        Some(saved) if saved < step => Stopped::Behind { step, saved }.into(),
        Some(_) => Stopped::Saved.into(),
        None => anyhow::anyhow!(
            "stopped as asked after step {step}; no checkpoint could be written, so there is \
             nothing to go on from"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_run_promises_to_go_on_only_from_a_checkpoint_that_is_there() {
        let saved = ending(9, Some(9));
        assert!(saved.is::<Stopped>() && saved.to_string().ends_with("--resume goes on"));
        let behind = ending(9, Some(4));
        assert!(behind.is::<Stopped>(), "it can be gone on with");
        assert!(behind.to_string().ends_with("of step 4"), "{behind}");
        let lost = ending(9, None);
        assert!(!lost.is::<Stopped>(), "nothing is saved");
        assert!(!lost.to_string().contains("--resume"), "{lost}");
    }
}
