//! `approve`: let a site or an observer in.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use certs::Request;
use protocol::Role;

use super::directory::{Directory, now};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Request that `fmct-site enroll` wrote
    request: PathBuf,
    /// Let it watch only, not contribute
    #[arg(long)]
    observer: bool,
    /// Do not ask: its fingerprint words were compared before
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    directory: Directory,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let pem = std::fs::read(&args.request)
        .with_context(|| format!("{}: cannot be read", args.request.display()))?;
    let request = Request::read(&pem)?;
    let role = if args.observer {
        Role::Observer
    } else {
        Role::Site
    };
    let fingerprint = request.key().fingerprint();
    println!("{role:<12} {}", request.id());
    println!("key          {fingerprint}");
    println!("in words     {}", fingerprint.words());
    ensure!(
        args.yes || confirmed()?,
        "request of {}: not approved",
        request.id()
    );

    let passphrase = args.directory.secret.read()?;
    let home = args.directory.home();
    let path = home.approve(&request, role, passphrase.as_ref(), now()?)?;
    println!("approved     send {} to {}", path.display(), request.id());
    Ok(())
}

fn confirmed() -> anyhow::Result<bool> {
    print!("Does the site read out the same words? [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
