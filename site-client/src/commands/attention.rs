//! `fmct-site attention`: what models look at, over one scan.

use std::path::PathBuf;

use core_model::ct::{Preprocessing, Preset};
use site_client::device::DeviceChoice;
use site_client::report::{AttentionOptions, NamedWeights, attention};

/// Draws the attention distance of each model over the scan and writes it as NIfTI on the scan's
/// voxels.
///
/// Research software: not for clinical use.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The scan, .nii or .nii.gz.
    scan: PathBuf,
    /// Weights, or NAME=WEIGHTS; repeat for the pre-trained and each fine-tuned model.
    #[arg(long, required = true, value_name = "[NAME=]W")]
    weights: Vec<String>,
    /// Geometry of the model input: paper, or repo for released weights.
    #[arg(long, default_value_t = Preset::Paper)]
    preset: Preset,
    /// Attention heads, where the weights do not note them.
    #[arg(long, value_name = "H")]
    heads: Option<usize>,
    /// Slices in the picture.
    #[arg(long, default_value_t = 6)]
    slices: usize,
    /// cpu, cuda or cuda:NUMBER.
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// Folder to write to.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    anyhow::ensure!(args.slices > 0, "--slices 0, expected at least 1");
    let models: Vec<NamedWeights> = args.weights.iter().map(|text| named(text)).collect();
    let options = AttentionOptions {
        preprocessing: Preprocessing::new(args.preset),
        heads: args.heads,
        slices: args.slices,
    };
    let device = args.device.open()?;
    for path in attention(&args.scan, &models, &options, &device, &args.out)? {
        println!("{}", path.display());
    }
    Ok(())
}

/// `NAME=WEIGHTS`, or the file's own name.
fn named(text: &str) -> NamedWeights {
    if let Some((name, path)) = text.split_once('=')
        && !name.contains(std::path::MAIN_SEPARATOR)
    {
        return NamedWeights {
            name: name.to_owned(),
            path: path.into(),
        };
    }
    let path = PathBuf::from(text);
    let name = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    NamedWeights { name, path }
}
