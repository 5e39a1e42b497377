//! The subcommands: each parses flags, calls the library, prints. One file each.

mod approve;
mod backup;
mod directory;
mod export;
mod init;
mod launch;
mod list;
mod matrix;
mod renew;
mod replay;
mod revoke;
mod serve;
mod show;
mod status;
mod stop;
mod token;
mod verify;

use clap::Subcommand;

/// What `fmct-coordinator` can do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Let a site or an observer in: issue a certificate for its request.
    Approve(approve::Args),
    /// Copy the journal while it is in use, and models and updates to a bucket.
    Backup(backup::Args),
    /// Write a model with its card, or the transcript of a run.
    Export(export::Args),
    /// Found a consortium: root key, coordinator's key, consortium file.
    Init(init::Args),
    /// Turn a plan into a run.
    Launch(launch::Args),
    /// List the members with role, status and expiry.
    List(list::Args),
    /// Show what sites reported of a run's model: trained at × tested at, and pooled areas.
    Matrix(matrix::Args),
    /// Issue a member's next certificate by hand.
    Renew(renew::Args),
    /// Compute every global model again from the staged updates that are kept, and compare.
    Replay(replay::Args),
    /// Copy models and updates back from a bucket.
    Restore(backup::RestoreArgs),
    /// Shut a member out, for good.
    Revoke(revoke::Args),
    /// Serve the launched runs to the sites.
    Serve(serve::Args),
    /// Show what a request, a certificate, an approval or a consortium file says.
    Show(show::Args),
    /// Show who is there, doing what, and who is waited for.
    Status(status::Args),
    /// End a run before its last round, for good.
    Stop(stop::Args),
    /// Check a transcript's chain, signatures and receipts.
    Verify(verify::Args),
}

impl Command {
    /// Runs the chosen subcommand.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Approve(args) => approve::run(args),
            Self::Backup(args) => backup::run(args),
            Self::Export(args) => export::run(args),
            Self::Init(args) => init::run(args),
            Self::Launch(args) => launch::run(args),
            Self::List(args) => list::run(args),
            Self::Matrix(args) => matrix::run(args),
            Self::Renew(args) => renew::run(args),
            Self::Replay(args) => replay::run(args),
            Self::Restore(args) => backup::restore(args),
            Self::Revoke(args) => revoke::run(args),
            Self::Serve(args) => serve::run(args),
            Self::Show(args) => show::run(args),
            Self::Status(args) => status::run(args),
            Self::Stop(args) => stop::run(args),
            Self::Verify(args) => verify::run(args),
        }
    }
}
