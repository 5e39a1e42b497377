//! `backup` and `restore`: a consistent copy of the journal while it is in use, and of the blobs.

use std::path::{Path, PathBuf};

use anyhow::Context;
use coordinator::blobs::Blobs;
use coordinator::journal::Journal;
use coordinator::service::blobs_path;
use transport::{BlobStore, Bucket};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory that `init` made
    #[arg(long, env = "FMCT_COORDINATOR_DIR", default_value = ".")]
    dir: PathBuf,
    /// Copy models and updates as well, to this place, as `s3://bucket/prefix`; keys and region
    /// come from the environment's `AWS_…` (needs a program built with the feature `s3`)
    #[arg(long)]
    bucket: Option<String>,
    /// File to write
    out: PathBuf,
}

#[derive(clap::Args)]
pub(crate) struct RestoreArgs {
    /// Directory that the journal was put back into
    #[arg(long, env = "FMCT_COORDINATOR_DIR", default_value = ".")]
    dir: PathBuf,
    /// Where `backup` copied models and updates to
    #[arg(long)]
    bucket: String,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let journal = Journal::open_existing(&args.dir)?;
    // Whatever the copy of the journal refers to is there to be copied, and stays meanwhile.
    let path = blobs_path(&args.dir);
    let held = args
        .bucket
        .is_some()
        .then(|| Blobs::open_shared(path.clone())?.hold())
        .transpose();
    let _held = held.with_context(|| format!("failed to hold {}", path.display()))?;
    journal.backup(&args.out)?;
    println!("journal copied to {}", args.out.display());
    if let Some(address) = &args.bucket {
        let copied = with_bucket(&args.dir, address, async |store, bucket| {
            let digests = store.digests()?;
            for digest in &digests {
                bucket.put(&store.blob(*digest)?).await?;
            }
            Ok(digests.len())
        })?;
        println!("{copied} blobs are in {address}");
    }
    Ok(())
}

pub(crate) fn restore(args: RestoreArgs) -> anyhow::Result<()> {
    // Blobs without the journal that names them are in the wrong directory.
    drop(Journal::open_existing(&args.dir)?);
    let copied = with_bucket(&args.dir, &args.bucket, async |store, bucket| {
        let digests = bucket.digests().await?;
        for digest in &digests {
            bucket.fetch(*digest, store).await?;
        }
        Ok(digests.len())
    })?;
    println!("{copied} blobs are in {}", args.dir.display());
    Ok(())
}

fn with_bucket(
    dir: &Path,
    address: &str,
    copy: impl AsyncFnOnce(&BlobStore, &Bucket) -> anyhow::Result<usize>,
) -> anyhow::Result<usize> {
    let store = BlobStore::open(blobs_path(dir))?;
    let settings = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let bucket = Bucket::open(address, settings)?;
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    runtime.block_on(copy(&store, &bucket))
}
