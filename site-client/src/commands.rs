//! The subcommands: each parses flags, calls the library, prints. One file each.

use clap::Subcommand;

/// What `fmct-site` can do.
#[derive(Subcommand)]
pub(crate) enum Command {}

impl Command {
    /// Runs the chosen subcommand.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {}
    }
}
