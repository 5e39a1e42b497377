//! `revoke`: shut a member out.

use protocol::SiteId;

use super::directory::{Directory, now};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name of the member
    name: SiteId,
    #[command(flatten)]
    directory: Directory,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let passphrase = args.directory.secret.read()?;
    let version = args
        .directory
        .home()
        .revoke(&args.name, passphrase.as_ref(), now()?)?;
    println!(
        "revoked      {}, in consortium file version {version}",
        args.name
    );
    println!("A running coordinator cuts it off within one heartbeat.");
    Ok(())
}
