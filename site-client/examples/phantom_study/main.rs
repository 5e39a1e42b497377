//! The phantom study of docs/RESULTS.md: does pre-training help, how much, against what?
//!
//! ```text
//! cargo run --release -p site-client --example phantom_study -- run --out study
//! cargo run --release -p site-client --example phantom_study -- summary --out study
//! ```
//!
//! `run` trains every arm of the study that `study/` does not hold yet and writes one predictions
//! table per trial; it can be stopped and started again. `summary` prints the tables. Selection is
//! on the validation part alone; the test parts are scored once per trial.

mod arms;
mod summary;

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
    /// Trains what is missing.
    Run(arms::Settings),
    /// Prints tables from what is there.
    Summary {
        /// Folder of the study.
        #[arg(long)]
        out: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    site_client::logging::start();
    match Cli::parse().action {
        Action::Run(settings) => arms::run(&settings),
        Action::Summary { out } => summary::print(&out),
    }
}
