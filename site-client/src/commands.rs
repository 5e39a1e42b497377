//! The subcommands: each parses flags, calls the library, prints. One file each.

mod enroll;
mod metrics;

use clap::Subcommand;

/// What `fmct-site` can do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Join a consortium: make a key, ask for a certificate, take the answer.
    Enroll(enroll::Args),
    Metrics(metrics::Args),
}

impl Command {
    /// Runs the chosen subcommand.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Enroll(args) => enroll::run(args),
            Self::Metrics(args) => metrics::run(args),
        }
    }
}
