//! The subcommands: each parses flags, calls the library, prints. One file each.

mod enroll;
mod metrics;
mod preprocess;

use clap::Subcommand;

/// What `fmct-site` can do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Join a consortium: make a key, ask for a certificate, take the answer.
    Enroll(enroll::Args),
    Metrics(metrics::Args),
    /// Turns NIfTI scans into model input: one file, or a cohort into its cache.
    Preprocess(preprocess::Args),
}

impl Command {
    /// Runs the chosen subcommand.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Enroll(args) => enroll::run(args),
            Self::Metrics(args) => metrics::run(args),
            Self::Preprocess(args) => preprocess::run(args),
        }
    }
}
