//! `fmct-site phantom`: a cohort of simulated patients with known truth.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use core_model::phantom::{SITE_NAMES, Site, SiteProfile, builtin_profile};
use indicatif::ProgressBar;
use site_client::cohort::{FileFormat, PhantomCohort, PhantomPlan, RecordFormat};

/// Simulate a cohort: head CT, health records, and the truth apart.
///
/// The built-in sites are shaped after tables of the paper; no patient of its data is in them.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// langone, longisland, rsna, cq500, or a TOML file of one's own.
    #[arg(long)]
    site: String,
    /// Print the site's profile as TOML, to start one's own from, and stop.
    #[arg(long)]
    show_site: bool,
    /// How many patients.
    #[arg(long, default_value_t = 100)]
    patients: u64,
    /// Number of the first patient: cohorts of one seed with disjoint numbers share nobody.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// The seed: the same seed gives the same bytes.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Make every disease at least this common (0-0.5), for small cohorts.
    #[arg(long, value_name = "SHARE")]
    at_least: Option<f64>,
    /// How scans are stored.
    #[arg(long, default_value = "nifti")]
    format: FileFormat,
    /// A cube of N voxels a side at model size, instead of the scanner's slices.
    #[arg(long, value_name = "N")]
    grid: Option<usize>,
    /// Pixels a side of a slice.
    #[arg(long, default_value_t = 256)]
    matrix: usize,
    /// Forms of the health records.
    #[arg(long, value_delimiter = ',', default_value = "plain")]
    ehr: Vec<RecordFormat>,
    /// Store lesion masks too.
    #[arg(long)]
    masks: bool,
    /// Where to write the cohort.
    #[arg(long, value_name = "DIR", required_unless_present = "show_site")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let mut profile = profile(&args.site)?;
    if args.show_site {
        print!("{}", toml::to_string(&profile)?);
        return Ok(());
    }
    let out = args.out.as_deref().context("--out is needed")?;
    if let Some(floor) = args.at_least {
        anyhow::ensure!(
            (0.0..=0.5).contains(&floor),
            "--at-least {floor}: expected 0 to 0.5"
        );
        profile = profile.with_prevalence_floor(floor);
    }
    let plan = PhantomPlan {
        site: Site::new(profile)?,
        patients: args.patients,
        first: args.first,
        seed: args.seed,
        format: args.format,
        grid: args.grid,
        matrix: args.matrix,
        records: args.ehr,
        masks: args.masks,
    };
    let bar = ProgressBar::new(args.patients);
    let summary = PhantomCohort::write(&plan, out, |patients| bar.inc(patients))?;
    bar.finish_and_clear();
    println!(
        "{} patients, {} scans in {}",
        summary.patients,
        summary.scans,
        out.display()
    );
    println!("simulated: no patient is in it");
    Ok(())
}

fn profile(site: &str) -> anyhow::Result<SiteProfile> {
    if let Some(profile) = builtin_profile(site) {
        return Ok(profile);
    }
    let path = Path::new(site);
    anyhow::ensure!(
        path.is_file(),
        "--site {site}: neither a file nor one of {}",
        SITE_NAMES.join(", ")
    );
    let text = std::fs::read_to_string(path).with_context(|| format!("{site}: cannot be read"))?;
    toml::from_str(&text).with_context(|| format!("{site}: not a site profile"))
}
