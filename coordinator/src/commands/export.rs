//! `export`: a model for others, or the transcript that `verify` reads.

use std::path::PathBuf;

use coordinator::service::{export_model, export_transcript};
use protocol::{Round, RunId};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory that `init` made
    #[arg(long, env = "FMCT_COORDINATOR_DIR", default_value = ".")]
    dir: PathBuf,
    /// The run
    run: RunId,
    /// Round whose model is written; the run's result if absent
    #[arg(long)]
    round: Option<u32>,
    /// Write the transcript into this directory instead of a model
    #[arg(long, conflicts_with_all = ["round", "out"])]
    transcript: Option<PathBuf>,
    /// File to write (safetensors)
    #[arg(long, required_unless_present = "transcript")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    if let Some(transcript) = args.transcript {
        export_transcript(&args.dir, &transcript)?;
        println!("transcript in {}", transcript.display());
    }
    if let Some(out) = args.out {
        let checkpoint = export_model(&args.dir, &args.run, args.round.map(Round), &out)?;
        println!("model {} of round {}", checkpoint.model, checkpoint.round);
    }
    Ok(())
}
