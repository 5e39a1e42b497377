//! `fmct-coordinator`: founds a consortium, launches rounds, aggregates, proves what happened.

mod commands;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;
use transport::logging;

/// Founds a consortium, approves its sites, launches training rounds and proves what happened.
///
/// Research software: not for clinical use.
#[derive(Parser)]
#[command(name = "fmct-coordinator", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
