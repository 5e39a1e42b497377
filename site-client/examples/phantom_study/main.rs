//! The phantom study of docs/RESULTS.md: does pre-training help, how much, against what?
//!
//! ```text
//! cargo run --release -p site-client --example phantom_study -- run --out study
//! cargo run --release -p site-client --example phantom_study -- summary --out study
//! ```
//!
//! `run` does every job of the study that `study/` does not hold yet. Any number of processes may
//! run on one folder: each takes the next job that nobody holds, a job's outcome depends on its name
//! alone, and a process that is killed leaves nothing half done. `summary` prints the tables.
//! Selection is on the validation part alone; the test parts are scored once per trial.

mod cohorts;
mod jobs;
mod run;
mod summary;
mod trials;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// The phantom study.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Draws the phantoms of the study, with all cores, so that `run` need not.
    Prepare(run::Settings),
    /// Does what is missing.
    Run(run::Settings),
    /// Prints tables from what is there.
    Summary {
        /// Folder of the study.
        #[arg(long)]
        out: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    transport::logging::start();
    match Cli::parse().action {
        Action::Prepare(settings) => run::prepare(&settings),
        Action::Run(settings) => run::run(&settings),
        Action::Summary { out } => summary::print(&out),
    }
}
