//! `fmct-site describe`: the table of characteristics of a cohort.

use std::path::PathBuf;

use anyhow::Context as _;
use site_client::cohort::{Characteristics, LabelTable};
use site_client::scans;

/// Describe a cohort as the paper's Supplementary Table 2 does: sex, age and prevalence per disease.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Table of scans.
    #[arg(long, value_name = "FILE", default_value = "scans.csv")]
    scans: PathBuf,
    /// Table of labels.
    #[arg(long, value_name = "FILE", default_value = "labels.csv")]
    labels: PathBuf,
    /// Also write the table as CSV.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Also write a page with the table and bars of prevalence.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let scans = scans::read(&args.scans)?;
    let labels = LabelTable::read_for(&args.labels, &args.scans, &scans)?;
    let table = Characteristics::new(&scans, &labels);
    print!("{}", table.text());
    if let Some(path) = &args.csv {
        table.write_csv(path)?;
    }
    if let Some(path) = &args.html {
        std::fs::write(path, table.html())
            .with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    Ok(())
}
