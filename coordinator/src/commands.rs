//! The subcommands: each parses flags, calls the library, prints. One file each.

mod approve;
mod directory;
mod init;
mod list;
mod renew;
mod revoke;
mod show;

use clap::Subcommand;

/// What `fmct-coordinator` can do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Let a site or an observer in: issue a certificate for its request.
    Approve(approve::Args),
    /// Found a consortium: root key, coordinator's key, consortium file.
    Init(init::Args),
    /// List the members with role, status and expiry.
    List(list::Args),
    /// Issue a member's next certificate by hand.
    Renew(renew::Args),
    /// Shut a member out, for good.
    Revoke(revoke::Args),
    /// Show what a request, a certificate, an approval or a consortium file says.
    Show(show::Args),
}

impl Command {
    /// Runs the chosen subcommand.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Approve(args) => approve::run(args),
            Self::Init(args) => init::run(args),
            Self::List(args) => list::run(args),
            Self::Renew(args) => renew::run(args),
            Self::Revoke(args) => revoke::run(args),
            Self::Show(args) => show::run(args),
        }
    }
}
