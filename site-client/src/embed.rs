//! Embeddings of preprocessed volumes: the tokens of every scan, and what it attends to.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use core_model::attention::attention_distance;
use core_model::state::{NamedTensor, StateDict};
use core_model::vit::{Vit, VitConfig};
use thiserror::Error;

use crate::weights::{self, WeightsError};

/// A volume that cannot be embedded.
#[derive(Debug, Error)]
pub enum EmbedError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] WeightsError),
    /// The file has no tensor `volume`.
    #[error("{}: missing key volume", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A shape the model cannot take.
    #[error("{}: key volume: expected [{channels}, R, R, R] or [B, {channels}, R, R, R] with R a \
             multiple of {patch}, found {found:?}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Channels of the model.
        channels: usize,
        /// Patch of the model.
        patch: usize,
        /// The shape given.
        found: Vec<usize>,
    },
    /// A value outside the range of windowed voxels.
    #[error("{}: key volume holds {found} at position {position}, expected values in [0, 1]", path.display())]
    Range {
        /// The file.
        path: PathBuf,
        /// The value.
        found: f32,
        /// Where it is, counted row by row.
        position: usize,
    },
}

/// Volumes ready for the model.
#[derive(Debug)]
pub struct Volumes {
    /// `[B, C, R, R, R]` row-major.
    values: Vec<f32>,
    shape: [usize; 5],
}

impl Volumes {
    /// Reads the tensor `volume` of a file: `[C, R, R, R]` or `[B, C, R, R, R]`, windowed to
    /// [0, 1].
    ///
    /// # Errors
    /// When the file cannot be read, the tensor is missing, of another shape, or out of range.
    pub fn read(path: &Path, config: &VitConfig) -> Result<Self, EmbedError> {
        let (mut tensors, _) = weights::read(path)?;
        let tensor = tensors
            .remove("volume")
            .ok_or_else(|| EmbedError::Missing {
                path: path.to_owned(),
            })?;
        let (channels, patch) = (config.channels, config.patch);
        let shape = match tensor.shape[..] {
            [c, r, s, t] => [1, c, r, s, t],
            [b, c, r, s, t] => [b, c, r, s, t],
            _ => [0; 5],
        };
        let [batch, c, r, s, t] = shape;
        let cubic = r == s && s == t && r > 0 && r.is_multiple_of(patch);
        if batch == 0 || c != channels || !cubic {
            let (path, found) = (path.to_owned(), tensor.shape);
            return Err(EmbedError::Shape {
                path,
                channels,
                patch,
                found,
            });
        }
        let outside = |value: &f32| !(0.0..=1.0).contains(value);
        if let Some(position) = tensor.values.iter().position(outside) {
            let (path, found) = (path.to_owned(), tensor.values[position]);
            return Err(EmbedError::Range {
                path,
                found,
                position,
            });
        }
        Ok(Self {
            values: tensor.values,
            shape,
        })
    }

    /// Number of volumes.
    pub fn count(&self) -> usize {
        self.shape[0]
    }
}

/// Embeds volumes one by one: `tokens` `[B, 1 + registers + N, dim]`, `cls` `[B, dim]` and, when
/// asked for, `attention_distance` `[B, N]` in patches.
pub fn embed(
    vit: &Vit,
    config: &VitConfig,
    volumes: &Volumes,
    with_attention: bool,
    device: &Device,
) -> StateDict {
    let [_, channels, r, s, t] = volumes.shape;
    let mut tokens = Vec::new();
    let mut cls = Vec::new();
    let mut distance = Vec::new();
    for volume in volumes.values.chunks_exact(channels * r * s * t) {
        let data = TensorData::new(volume.to_vec(), [1, channels, r, s, t]);
        let volume = Tensor::<5>::from_data(data, device);
        let output = if with_attention {
            let trace = vit.trace(volume);
            distance.extend(values(attention_distance(
                &trace.attention,
                config.prefix(),
            )));
            values(trace.tokens)
        } else {
            values(vit.forward(volume))
        };
        cls.extend_from_slice(&output[..config.dim]);
        tokens.extend(output);
    }
    let batch = volumes.count();
    let per_scan = tokens.len() / batch / config.dim;
    let mut embedded = StateDict::new();
    let mut put = |name: &str, shape: Vec<usize>, values: Vec<f32>| {
        embedded.insert(name.to_owned(), NamedTensor { shape, values })
    };
    put("tokens", vec![batch, per_scan, config.dim], tokens);
    put("cls", vec![batch, config.dim], cls);
    if with_attention {
        put(
            "attention_distance",
            vec![batch, distance.len() / batch],
            distance,
        );
    }
    embedded
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data()
        .try_to_vec()
        .expect("the model computes in float32")
}
