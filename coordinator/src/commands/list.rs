//! `list`: the members.

use std::path::PathBuf;

use certs::{Consortium, Home, Status, utc};
use protocol::Timestamp;

use super::directory::now;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory that `init` made
    #[arg(long, env = "FMCT_COORDINATOR_DIR", default_value = ".")]
    dir: PathBuf,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let trust = Home::new(args.dir).trust()?;
    print(&trust.consortium(), now()?);
    Ok(())
}

/// Prints a consortium file as a table.
pub(crate) fn print(consortium: &Consortium, now: Timestamp) {
    println!(
        "consortium {}, version {}, {}",
        consortium.id(),
        consortium.version(),
        utc(consortium.issued())
    );
    println!(
        "{:<20} {:<12} {:<8} {:<20} key",
        "name", "role", "status", "expires"
    );
    for member in consortium.members() {
        let status = match member.status {
            Status::Active if member.expires < now => "expired".to_owned(),
            status => status.to_string(),
        };
        println!(
            "{:<20} {:<12} {status:<8} {:<20} {}",
            member.id,
            member.role,
            utc(member.expires),
            member.key.fingerprint()
        );
    }
}
