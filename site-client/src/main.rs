//! `fmct-site`: the hospital's side of federated FM-CT.

mod commands;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;

/// Prepares head CT, trains and evaluates the shared model, and takes part in a consortium.
///
/// Research software: not for clinical use.
#[derive(Parser)]
#[command(name = "fmct-site", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    transport::logging::start();
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
