//! `backup`: a consistent copy of the journal while it is in use.

use std::path::PathBuf;

use coordinator::journal::Journal;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory that `init` made
    #[arg(long, env = "FMCT_COORDINATOR_DIR", default_value = ".")]
    dir: PathBuf,
    /// File to write
    out: PathBuf,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    Journal::open_shared(&args.dir)?.backup(&args.out)?;
    println!("journal copied to {}", args.out.display());
    Ok(())
}
