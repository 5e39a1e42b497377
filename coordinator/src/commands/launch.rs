//! `launch`: a plan becomes a run.

use std::path::PathBuf;

use anyhow::Context;
use coordinator::blobs::Blobs;
use coordinator::journal::Journal;
use coordinator::service::{Initial, blobs_path, launch};
use protocol::RunId;
use protocol::plan::Plan;

use super::directory::{Directory, now};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    directory: Directory,
    /// Plan file (TOML)
    plan: PathBuf,
    /// First checkpoint (safetensors, float32), as `fmct-site init` makes it
    #[arg(long)]
    initial: PathBuf,
    /// Name of the run; the plan's own name if absent
    #[arg(long)]
    run: Option<RunId>,
    /// Only check the plan and print its digest
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let text = std::fs::read(&args.plan)
        .with_context(|| format!("failed to read plan {}", args.plan.display()))?;
    let plan = Plan::parse(&text)?;
    if args.check {
        println!("{}", plan.digest());
        return Ok(());
    }
    let run = match args.run {
        Some(run) => run,
        None => plan.config().name.parse()?,
    };
    let home = args.directory.home();
    let dir = home.home().dir();
    let passphrase = args.directory.secret.read()?;
    let (identity, _) = home.home().open(passphrase.as_ref())?;
    let initial = Initial::open(&args.initial)?;
    let mut journal = Journal::open_shared(dir)?;
    let blobs = Blobs::open_shared(blobs_path(dir))?;
    let start = launch(
        &mut journal,
        &blobs,
        &identity,
        &run,
        &plan,
        &initial,
        now()?,
    )?;
    println!("run {run}");
    println!("plan {}", plan.digest());
    println!("first model {}", start.model);
    println!(
        "each site approves it: fmct-site approve-plan {}",
        plan.digest()
    );
    Ok(())
}
