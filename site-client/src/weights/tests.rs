use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::tensor::Tensor;
use core_model::ssl::dino::DinoHeadConfig;
use core_model::state::{NamedTensor, StateDict, state_dict};
use core_model::vit::VitShape;
use tempfile::TempDir;

use super::*;
use crate::device::DeviceChoice;

fn small() -> ModelSpec {
    let shape = VitShape {
        image: 12,
        patch: 6,
        channels: 3,
        dim: 24,
        depth: 2,
        heads: 2,
        mlp: 48,
        qkv_bias: true,
        registers: 2,
    };
    let vit = VitConfig::new(shape).unwrap();
    ModelSpec {
        vit,
        ..ModelSpec::named("vit_tiny").unwrap()
    }
}

fn weights() -> StateDict {
    fresh(&small(), Objective::Backbone, 5).unwrap()
}

/// Writes tensors to a file in a folder that lives as long as the first of the pair.
fn file(tensors: &StateDict) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let notes = BTreeMap::from([(HEADS.to_owned(), "2".to_owned())]);
    write(&path, tensors, &notes).unwrap();
    (folder, path)
}

fn open(path: &Path, options: LoadOptions) -> Result<Loaded, WeightsError> {
    load_vit(path, options, &DeviceChoice::Cpu.open().unwrap())
}

fn refusal(tensors: &StateDict) -> String {
    let (_folder, path) = file(tensors);
    open(&path, LoadOptions::default()).unwrap_err().to_string()
}

#[test]
fn export_and_import_are_bit_exact_and_detect_the_architecture() {
    let weights = weights();
    let (_folder, path) = file(&weights);
    let loaded = open(&path, LoadOptions::default()).unwrap();
    assert_eq!(loaded.config, small().vit);
    assert_eq!(state_dict(&loaded.vit), weights);
    assert!(loaded.ignored.is_empty());
}

#[test]
fn every_published_prefix_and_section_is_understood() {
    let (student, teacher) = (weights(), fresh(&small(), Objective::Backbone, 6).unwrap());
    let mut released = StateDict::new();
    let other = NamedTensor {
        shape: vec![1],
        values: vec![0.0],
    };
    for (section, tensors) in [
        ("state_dict", &student),
        ("momentum_model_state_dict", &teacher),
    ] {
        for (key, tensor) in tensors {
            released.insert(
                format!("{section}.module._orig_mod.backbone.{key}"),
                tensor.clone(),
            );
        }
        released.insert(format!("{section}.module.head.mlp.0.weight"), other.clone());
    }
    let mut ours = StateDict::new();
    for (section, tensors) in [("model", &student), ("teacher", &teacher)] {
        for (key, tensor) in tensors {
            ours.insert(format!("{section}/backbone.{key}"), tensor.clone());
        }
    }
    for (tensors, section, expected) in [
        (&released, Section::Evaluated, &student),
        (&released, Section::Student, &student),
        (&released, Section::Teacher, &teacher),
        (&ours, Section::Evaluated, &teacher),
        (&ours, Section::Student, &student),
        (&ours, Section::Teacher, &teacher),
    ] {
        let (_folder, path) = file(tensors);
        let loaded = open(
            &path,
            LoadOptions {
                section,
                ..LoadOptions::default()
            },
        )
        .unwrap();
        assert_eq!(&state_dict(&loaded.vit), expected);
        assert!(!loaded.ignored.is_empty());
    }
}

/// As [`small`], with a small decoder.
fn small_mae() -> ModelSpec {
    let mut spec = small();
    spec.vit = VitConfig::new(VitShape {
        registers: 0,
        ..(*spec.vit).clone()
    })
    .unwrap();
    spec.mae.decoder_dim = 24;
    spec.mae.decoder_heads = 4;
    spec.mae.decoder_depth = 1;
    spec.mae.decoder_mlp = 8;
    spec
}

/// What PyTorch asks for with strict=True: every name and shape, and no other.
#[test]
fn exports_have_the_names_and_shapes_that_pytorch_expects() {
    type Layout = BTreeMap<String, Vec<usize>>;
    // Written by PyTorch; see the script beside it.
    let expected = include_str!("../../tests/weights/layouts.json");
    let expected: BTreeMap<String, Layout> = serde_json::from_str(expected).unwrap();
    let mut dino = small();
    dino.dino_head = DinoHeadConfig {
        layers: 3,
        hidden: 32,
        bottleneck: 16,
        prototypes: 64,
        batch_norm: true,
    };
    for (name, spec, objective) in [
        ("backbone", small(), Objective::Backbone),
        ("dino", dino, Objective::Dino),
        ("mae", small_mae(), Objective::Mae),
    ] {
        let (_folder, path) = file(&fresh(&spec, objective, 5).unwrap());
        let written: Layout = read(&path)
            .unwrap()
            .0
            .into_iter()
            .map(|(key, tensor)| (key, tensor.shape))
            .collect();
        assert_eq!(written, expected[name], "{name}");
    }
}

#[test]
fn an_mae_checkpoint_loads_without_its_decoder() {
    let spec = small_mae();
    let mae = fresh(&spec, Objective::Mae, 1).unwrap();
    let (_folder, path) = file(&mae);
    let loaded = open(&path, LoadOptions::default()).unwrap();
    assert_eq!(loaded.config, spec.vit);
    assert!(
        loaded
            .ignored
            .iter()
            .all(|key| key.starts_with("decoder_") || key == "mask_token")
    );
    assert!(loaded.ignored.len() > 10);
}

