//! Reads reference vectors and compares with them.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use core_model::state::{NamedTensor, StateDict};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// Largest difference allowed, relative to the largest expected value.
const TOLERANCE: f32 = 1e-4;

/// One file of reference vectors.
pub(crate) struct Vectors {
    name: String,
    tensors: StateDict,
    pub(crate) settings: Value,
}

impl Vectors {
    /// The file of this name in every set that is there.
    pub(crate) fn all(name: &str) -> Vec<Self> {
        let root = env!("CARGO_MANIFEST_DIR");
        let mut sets = vec![PathBuf::from(format!("{root}/tests/reference"))];
        let full = PathBuf::from(format!("{root}/../../shared/reference/full"));
        if full.exists() {
            sets.push(full);
        } else {
            println!("skipped: the full reference set is not beside this checkout");
        }
        sets.into_iter()
            .map(|set| Self::read(&set.join(name)))
            .collect()
    }

    fn read(stem: &Path) -> Self {
        let name = stem.display().to_string();
        // Some files have settings only.
        let tensors = std::fs::read(stem.with_extension("safetensors"))
            .map_or_else(|_| StateDict::new(), |bytes| tensors(&bytes));
        let settings = std::fs::read(stem.with_extension("json"))
            .map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap());
        Self {
            name,
            tensors,
            settings,
        }
    }

    pub(crate) fn setting(&self, key: &str) -> usize {
        self.settings[key].as_u64().unwrap() as usize
    }

    pub(crate) fn number(&self, key: &str) -> f64 {
        self.settings[key].as_f64().unwrap()
    }

    /// Tensors whose name starts with `prefix`, without it and without batch counters.
    pub(crate) fn part(&self, prefix: &str) -> StateDict {
        self.tensors
            .iter()
            .filter(|(key, _)| !key.ends_with("num_batches_tracked"))
            .filter_map(|(key, tensor)| {
                Some((key.strip_prefix(prefix)?.to_owned(), tensor.clone()))
            })
            .collect()
    }

    pub(crate) fn values(&self, key: &str) -> &[f32] {
        &self.tensors[key].values
    }

    pub(crate) fn shape(&self, key: &str) -> &[usize] {
        &self.tensors[key].shape
    }

    pub(crate) fn tensor<const D: usize>(&self, key: &str, device: &Device) -> Tensor<D> {
        let NamedTensor { shape, values } = &self.tensors[key];
        Tensor::from_data(TensorData::new(values.clone(), shape.clone()), device)
    }

    /// Asserts that `actual` is the tensor `key`, shape and values.
    pub(crate) fn check<const D: usize>(&self, key: &str, actual: Tensor<D>) {
        assert_eq!(
            self.shape(key),
            actual.dims(),
            "{}: shape of {key}",
            self.name
        );
        self.check_values(key, &actual.into_data().try_to_vec::<f32>().unwrap());
    }

    pub(crate) fn check_values(&self, key: &str, actual: &[f32]) {
        close(actual, self.values(key), &format!("{}: {key}", self.name));
    }
}

fn tensors(bytes: &[u8]) -> StateDict {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let tensor = |view: TensorView<'_>| {
        let bytes = view.data();
        let values = match view.dtype() {
            Dtype::F32 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
            Dtype::I64 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| i64::from_le_bytes(*b) as f32)
                .collect(),
            other => panic!("unexpected element type {other:?}"),
        };
        NamedTensor {
            shape: view.shape().to_vec(),
            values,
        }
    };
    file.tensors()
        .into_iter()
        .map(|(key, view)| (key, tensor(view)))
        .collect()
}

/// Asserts closeness relative to the largest expected value.
pub(crate) fn close(actual: &[f32], expected: &[f32], what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}: length");
    let scale = expected
        .iter()
        .fold(0f32, |max, value| max.max(value.abs()));
    for (index, (a, e)) in actual.iter().zip(expected).enumerate() {
        let difference = (a - e).abs();
        assert!(
            difference <= TOLERANCE * scale,
            "{what}[{index}]: {a}, expected {e} (largest {scale})"
        );
    }
}

/// Turns gradients of a module's parameters into the checkpoint's names and layout.
pub(crate) fn gradients_as_state<M: burn::module::Module>(
    module: &M,
    gradients: &core_model::gradients::Gradients,
) -> StateDict {
    let names: Vec<String> = gradients.names().map(str::to_owned).collect();
    let mut state = core_model::state::state_dict(module);
    state.retain(|name, _| names.contains(name));
    for (name, tensor) in &mut state {
        let values = gradients.get(name).unwrap();
        let linear = name.ends_with(".weight") && tensor.shape.len() == 2;
        let parameter = name.ends_with("weight_v");
        tensor.values = if linear && !parameter {
            let [output, input] = tensor.shape[..] else {
                unreachable!()
            };
            let at = |index: usize| values[index % input * output + index / input];
            (0..output * input).map(at).collect()
        } else {
            values.to_vec()
        };
    }
    state
}
