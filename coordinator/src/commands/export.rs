//! `export`: a model for others with its card, or the transcript that `verify` reads.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use certs::Home;
use coordinator::service::{Network, export_model, export_transcript, model_card};
use protocol::{Round, RunId, SiteId};

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
    /// A site that has agreed to be named on the model card; may be repeated
    #[arg(long, value_name = "SITE")]
    name: Vec<SiteId>,
    /// DINO: the student, from which training can go on, instead of the teacher
    #[arg(long)]
    student: bool,
    /// Write the transcript into this directory instead of a model
    #[arg(long, conflicts_with_all = ["round", "out"])]
    transcript: Option<PathBuf>,
    /// File to write (safetensors); its card is written beside it, as .card.md
    #[arg(long, required_unless_present = "transcript")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    if let Some(transcript) = args.transcript {
        export_transcript(&args.dir, &transcript)?;
        println!("transcript in {}", transcript.display());
    }
    if let Some(out) = args.out {
        let network = if args.student {
            Network::Student
        } else {
            Network::Evaluated
        };
        let round = args.round.map(Round);
        let checkpoint = export_model(&args.dir, &args.run, round, network, &out)?;
        println!("model {} of round {}", checkpoint.model, checkpoint.round);
        let trust = Home::new(&args.dir).trust()?;
        let (consortium, named) = (trust.consortium(), args.name.into_iter().collect());
        let card = model_card(&args.dir, consortium.id(), &args.run, round, &named)?;
        let path = out.with_extension("card.md");
        fs::write(&path, card).with_context(|| format!("{}: cannot be written", path.display()))?;
        println!("card {}", path.display());
    }
    Ok(())
}