#[test]
fn a_truncated_file_names_the_key_that_is_cut_off() {
    let (_folder, path) = file(&weights());
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    let error = open(&path, LoadOptions::default()).unwrap_err();
    let WeightsError::Truncated {
        key,
        expected,
        found,
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(
        (found, expected),
        (bytes.len() as u64 - 10, bytes.len() as u64)
    );
    assert!(weights().contains_key(&key));
}

#[test]
fn a_renamed_key_is_both_missing_and_unexpected() {
    let mut weights = weights();
    let tensor = weights.remove("norm.weight").unwrap();
    weights.insert("norm.gamma".to_owned(), tensor);
    let message = refusal(&weights);
    assert!(message.contains("missing key norm.weight"), "{message}");
    assert!(message.contains("unexpected key norm.gamma"), "{message}");
}

#[test]
fn a_misshaped_key_is_named_with_both_shapes() {
    let mut weights = weights();
    weights.insert(
        "blocks.1.mlp.linear2.weight".to_owned(),
        NamedTensor {
            shape: vec![48, 24],
            values: vec![0.0; 48 * 24],
        },
    );
    let message = refusal(&weights);
    let expected = "key blocks.1.mlp.linear2.weight: expected shape [24, 48], found [48, 24]";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_value_that_is_not_a_number_names_its_key_and_place() {
    let mut weights = weights();
    weights.get_mut("blocks.0.attn.proj.bias").unwrap().values[3] = f32::NAN;
    let message = refusal(&weights);
    assert!(
        message.contains("key blocks.0.attn.proj.bias holds NaN at position 3"),
        "{message}"
    );
}

#[test]
fn a_file_without_a_transformer_names_the_key_that_would_tell() {
    let mut weights = weights();
    weights.retain(|key, _| !key.starts_with("patch_embedding"));
    let message = refusal(&weights);
    assert!(
        message.contains("missing key patch_embedding.patch_embeddings.weight"),
        "{message}"
    );
}

#[test]
fn sizes_that_no_values_stand_behind_are_refused() {
    for (key, shape, words) in [
        (
            "blocks.0.mlp.linear1.weight",
            vec![1 << 40, 0],
            "expected shape [hidden, dim]",
        ),
        (
            "patch_embedding.position_embeddings",
            vec![1, 1 << 39, 0],
            "expected shape [1, patches, dim]",
        ),
        (
            "register_tokens",
            vec![1, 1 << 40, 0],
            "expected shape [1, registers, dim]",
        ),
        ("blocks.4000000000.norm", vec![0], "found 32 tensors in all"),
    ] {
        let mut weights = weights();
        let values = Vec::new();
        weights.insert(key.to_owned(), NamedTensor { shape, values });
        let message = refusal(&weights);
        let named = key.strip_suffix(".norm").unwrap_or(key);
        assert!(
            message.contains(named) && message.contains(words),
            "{message}"
        );
    }
}

#[test]
fn partial_loading_reports_what_does_not_fit_and_keeps_the_rest() {
    let mut weights = weights();
    weights.remove("norm.bias");
    weights.insert(
        "extra".to_owned(),
        NamedTensor {
            shape: vec![1],
            values: vec![1.0],
        },
    );
    let (_folder, path) = file(&weights);
    let options = LoadOptions {
        allow_partial: true,
        ..LoadOptions::default()
    };
    let loaded = open(&path, options).unwrap();
    assert_eq!(loaded.mismatch.missing, ["norm.bias"]);
    assert_eq!(loaded.mismatch.unexpected, ["extra"]);
    let state = state_dict(&loaded.vit);
    assert_eq!(state["norm.weight"], weights["norm.weight"]);
    assert_eq!(state["norm.bias"].values, [0.0; 24]);
}

#[test]
fn the_same_seed_gives_the_same_weights_and_another_seed_others() {
    assert_eq!(weights(), weights());
    assert_ne!(weights(), fresh(&small(), Objective::Backbone, 6).unwrap());
}

#[test]
fn pytorch_files_load_as_the_same_tensors() {
    // Written by `torch.save` with weights 0, 1, 2, … in every layout; see the script beside them.
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/weights");
    let (expected, _) = read(Path::new(&format!("{folder}/flat.safetensors"))).unwrap();
    let device = DeviceChoice::Cpu.open().unwrap();
    for (name, section) in [
        ("flat.pth", Section::Evaluated),
        ("dino.pt", Section::Student),
        ("dino.pt", Section::Teacher),
        ("mae.pt", Section::Evaluated),
    ] {
        let path = PathBuf::from(format!("{folder}/{name}"));
        let options = LoadOptions {
            section,
            heads: Some(2),
            allow_partial: false,
        };
        let loaded = load_vit(&path, options, &device).unwrap();
        let mut expected = expected.clone();
        if section == Section::Teacher {
            let half = |tensor: &mut NamedTensor| tensor.values.iter_mut().for_each(|x| *x *= 0.5);
            expected.values_mut().for_each(half);
        }
        assert_eq!(state_dict(&loaded.vit), expected, "{name}");
        let volume = Tensor::<5>::zeros([1, 3, 12, 12, 12], &device);
        assert_eq!(loaded.vit.forward(volume).dims(), [1, 1 + 8, 12]);
    }
}
