//! `fmct-site embed`: embeddings of preprocessed volumes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ValueEnum;
use site_client::device::DeviceChoice;
use site_client::embed::{Volumes, embed};
use site_client::weights::{self, LoadOptions, Section};

/// Embeds preprocessed volumes: tokens and class tokens, and attention distances when asked for.
///
/// Research software: not for clinical use.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Weights: .safetensors, .pt or .pth in any of the released layouts.
    #[arg(long, value_name = "W")]
    weights: PathBuf,
    /// Tensor `volume` `[3,R,R,R]` or `[B,3,R,R,R]`, windowed to [0, 1].
    #[arg(long, value_name = "V.safetensors")]
    input: PathBuf,
    /// Attention heads; one for each 64 channels when neither given nor noted in the file.
    #[arg(long, value_name = "H")]
    heads: Option<usize>,
    /// Where the tensors `tokens` and `cls` are written.
    #[arg(long, value_name = "E.safetensors")]
    out: PathBuf,
    /// Which network of a training checkpoint.
    #[arg(long, value_enum, default_value = "evaluated")]
    network: Network,
    /// Write `attention_distance` `[B,N]` too, in patches.
    #[arg(long)]
    attention: bool,
    /// Use what fits of the weights and print what does not, instead of refusing.
    #[arg(long)]
    allow_partial: bool,
    /// cpu, cuda or cuda:NUMBER.
    #[arg(long, default_value_t)]
    device: DeviceChoice,
}

#[derive(Clone, Copy, ValueEnum)]
enum Network {
    /// The one its makers evaluate.
    Evaluated,
    /// The trained network.
    Student,
    /// Its moving average.
    Teacher,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let device = args.device.open()?;
    let section = match args.network {
        Network::Evaluated => Section::Evaluated,
        Network::Student => Section::Student,
        Network::Teacher => Section::Teacher,
    };
    let options = LoadOptions {
        section,
        heads: args.heads,
        allow_partial: args.allow_partial,
    };
    let loaded = weights::load_vit(&args.weights, options, &device)?;
    for key in &loaded.ignored {
        println!("ignored: key {key} belongs to no transformer");
    }
    if !loaded.mismatch.is_empty() {
        println!("partial: {}", loaded.mismatch);
    }
    let volumes = Volumes::read(&args.input, &loaded.config)?;
    let embedded = embed(
        &loaded.vit,
        &loaded.config,
        &volumes,
        args.attention,
        &device,
    );
    weights::write(&args.out, &embedded, &BTreeMap::new())?;
    for (name, tensor) in &embedded {
        println!("{name}: {:?}", tensor.shape);
    }
    Ok(())
}
