//! Model weights on disk: `.safetensors` and PyTorch's `.pt`/`.pth`, in the layouts the released
//! code writes. Reading executes no code.

mod detect;
mod error;
mod file;
mod fresh;
mod layout;

pub use detect::detect;
pub use error::WeightsError;
pub use file::{read, write};
pub use fresh::{ModelSpec, Objective, fresh};
pub use layout::{Backbone, Section, backbone};

use std::path::Path;

use burn::tensor::Device;
use core_model::init::Init;
use core_model::state::{self, Mismatch};
use core_model::vit::{Vit, VitConfig};

/// How [`load_vit`] reads a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadOptions {
    /// Which network of a training checkpoint.
    pub section: Section,
    /// Attention heads, which no tensor's shape shows; otherwise the file's own note, or one for
    /// each 64 channels.
    pub heads: Option<usize>,
    /// Whether tensors that do not fit are reported instead of refused.
    pub allow_partial: bool,
}

/// A transformer from a file.
#[derive(Debug)]
pub struct Loaded {
    /// The model.
    pub vit: Vit,
    /// Its shape, read from the tensors.
    pub config: VitConfig,
    /// Tensors of the file that belong to no transformer: heads, decoders.
    pub ignored: Vec<String>,
    /// What did not fit; empty unless partial loading was allowed.
    pub mismatch: Mismatch,
}

/// Reads a transformer of any supported layout; its shape is detected from the tensors.
///
/// # Errors
/// When the file cannot be read, holds no transformer, a value is not finite, or, unless partial
/// loading is allowed, a tensor is missing, unexpected or of another shape; all are listed.
pub fn load_vit(
    path: &Path,
    options: LoadOptions,
    device: &Device,
) -> Result<Loaded, WeightsError> {
    let (tensors, metadata) = read(path)?;
    let Backbone { tensors, ignored } = backbone(tensors, options.section);
    let noted = metadata.get(HEADS).and_then(|heads| heads.parse().ok());
    let config =
        detect(&tensors, options.heads.or(noted)).map_err(|reason| WeightsError::Undetected {
            path: path.to_owned(),
            reason,
        })?;
    // Tensors that a partial file lacks start as in a new model.
    let mut init = if options.allow_partial {
        Init::seeded(0, device)
    } else {
        Init::zeros(device)
    };
    let (vit, mismatch) = state::load_partial(Vit::new(&config, &mut init), &tensors);
    if !mismatch.is_empty() && !options.allow_partial {
        return Err(WeightsError::Mismatch {
            path: path.to_owned(),
            mismatch,
        });
    }
    Ok(Loaded {
        vit,
        config,
        ignored,
        mismatch,
    })
}

/// The note in a file's metadata that tells the number of attention heads.
pub const HEADS: &str = "heads";

#[cfg(test)]
mod tests;
