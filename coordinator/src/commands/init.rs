//! `init`: found a consortium.

use std::path::PathBuf;

use anyhow::Context;
use certs::AuthorityHome;
use protocol::{ConsortiumId, SiteId};

use super::directory::{Secret, now};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name of the consortium: lower-case letters, digits and hyphens
    #[arg(long)]
    consortium: ConsortiumId,
    /// Name of the coordinator in logs and certificates
    #[arg(long, default_value = "coordinator")]
    name: SiteId,
    /// Directory to keep keys, certificates and the consortium file in
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    secret: Secret,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let passphrase = args.secret.read()?;
    let authority = AuthorityHome::new(&args.out)
        .found(args.consortium, &args.name, passphrase.as_ref(), now()?)
        .with_context(|| format!("{}: no consortium founded", args.out.display()))?;
    let fingerprint = authority.root().fingerprint();
    println!(
        "consortium   {}, in {}",
        authority.consortium().id(),
        args.out.display()
    );
    println!("root         {fingerprint}");
    println!("in words     {}", fingerprint.words());
    println!();
    println!("Give every site this fingerprint by another way than the network (by telephone, in");
    println!("words). A site enrolls with it: fmct-site enroll --root-fingerprint \"...\"");
    println!("Back up root-key.pem where only you can reach it: it cannot be made again.");
    Ok(())
}
