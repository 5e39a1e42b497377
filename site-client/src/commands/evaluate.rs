//! `fmct-site evaluate`: scores a cohort with a trained classifier.

use std::path::PathBuf;

use anyhow::Context;
use site_client::device::DeviceChoice;
use site_client::evaluate::{Part, Predictions};
use site_client::train::data::Reading;
use site_client::train::downstream::Classifier;

use super::training::{DataArgs, named, scored_for, start_name};

/// Writes predictions.csv for the test part of a cohort. A task that the cohort has no labels of is
/// named and left out.
///
/// Research software: not for clinical use.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A classifier written by finetune, probe or sweep.
    #[arg(long, value_name = "FILE.safetensors")]
    weights: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    /// Score every labelled scan, not the test part alone: for a cohort the model never saw.
    #[arg(long)]
    all: bool,
    /// cpu, cuda or cuda:1.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Where the table goes.
    #[arg(long, value_name = "P.csv", default_value = "predictions.csv")]
    out: PathBuf,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let device = args.device.parse::<DeviceChoice>()?.open()?;
    let classifier = Classifier::load(&args.weights, &device)?;
    let plan = classifier.plan()?;
    let set = args
        .data
        .open_labelled(&plan, Reading::Evaluation, Some(Part::Test))?;
    let set = scored_for(&set, classifier.tasks(), &args.data.name())?;
    let parts = if args.all {
        vec![Part::Train, Part::Validation, Part::Test]
    } else {
        vec![Part::Test]
    };
    let scans: Vec<usize> = parts.into_iter().flat_map(|part| set.part(part)).collect();
    anyhow::ensure!(
        !scans.is_empty(),
        "no labelled scan to score; --all scores every part"
    );
    let name = args.weights.display().to_string();
    let rows = classifier.predict(&set, &scans)?;
    let mut rows = named(rows, start_name(&name), classifier.protocol().name(), &set);
    for row in &mut rows {
        // Where it was trained is not in the file.
        row.trained_at = None;
    }
    let count = rows.len();
    Predictions { rows }
        .write(&args.out)
        .with_context(|| format!("cannot write {}", args.out.display()))?;
    println!("{count} predictions: {}", args.out.display());
    Ok(())
}
