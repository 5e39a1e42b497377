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

/// Status of a command that stopped when asked to, with its work saved and not done (`EX_TEMPFAIL`
/// of sysexits: try again).
const STOPPED: u8 = 75;

fn main() -> ExitCode {
    let cli = Cli::parse();
    transport::logging::start();
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<commands::Stopped>() => {
            eprintln!("{error}");
            ExitCode::from(STOPPED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
