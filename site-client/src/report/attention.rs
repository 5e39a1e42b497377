//! What the model looks at, laid over the scan (Fig. 4).
//!
//! The map is the attention distance of each patch, averaged over layers and heads (paper,
//! equation 1), interpolated between patch centers. It is drawn over axial slices and written as
//! NIfTI on the scan's own voxels.

mod map;
mod picture;

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use core_model::attention::{attention_distance, cls_attention};
use core_model::ct::{Preprocessing, Preset, Volume};
use core_model::vit::{Vit, VitConfig};

use super::ReportError;
use crate::ingest::nifti::{self, Voxels};
use crate::weights::{self, LoadOptions};
use map::GridMap;
use picture::Column;

/// A model to look through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedWeights {
    /// Name in the picture.
    pub name: String,
    /// Weights in any supported layout.
    pub path: PathBuf,
}

/// How maps are made.
#[derive(Debug, Clone, Copy)]
pub struct AttentionOptions {
    /// Geometry of the model input; `repo` for released weights.
    pub preprocessing: Preprocessing,
    /// Attention heads, where the file does not note them.
    pub heads: Option<usize>,
    /// Slices in the picture.
    pub slices: usize,
}

/// Writes, for the scan and each model, `attention.png` (slices and overlays),
/// `cls-attention-N.png` (last layer, one tile a head) and `attention-distance-N.nii.gz`; returns
/// the files.
///
/// # Errors
/// A scan or weights that cannot be read, or a folder that cannot be written.
pub fn attention(
    scan: &Path,
    models: &[NamedWeights],
    options: &AttentionOptions,
    device: &Device,
    out: &Path,
) -> Result<Vec<PathBuf>, ReportError> {
    let stored = nifti::read(scan, options.preprocessing.max_voxels)?;
    let ras = stored
        .to_ras()
        .map_err(|source| crate::ingest::IngestError::nifti(scan, source))?;
    let at_1mm = options.preprocessing.at_1mm(ras)?;
    let cropped = options.preprocessing.cropped(&at_1mm)?;
    fs::create_dir_all(out).map_err(|source| ReportError::Io {
        path: out.to_owned(),
        source,
    })?;
    let mut written = Vec::new();
    let mut columns = Vec::new();
    let mut unit = Unit::Patches;
    for (place, model) in models.iter().enumerate() {
        let load = LoadOptions {
            heads: options.heads,
            ..LoadOptions::default()
        };
        let loaded = weights::load_vit(&model.path, load, device)?;
        let preprocessing = Preprocessing {
            size: loaded.config.image,
            ..options.preprocessing
        };
        let looked = look(
            &loaded.vit,
            &loaded.config,
            &preprocessing,
            &cropped,
            device,
        );
        unit = looked.unit;
        let number = place + 1;
        let path = out.join(format!("attention-distance-{number}.nii.gz"));
        let header = &stored.header;
        let values = looked.distance.on(header.shape, &header.affine);
        nifti::write(&path, header.shape, &Voxels::F32(values), &header.affine)?;
        written.push(path);
        let path = out.join(format!("cls-attention-{number}.png"));
        let title = format!("{}: attention of the class token, last layer", model.name);
        picture::heads(&path, &title, &cropped, &looked.cls_heads)?;
        written.push(path);
        columns.push(Column {
            name: model.name.clone(),
            map: looked.distance,
        });
    }
    let path = out.join("attention.png");
    picture::overlays(&path, &cropped, &columns, options.slices, unit.name())?;
    written.push(path);
    Ok(written)
}

/// Unit of attention distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Millimeters,
    /// The `repo` geometry stretches the head's box to a cube, so a patch has no one length.
    Patches,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Millimeters => "mm",
            Self::Patches => "patches",
        }
    }
}

/// Maps of one model over the volume it saw.
struct Looked {
    distance: GridMap,
    cls_heads: Vec<GridMap>,
    unit: Unit,
}

fn look(
    vit: &Vit,
    config: &VitConfig,
    preprocessing: &Preprocessing,
    cropped: &Volume,
    device: &Device,
) -> Looked {
    let input = preprocessing.model_input(cropped);
    let size = input.size;
    let channels = input.values.len() / size.pow(3);
    let data = TensorData::new(input.values, [1, channels, size, size, size]);
    let trace = vit.trace(Tensor::from_data(data, device));
    let (unit, scale) = match preprocessing.preset {
        Preset::Paper => {
            let patch_mm =
                cropped.shape()[0] as f32 * cropped.spacing()[0] as f32 / config.grid() as f32;
            (Unit::Millimeters, patch_mm)
        }
        Preset::Repo => (Unit::Patches, 1.0),
    };
    let map = |values: &[f32], scale: f32| {
        GridMap::new(
            config.grid(),
            values.iter().map(|value| value * scale).collect(),
            cropped,
        )
    };
    let distance = values(attention_distance(&trace.attention, config.prefix()));
    let heads = trace
        .attention
        .last()
        .map(|last| values(cls_attention(last.clone(), config.prefix())));
    Looked {
        distance: map(&distance, scale),
        cls_heads: heads
            .unwrap_or_default()
            .chunks_exact(config.patches())
            .map(|head| map(head, 1.0))
            .collect(),
        unit,
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data()
        .try_to_vec()
        .expect("the model computes in float32")
}
