//! `fmct-site split`: which patients train, validate, test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use site_client::cohort::{LabelTable, Part, Split, SplitKey};

/// Split a cohort by patient, 8:1:1, or check or take over a split.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Table with columns scan and patient: scans.csv or labels.csv.
    #[arg(long, value_name = "FILE")]
    table: PathBuf,
    /// Text of the key that decides a patient's part. Keep it: the same key gives the same parts.
    #[arg(
        long,
        env = "FMCT_SPLIT_KEY",
        default_value = "fmct",
        hide_env_values = true
    )]
    key: String,
    /// Give every part its share of the positives of each task; the table must be labels.csv.
    #[arg(long)]
    stratify: bool,
    /// An earlier split whose patients keep their parts (with --stratify).
    #[arg(long, value_name = "FILE", requires = "stratify")]
    keep: Option<PathBuf>,
    /// Take over an official split: one table with a column part, or PART=FILE for each part.
    #[arg(long, value_name = "[PART=]FILE", conflicts_with = "stratify")]
    import: Vec<String>,
    /// Column of the scan's name in an official split.
    #[arg(long, default_value = "scan", requires = "import")]
    scan_column: String,
    /// Where an official split divides a patient, keep only its latest part (test before
    /// validation before train) and leave out the other scans.
    #[arg(long, requires = "import")]
    drop_leaks: bool,
    /// Only check this split for leaks and report it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stratify", "import"])]
    check: Option<PathBuf>,
    /// Where to write the split.
    #[arg(long, value_name = "FILE", default_value = "split.csv")]
    out: PathBuf,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    if let Some(path) = &args.check {
        let split = Split::read(path)?;
        report(&split);
        println!("no patient is in two parts");
        return Ok(());
    }
    let table = if args.stratify {
        LabelTable::read(&args.table)?
    } else {
        LabelTable::read_names(&args.table)?
    };
    let key = SplitKey::from_text(&args.key);
    let scans = || {
        table
            .rows
            .iter()
            .map(|row| (row.scan.as_str(), row.patient.as_str()))
    };
    let split = if !args.import.is_empty() {
        let files = args
            .import
            .iter()
            .map(|text| part_of(text))
            .collect::<Result<Vec<_>, _>>()?;
        let patients: BTreeMap<&str, &str> = scans().collect();
        let (split, dropped) =
            Split::import(&files, &args.scan_column, &patients, args.drop_leaks)?;
        let kept = scans()
            .filter(|(scan, patient)| !dropped.contains(*scan) && split.part(patient).is_some());
        split.write(&args.out, kept)?;
        println!("{} scans left out to mend leaks", dropped.len());
        report(&split);
        return Ok(());
    } else if args.stratify {
        let earlier = args.keep.as_deref().map(Split::read).transpose()?;
        Split::stratified(&table, &key, earlier.as_ref())
    } else {
        Split::by_hash(table.patients(), &key)
    };
    split.write(&args.out, scans())?;
    report(&split);
    Ok(())
}

fn part_of(text: &str) -> anyhow::Result<(Option<Part>, &Path)> {
    match text.split_once('=') {
        Some((part, file)) => {
            let part: Part = part
                .parse()
                .ok()
                .with_context(|| format!("--import {text}: expected train, validation or test"))?;
            Ok((Some(part), Path::new(file)))
        }
        None => Ok((None, Path::new(text))),
    }
}

fn report(split: &Split) {
    for part in Part::ALL {
        println!("{part:<12} {:>8} patients", split.count(part));
    }
}
