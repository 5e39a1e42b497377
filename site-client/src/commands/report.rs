//! `fmct-site report`: all figures and tables of runs on one page.

use std::path::PathBuf;

use anyhow::Context;
use site_client::evaluate::Settings;
use site_client::report::{self, Run};

/// Writes one self-contained HTML page with every figure and table of the given runs.
///
/// The first run's model is the one of interest: the others are tested against it. Research
/// software: not for clinical use.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folders of runs (docs/EVALUATION.md describes them).
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Folder to write to.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Bootstrap resamples; the paper used 100.
    #[arg(long, default_value_t = 1000)]
    bootstraps: usize,
    /// Permutations.
    #[arg(long, default_value_t = 1000)]
    permutations: usize,
    /// Seed of resampling and permutation.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    anyhow::ensure!(args.bootstraps > 0, "--bootstraps 0, expected at least 1");
    let read = |path: &PathBuf| {
        Run::read(path).with_context(|| format!("cannot read run {}", path.display()))
    };
    let runs = args
        .runs
        .iter()
        .map(read)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let settings = Settings {
        bootstraps: args.bootstraps,
        permutations: args.permutations,
        seed: args.seed,
        ..Settings::default()
    };
    let written = report::write(runs, &args.out, &settings)?;
    println!(
        "{}: {} pictures, {} tables",
        written.page.display(),
        written.pictures,
        written.tables
    );
    Ok(())
}
