//! `renew`: issue a member's next certificate by hand; a connected site is renewed by itself.

use certs::{Leaf, utc};
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
    let approval = args
        .directory
        .home()
        .renew(&args.name, passphrase.as_ref(), now()?)?;
    let leaf = Leaf::read(&approval.certificate)?;
    println!(
        "renewed      {} {}, until {}",
        leaf.role,
        leaf.id,
        utc(leaf.not_after)
    );
    Ok(())
}
