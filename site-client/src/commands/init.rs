//! `fmct-site init`: the first checkpoint of a run.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;
use site_client::weights::{self, HEADS, ModelSpec, Objective};

/// Makes new weights from a seed; the same seed gives the same file on every machine.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// vit_base, vit_small, vit_tiny, or a TOML file with a table `vit` and, optionally,
    /// `dino_head` and `mae`.
    #[arg(long, value_name = "NAME|FILE.toml")]
    model: String,
    /// What the run trains.
    #[arg(long, value_enum, default_value = "backbone")]
    objective: Goal,
    /// Seed of the weights.
    #[arg(long)]
    seed: u64,
    /// Where the checkpoint is written.
    #[arg(long, value_name = "CKPT.safetensors")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Goal {
    /// Fine-tuning or probing: the transformer alone.
    Backbone,
    /// Self-distillation: transformer and projection head.
    Dino,
    /// Masked autoencoding: encoder and decoder.
    Mae,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let spec = match ModelSpec::named(&args.model) {
        Some(spec) => spec,
        None => {
            let text = fs::read_to_string(&args.model).with_context(|| {
                let model = &args.model;
                format!("model {model:?}: expected vit_base, vit_small, vit_tiny or a TOML file")
            })?;
            toml::from_str(&text).with_context(|| format!("{}: invalid model", args.model))?
        }
    };
    let objective = match args.objective {
        Goal::Backbone => Objective::Backbone,
        Goal::Dino => Objective::Dino,
        Goal::Mae => Objective::Mae,
    };
    let state = weights::fresh(&spec, objective, args.seed)?;
    let notes = BTreeMap::from([(HEADS.to_owned(), spec.vit.heads.to_string())]);
    weights::write(&args.out, &state, &notes)?;
    let values: usize = state.values().map(|tensor| tensor.values.len()).sum();
    println!(
        "{}: {} tensors, {values} values",
        args.out.display(),
        state.len()
    );
    Ok(())
}
