//! `verify`: the journal's chain, signatures and receipts, offline.

use std::path::PathBuf;

use coordinator::service::{trust, verify};
use protocol::RunId;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Transcript that `export --transcript` made, or the coordinator's own directory
    transcript: PathBuf,
    /// The run
    run: RunId,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let trust = trust(&args.transcript)?;
    let verified = verify(&args.transcript, &trust, &args.run)?;
    println!("root {}", trust.root().fingerprint());
    println!("{} events in one chain", verified.events);
    println!("{} manifests signed by their sites", verified.manifests);
    println!("{} receipts signed by the coordinator", verified.receipts);
    println!(
        "{} round records signed by the coordinator",
        verified.records
    );
    if let Some(head) = verified.head {
        println!("head {head}");
    }
    Ok(())
}
