//! `fmct-site embed-cohort`: what the report shows of a cohort and of a model's view of it.

use std::path::PathBuf;

use anyhow::Context;
use core_model::heads::ProbeKind;
use site_client::evaluate::Part;
use site_client::report::{write_cohort, write_embeddings};
use site_client::train::downstream::FeatureTable;

use super::training::{ConfigArgs, DataArgs, ExternalArgs, device, start};

/// Writes the class tokens of a cohort's test scans, and who is in the cohort, for the report's
/// projection and tables.
///
/// Research software: not for clinical use.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A pre-training run's folder, a weight file, or `scratch` for random features.
    #[arg(long, value_name = "CKPT|scratch")]
    from: String,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    external: ExternalArgs,
    /// Most scans to embed, evenly spread over the test part.
    #[arg(long, default_value_t = 1000)]
    scans: usize,
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let (plan, backbone) = start(args.config.plan(&[])?, &args.from)?;
    let device = device(&plan)?;
    // Nothing here is trained.
    let set = args.data.open(&plan)?.readable(&[])?;
    let external = args.external.open(&plan, &set, &args.data)?;
    let test = set.part(Part::Test);
    let count = test.len().min(args.scans);
    let scans: Vec<usize> = (0..count)
        .map(|place| test[place * test.len() / count])
        .collect();
    let kind = ProbeKind::Linear;
    let table = FeatureTable::compute(&plan, backbone.as_ref(), kind, &set, &scans, &device)?;
    let sets: Vec<_> = std::iter::once(&set).chain(&external).collect();
    write_cohort(&args.out, &sets)?;
    let values = table.class_tokens(&scans);
    write_embeddings(&args.out, &set, &scans, table.dim(), &values)?;
    let config = args.out.join("config.toml");
    std::fs::write(&config, plan.config().to_toml()?)
        .with_context(|| format!("cannot write {}", config.display()))?;
    let all: usize = sets.iter().map(|set| set.rows().len()).sum();
    println!(
        "{all} scans described, {count} embedded: {}",
        args.out.display()
    );
    Ok(())
}
