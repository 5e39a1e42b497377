//! `stop`: a run ends before its last round.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use anyhow::ensure;
use coordinator::service::{Stop, stop};
use protocol::RunId;

use super::directory::now;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory that `init` made
    #[arg(long, env = "FMCT_COORDINATOR_DIR", default_value = ".")]
    dir: PathBuf,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// The run
    run: RunId,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Args { dir, yes, run } = args;
    ensure!(yes || confirmed(&run)?, "run {run}: not stopped");
    match stop(&dir, &run, now()?)? {
        Stop::Asked => println!("run {run}: the process that serves stops it within a second"),
        Stop::Over(result) => println!(
            "run {run} was over already; its result is round {}, model {}",
            result.round, result.model
        ),
        Stop::Stopped(result) => println!(
            "run {run} is stopped; its result is round {}, model {}",
            result.round, result.model
        ),
    }
    Ok(())
}

fn confirmed(run: &RunId) -> anyhow::Result<bool> {
    print!("End run {run} for good, without the updates of the round in work? [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
