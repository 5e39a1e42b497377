//! The subcommands: each parses flags, calls the library, prints. One file each.

mod embed;
mod enroll;
mod init;
mod metrics;
mod preprocess;

use clap::Subcommand;

/// What `fmct-site` can do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Embed preprocessed volumes with any released or own weights.
    Embed(embed::Args),
    /// Join a consortium: make a key, ask for a certificate, take the answer.
    Enroll(enroll::Args),
    /// Make the first checkpoint of a run.
    Init(init::Args),
    Metrics(metrics::Args),
    /// Turns NIfTI scans into model input: one file, or a cohort into its cache.
    Preprocess(preprocess::Args),
}

impl Command {
    /// Runs the chosen subcommand.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Embed(args) => embed::run(args),
            Self::Enroll(args) => enroll::run(args),
            Self::Init(args) => init::run(args),
            Self::Metrics(args) => metrics::run(args),
            Self::Preprocess(args) => preprocess::run(args),
        }
    }
}
