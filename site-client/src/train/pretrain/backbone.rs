//! A pre-trained backbone from a file, and the plan that fits it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use core_model::state::StateDict;

use crate::train::record::STATE;
use crate::train::{Architecture, Config, Plan, TrainError};
use crate::weights::{self, HEADS, Section};

/// Weights at the end of a pre-training run, in its folder.
pub(super) const BACKBONE: &str = "backbone.safetensors";

/// The backbone of a pre-training run's folder, or of a weight file in any supported layout.
///
/// # Errors
///
/// A file that is missing, broken, or holds no transformer.
pub fn backbone_of(path: &Path) -> Result<StateDict, TrainError> {
    read(path).map(|(_, tensors, _)| tensors)
}

/// The same backbone with the plan it is to be trained by: registers and query–key–value biases are
/// the file's, everything else must be the plan's.
///
/// # Errors
///
/// See [`backbone_of`]; also weights of another size, of other heads (where the file says how many
/// it has), or of a shape that is no transformer's. Every difference is named.
pub fn backbone_for(plan: &Plan, path: &Path) -> Result<(Plan, StateDict), TrainError> {
    let (path, tensors, notes) = read(path)?;
    let mut config = plan.config().clone();
    let model = &mut config.model;
    if model.architecture != Architecture::Vit {
        let reason = "model.architecture: resnet50-3d trains from scratch only";
        return Err(TrainError::config(reason));
    }
    let refused = |reason: String| TrainError::Checkpoint {
        path: path.clone(),
        reason,
    };
    let heads = noted_heads(&notes);
    let shape = weights::detect(&tensors, Some(heads.unwrap_or(model.heads))).map_err(refused)?;
    let differences: Vec<String> = [
        ("model.input", model.input, shape.image),
        ("model.channels", model.channels, shape.channels),
        ("model.patch", model.patch, shape.patch),
        ("model.dim", model.dim, shape.dim),
        ("model.depth", model.depth, shape.depth),
        ("model.heads", model.heads, shape.heads),
        ("model.mlp", model.mlp, shape.mlp),
    ]
    .into_iter()
    .filter(|(_, expected, found)| expected != found)
    .map(|(field, expected, found)| format!("{field}: expected {expected}, found {found}"))
    .collect();
    if !differences.is_empty() {
        return Err(refused(differences.join("; ")));
    }
    if (model.registers, model.qkv_bias) != (shape.registers, shape.qkv_bias) {
        tracing::info!(
            registers = shape.registers,
            qkv_bias = shape.qkv_bias,
            "taken from the weights, not from the configuration"
        );
        (model.registers, model.qkv_bias) = (shape.registers, shape.qkv_bias);
    }
    Ok((Plan::new(config)?, tensors))
}

/// The file, its backbone, and its notes.
fn read(path: &Path) -> Result<(PathBuf, StateDict, BTreeMap<String, String>), TrainError> {
    let file = if path.is_dir() {
        path.join(BACKBONE)
    } else {
        path.to_owned()
    };
    let (tensors, notes) = weights::read(&file).map_err(|error| TrainError::Checkpoint {
        path: file.clone(),
        reason: error.to_string(),
    })?;
    let backbone = weights::backbone(tensors, Section::default()).tensors;
    if backbone.is_empty() {
        let reason = "holds no tensor of a vision transformer".into();
        return Err(TrainError::Checkpoint { path: file, reason });
    }
    Ok((file, backbone, notes))
}

/// Attention heads, which no tensor's shape shows: noted with weights, configured in a checkpoint.
fn noted_heads(notes: &BTreeMap<String, String>) -> Option<usize> {
    #[derive(serde::Deserialize)]
    struct State {
        config: Config,
    }
    let noted = notes.get(HEADS).and_then(|heads| heads.parse().ok());
    let state = || -> Option<State> { serde_json::from_str(notes.get(STATE)?).ok() };
    noted.or_else(|| state().map(|state| state.config.model.heads))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use core_model::heads::ProbeKind;
    use core_model::init::Init;
    use core_model::state::state_dict;
    use core_model::vit::Vit;

    use super::*;
    use crate::train::Preset;
    use crate::train::downstream::{Finetuning, Start};

    fn plan(settings: &[&str]) -> Plan {
        let settings: Vec<String> = settings.iter().map(|text| (*text).to_owned()).collect();
        Plan::new(Config::resolve(Preset::Tiny, None, &settings).unwrap()).unwrap()
    }

    /// Weights of the model of a plan, with a note of the heads if there is one.
    fn file(dir: &Path, of: &Plan, heads: Option<&str>) -> PathBuf {
        let vit = Vit::new(of.vit(), &mut Init::seeded(1, &Device::flex()));
        let notes = heads.map(|heads| (HEADS.to_owned(), heads.to_owned()));
        let path = dir.join("weights.safetensors");
        weights::write(&path, &state_dict(&vit), &notes.into_iter().collect()).unwrap();
        path
    }

    #[test]
    fn registers_and_biases_are_those_of_the_weights() {
        let dir = tempfile::tempdir().unwrap();
        let ours = plan(&["model.registers=4", "model.qkv_bias=true"]);
        for settings in [
            ["model.registers=0", "model.qkv_bias=true"],
            ["model.registers=2", "model.qkv_bias=false"],
            ["model.registers=4", "model.qkv_bias=true"],
        ] {
            let theirs = plan(&settings);
            let path = file(dir.path(), &theirs, None);
            let (fitting, tensors) = backbone_for(&ours, &path).unwrap();
            assert_eq!(fitting.vit(), theirs.vit(), "{settings:?}");
            let start = Start::Backbone(&tensors);
            let (kind, device) = (ProbeKind::Linear, Device::flex());
            Finetuning::new(&fitting, kind, 1, start, (1, 8), &device).unwrap();
        }
    }

    #[test]
    fn weights_of_another_size_or_other_heads_are_refused_by_field() {
        let dir = tempfile::tempdir().unwrap();
        let ours = plan(&["model.dim=48", "model.heads=4", "model.depth=2"]);
        let error = |theirs: &[&str], heads: Option<&str>| {
            let path = file(dir.path(), &plan(theirs), heads);
            let error = backbone_for(&ours, &path).unwrap_err().to_string();
            assert!(error.contains("weights.safetensors"), "{error}");
            error
        };
        let same = ["model.dim=48", "model.heads=4", "model.depth=2"];
        let heads = error(&same, Some("8"));
        assert!(
            heads.contains("model.heads: expected 4, found 8"),
            "{heads}"
        );
        let size = error(
            &["model.dim=96", "model.heads=4", "model.depth=3"],
            Some("4"),
        );
        assert!(
            size.contains("model.dim: expected 48, found 96")
                && size.contains("model.depth: expected 2, found 3"),
            "{size}"
        );
        let channels = error(&[&same[..], &["model.channels=1"]].concat(), None);
        assert!(
            channels.contains("model.channels: expected 3, found 1"),
            "{channels}"
        );
    }
}
