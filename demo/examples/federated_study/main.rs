//! The federated study of docs/RESULTS.md: pooled against federated against single-site against
//! scratch. All that pre-train take as many steps on as many scans.
//!
//! ```text
//! cargo run --release -p fmct-demo --example federated_study -- run --out study
//! cargo run --release -p fmct-demo --example federated_study -- summary --out study
//! ```
//!
//! `run` computes every arm of every seed that `study/` does not hold yet, in one process and
//! without a network; `--shard i/n` computes every n-th of them, so that n processes share the work.
//! `summary` prints the tables. Each seed has patients, weights and draws of its own, so seeds are
//! independent repeats; whatever is chosen is chosen on validation patients. External hospitals give
//! no labels to training; their unlabelled scans are in the pools of the pooled and federated arms.

mod arms;
mod judge;
mod patients;
mod record;
mod summary;
mod work;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// The federated study.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Computes what is missing.
    Run(work::Settings),
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
        Action::Run(settings) => work::run(&settings),
        Action::Summary { out } => summary::print(&out),
    }
}
