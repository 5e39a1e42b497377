//! `fmct-site labels`: from records or reads to `labels.csv`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;
use site_client::cohort::{
    Cq500Options, Definitions, LabelTable, LabelWindow, Mapping, RecordFormat, Records, SliceMap,
    from_cq500, from_records, from_rsna,
};
use site_client::scans;

/// Make labels.csv from health records, or from the reads of RSNA 2019 or CQ500.
///
/// Beside the labels stands a report: how they were made and what was left out.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["ehr", "rsna", "cq500"])))]
pub(crate) struct Args {
    /// Table of scans (with --ehr).
    #[arg(long, value_name = "FILE", required_unless_present_any = ["rsna", "cq500"])]
    scans: Option<PathBuf>,
    /// Folder of health records: diagnoses.csv, OMOP tables or FHIR NDJSON.
    #[arg(long, value_name = "DIR")]
    ehr: Option<PathBuf>,
    /// Form of the records; found from the files when not given.
    #[arg(long)]
    format: Option<RecordFormat>,
    /// Names of files and columns of plain CSV records, and the form of their dates (TOML).
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    /// Definitions of diseases in place of the paper's (TOML).
    #[arg(long, value_name = "FILE")]
    definitions: Option<PathBuf>,
    /// Which records count for a scan.
    #[arg(long, default_value = "from-scan")]
    window: LabelWindow,
    /// Table linking the records' patients to pseudonyms: mrn.csv of an import with --keep-mrn, or
    /// any with columns patient and record.
    #[arg(long, value_name = "FILE")]
    link: Option<PathBuf>,
    /// stage_2_train.csv of RSNA 2019.
    #[arg(long, value_name = "FILE")]
    rsna: Option<PathBuf>,
    /// Which images form a series (with --rsna): a folder of DICOM files, or a table with columns
    /// image, study, patient and optionally scan.
    #[arg(long, value_name = "PATH", requires = "rsna")]
    images: Option<PathBuf>,
    /// reads.csv of CQ500.
    #[arg(long, value_name = "FILE")]
    cq500: Option<PathBuf>,
    /// The series (with --cq500): a table with columns scan, patient, name, or the folder of NIfTI
    /// files.
    #[arg(long, value_name = "PATH", requires = "cq500")]
    series: Option<PathBuf>,
    /// Take tilt-corrected and equalized copies of series too.
    #[arg(long)]
    with_twins: bool,
    /// Take series made with contrast too.
    #[arg(long)]
    with_contrast: bool,
    /// Where to write the labels.
    #[arg(long, value_name = "FILE", default_value = "labels.csv")]
    out: PathBuf,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    if let Some(reads) = &args.rsna {
        let images = args.images.as_deref().context("--rsna needs --images")?;
        let map = if images.is_dir() {
            SliceMap::from_dicom(images)?
        } else {
            SliceMap::read(images)?
        };
        let (table, report) = from_rsna(reads, &map)?;
        return finish(&args.out, &table, &report);
    }
    if let Some(reads) = &args.cq500 {
        let series = args.series.as_deref().context("--cq500 needs --series")?;
        let options = Cq500Options {
            twins: args.with_twins,
            contrast: args.with_contrast,
        };
        let (table, left_out) = from_cq500(reads, series, options)?;
        return finish(&args.out, &table, &left_out);
    }
    let folder = args
        .ehr
        .as_deref()
        .context("--ehr, --rsna or --cq500 is needed")?;
    let scans = scans::read(args.scans.as_deref().context("--ehr needs --scans")?)?;
    let mapping = args
        .mapping
        .as_deref()
        .map(Mapping::read)
        .transpose()?
        .unwrap_or_default();
    let definitions = args
        .definitions
        .as_deref()
        .map_or_else(|| Ok(Definitions::paper()), Definitions::read)?;
    let format = match args.format {
        Some(format) => format,
        None => RecordFormat::detect(folder, &mapping)?,
    };
    let mut records = Records::read(folder, format, &mapping)?;
    if let Some(link) = &args.link {
        records.link(link)?;
    }
    let (table, report) = from_records(&scans, records, &definitions, args.window);
    finish(&args.out, &table, &report)
}

fn finish(out: &Path, table: &LabelTable, report: &impl Serialize) -> anyhow::Result<()> {
    table.write(out)?;
    let report_path = out.with_extension("report.json");
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(&report_path, &text)
        .with_context(|| format!("{}: cannot be written", report_path.display()))?;
    println!(
        "{} scans of {} patients",
        table.rows.len(),
        table.patients().len()
    );
    for (index, task) in table.tasks.iter().enumerate() {
        let labels = table.by_scan(index);
        let positive = labels.values().filter(|positive| **positive).count();
        println!(
            "{task:<20} {positive:>7} positive of {:>7} labeled",
            labels.len()
        );
    }
    println!("report: {}", report_path.display());
    Ok(())
}
