//! `show`: what a file says.

use std::path::PathBuf;

use anyhow::{Context, bail};
use certs::{Approval, Consortium, Fingerprint, Home, Leaf, Request, read_certificate, utc};

use super::directory::now;
use super::list;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A request, a certificate, an approval or a consortium file
    file: PathBuf,
    /// Directory whose root certificate a consortium file is held against
    #[arg(long, env = "FMCT_COORDINATOR_DIR", default_value = ".")]
    dir: PathBuf,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let bytes = std::fs::read(&args.file)
        .with_context(|| format!("{}: cannot be read", args.file.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    if text.starts_with(Consortium::MAGIC) {
        let trust = Home::new(&args.dir)
            .trust()
            .context("no root to check the file against")?;
        list::print(&Consortium::read(&bytes, &trust.root().key())?, now()?);
    } else if text.contains(Consortium::MAGIC) {
        let approval = Approval::read(&bytes)?;
        show_leaf(&Leaf::read(&approval.certificate)?);
        show_fingerprint("root", &approval.root.fingerprint());
        list::print(
            &Consortium::read(&approval.consortium, &approval.root.key())?,
            now()?,
        );
    } else if text.contains("BEGIN CERTIFICATE REQUEST") {
        let request = Request::read(&bytes)?;
        println!("request of   {}", request.id());
        show_fingerprint("key", &request.key().fingerprint());
    } else if text.contains("BEGIN CERTIFICATE") {
        show_leaf(&Leaf::read(&read_certificate(&args.file)?)?);
    } else {
        bail!(
            "{}: neither a request, a certificate, an approval nor a consortium file",
            args.file.display()
        );
    }
    Ok(())
}

fn show_leaf(leaf: &Leaf) {
    println!(
        "certificate  {} {} of {}",
        leaf.role, leaf.id, leaf.consortium
    );
    println!(
        "valid        {} to {}",
        utc(leaf.not_before),
        utc(leaf.not_after)
    );
    show_fingerprint("key", &leaf.key.fingerprint());
}

fn show_fingerprint(of: &str, fingerprint: &Fingerprint) {
    println!("{of:<12} {fingerprint}");
    println!("in words     {}", fingerprint.words());
}
