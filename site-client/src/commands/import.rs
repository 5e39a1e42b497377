use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::ensure;
use core_model::ct::Preprocessing;
use indicatif::ProgressBar;
use site_client::ingest::dicom::Filter;
use site_client::ingest::import::{Import, Progress, dicom_tree, nifti_tree};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A DICOM tree (a PACS export), or NIfTI files with --nifti.
    dir: PathBuf,
    /// The cohort's folder: nifti/, scans.csv, rejected.csv.
    #[arg(long)]
    out: PathBuf,
    /// `paper`, `none`, or a TOML file of rules.
    #[arg(long, default_value = "paper")]
    filter: String,
    /// Take NIfTI files (dcm2niix output, RSNA, CQ500) instead of DICOM; tags are not filtered.
    #[arg(long)]
    nifti: bool,
    /// With --nifti: a top folder is a patient (CQ500); otherwise each file is one.
    #[arg(long, requires = "nifti")]
    patient_folders: bool,
    /// Accept series with missing slices, filling the gaps.
    #[arg(long)]
    allow_gaps: bool,
    /// Write mrn.csv (mode 0600), which links pseudonyms to medical record numbers for the labels.
    #[arg(long)]
    keep_mrn: bool,
    /// Refuse volumes with more voxels than this.
    #[arg(long, default_value_t = Preprocessing::MAX_VOXELS)]
    max_voxels: usize,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    ensure!(args.dir.is_dir(), "{}: not a folder", args.dir.display());
    let filter = match args.filter.as_str() {
        "paper" => Filter::paper(),
        "none" => Filter::none(),
        path => Filter::from_file(path.as_ref())?,
    };
    let Args {
        allow_gaps,
        max_voxels,
        keep_mrn,
        ..
    } = args;
    let import = Import {
        filter,
        allow_gaps,
        max_voxels,
        keep_mrn,
    };
    let progress = ProgressBar::no_length();
    let report = |step| match step {
        Progress::File => progress.inc(1),
        Progress::Series(count) => {
            progress.set_length(count as u64);
            progress.set_position(0);
        }
        Progress::Finished => progress.inc(1),
    };
    let summary = if args.nifti {
        nifti_tree(&args.dir, &args.out, &import, args.patient_folders, report)?
    } else {
        dicom_tree(&args.dir, &args.out, &import, report)?
    };
    progress.finish_and_clear();
    println!(
        "{} scans accepted, {} in the cohort",
        summary.accepted,
        summary.scans.len()
    );
    let mut reasons: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for rejected in &summary.rejected {
        let (rows, files) = reasons.entry(rejected.reason).or_default();
        *rows += 1;
        *files += rejected.files;
    }
    for (reason, (rows, files)) in reasons {
        println!("  refused {rows} times ({files} files): {reason}");
    }
    Ok(())
}
