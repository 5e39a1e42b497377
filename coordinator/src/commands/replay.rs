//! `replay`: every global model once more, from the staged updates.

use std::path::PathBuf;

use coordinator::service::{Replayed, replay};
use protocol::RunId;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory that `init` made
    #[arg(long, env = "FMCT_COORDINATOR_DIR", default_value = ".")]
    dir: PathBuf,
    /// The run
    run: RunId,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Replayed { rounds, collected } = replay(&args.dir, &args.run, |round, model| {
        println!("round {round}: {model}");
    })?;
    println!("{rounds} rounds, every model the same, bit for bit");
    if collected > 0 {
        println!(
            "{collected} rounds not computed: their updates were not kept (serve --keep-rounds)"
        );
    }
    Ok(())
}
