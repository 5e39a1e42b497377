//! Named tensors in files.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use burn_store::pytorch_reader::{DType, PytorchReader};
use core_model::state::{NamedTensor, StateDict};
use half::{bf16, f16};
use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::WeightsError;

/// Reads every floating-point tensor of a file as float32, and the file's notes.
///
/// Counters and masks (integers) are left out: no weight is one.
///
/// # Errors
/// When the file is neither `.safetensors` nor `.pt`/`.pth`, is broken, or holds a value that is
/// not finite.
pub fn read(path: &Path) -> Result<(StateDict, BTreeMap<String, String>), WeightsError> {
    let (tensors, metadata) = match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => safetensors(path)?,
        Some("pt" | "pth") => (pytorch(path)?, BTreeMap::new()),
        _ => {
            return Err(WeightsError::Extension {
                path: path.to_owned(),
            });
        }
    };
    for (key, tensor) in &tensors {
        if let Some(position) = tensor.values.iter().position(|value| !value.is_finite()) {
            let (key, found) = (key.clone(), tensor.values[position]);
            return Err(WeightsError::NotFinite {
                path: path.to_owned(),
                key,
                found,
                position,
            });
        }
    }
    Ok((tensors, metadata))
}

/// Writes tensors to a safetensors file, all of it or nothing; PyTorch's `load_file` reads it.
///
/// # Errors
/// When the file cannot be written.
pub fn write(
    path: &Path,
    tensors: &StateDict,
    notes: &BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    let failed = |source| WeightsError::Io {
        path: path.to_owned(),
        source,
    };
    let invalid = |source| WeightsError::Safetensors {
        path: path.to_owned(),
        source,
    };
    let mut metadata: HashMap<String, String> = notes.clone().into_iter().collect();
    metadata.insert("format".to_owned(), "pt".to_owned());
    let views = tensors
        .iter()
        .map(|(name, tensor)| {
            let bytes = bytemuck::cast_slice(&tensor.values);
            Ok((
                name,
                TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)?,
            ))
        })
        .collect::<Result<Vec<_>, SafeTensorError>>()
        .map_err(invalid)?;
    let bytes = canonical(&safetensors::serialize(views, Some(metadata)).map_err(invalid)?);
    replace(path, &bytes).map_err(failed)
}

/// Writes beside the file, then renames over it, so that no reader sees half a file.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written
        .and_then(|()| fs::rename(&part, path))
        .inspect_err(|_| {
            // What is left of a failed write is of no use; that it may not be there is no news.
            drop(fs::remove_file(&part));
        })
}

fn safetensors(path: &Path) -> Result<(StateDict, BTreeMap<String, String>), WeightsError> {
    let bytes = fs::read(path).map_err(|source| WeightsError::Io {
        path: path.to_owned(),
        source,
    })?;
    let invalid = |source| WeightsError::Safetensors {
        path: path.to_owned(),
        source,
    };
    let file = SafeTensors::deserialize(&bytes).map_err(|source| match source {
        SafeTensorError::MetadataIncompleteBuffer => {
            truncated(path, &bytes).unwrap_or_else(|| invalid(source))
        }
        _ => invalid(source),
    })?;
    let tensors = file
        .iter()
        .filter_map(|(name, view)| {
            let bytes = view.data();
            let values = match view.dtype() {
                Dtype::F64 => narrow(bytes, |b| f64::from_le_bytes(b) as f32),
                Dtype::F32 => narrow(bytes, f32::from_le_bytes),
                Dtype::F16 => narrow(bytes, |b| f16::from_le_bytes(b).to_f32()),
                Dtype::BF16 => narrow(bytes, |b| bf16::from_le_bytes(b).to_f32()),
                _ => return None,
            };
            Some((
                name.to_owned(),
                NamedTensor {
                    shape: view.shape().to_vec(),
                    values,
                },
            ))
        })
        .collect();
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(invalid)?;
    let notes = header.metadata().clone().unwrap_or_default();
    Ok((tensors, notes.into_iter().collect()))
}

/// Which tensor a safetensors file is cut off in.
fn truncated(path: &Path, bytes: &[u8]) -> Option<WeightsError> {
    let header_len = u64::from_le_bytes(*bytes.first_chunk()?);
    let data_start = 8 + header_len;
    let header: Metadata = serde_json::from_slice(bytes.get(8..data_start as usize)?).ok()?;
    let found = bytes.len() as u64;
    let mut ends: Vec<(u64, String)> = header
        .tensors()
        .into_iter()
        .map(|(key, info)| (data_start + info.data_offsets.1 as u64, key))
        .collect();
    ends.sort_unstable();
    let (expected, key) = ends.into_iter().find(|(end, _)| *end > found)?;
    Some(WeightsError::Truncated {
        path: path.to_owned(),
        key,
        expected,
        found,
    })
}

fn pytorch(path: &Path) -> Result<StateDict, WeightsError> {
    let failed = |source| WeightsError::Io {
        path: path.to_owned(),
        source,
    };
    let reader = PytorchReader::new(path).map_err(|source| WeightsError::PyTorch {
        path: path.to_owned(),
        source: source.into(),
    })?;
    let mut tensors = StateDict::new();
    for (name, tensor) in reader.into_tensors() {
        if name.starts_with("optimizer.") {
            continue;
        }
        let convert: fn(&[u8]) -> Vec<f32> = match tensor.dtype() {
            DType::F64 => |bytes| narrow(bytes, |b| f64::from_ne_bytes(b) as f32),
            DType::F32 => |bytes| narrow(bytes, f32::from_ne_bytes),
            DType::F16 => |bytes| narrow(bytes, |b| f16::from_ne_bytes(b).to_f32()),
            DType::BF16 => |bytes| narrow(bytes, |b| bf16::from_ne_bytes(b).to_f32()),
            _ => continue,
        };
        let values = convert(&tensor.read().map_err(failed)?);
        tensors.insert(
            name,
            NamedTensor {
                shape: tensor.shape().to_vec(),
                values,
            },
        );
    }
    Ok(tensors)
}

fn narrow<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|chunk| value(*chunk))
        .collect()
}

/// The same file with its notes in the order of their names: the library writes them in an order
/// that changes from run to run, and equal weights must make equal files.
fn canonical(bytes: &[u8]) -> Vec<u8> {
    const LENGTH: usize = size_of::<u64>();
    const NOTES: &str = "__metadata__";
    let (length, rest) = bytes.split_at(LENGTH);
    let length = u64::from_le_bytes(length.try_into().expect("split at its size")) as usize;
    let (header, data) = rest.split_at(length);
    let mut header: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(header).expect("the library wrote JSON");
    if let Some(notes) = header.remove(NOTES) {
        let notes: BTreeMap<String, String> =
            serde_json::from_value(notes).expect("notes are texts by name");
        header.insert(NOTES.to_owned(), serde_json::json!(notes));
    }
    let mut text = serde_json::to_vec(&header).expect("texts, numbers and lists");
    text.resize(text.len().next_multiple_of(LENGTH), b' ');
    [&(text.len() as u64).to_le_bytes(), text.as_slice(), data].concat()
}
