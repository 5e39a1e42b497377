//! `replay`: every global model once more, from the staged updates.

use std::path::PathBuf;

use coordinator::service::replay;
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
    let mut rounds = 0;
    replay(&args.dir, &args.run, |round, model| {
        println!("round {round}: {model}");
        rounds += 1;
    })?;
    println!("{rounds} rounds, every model the same, bit for bit");
    Ok(())
}
