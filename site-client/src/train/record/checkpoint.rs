//! Checkpoints: everything a run needs to go on as if it had never stopped, in one file.
//!
//! The file is safetensors, so that any tool reads the weights; the rest of the state is a JSON text
//! under `fmct` in its header. It is written beside the old one, synced, and renamed over it: at any
//! instant the name holds a whole checkpoint, the old or the new.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use core_model::state::{NamedTensor, StateDict};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::train::TrainError;

/// Name of the state in the header of the file.
pub(crate) const STATE: &str = "fmct";

/// Tensors and state of a run at one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Model, teacher, center and moments, each under a prefix of its own.
    pub tensors: StateDict,
    /// Step, positions and everything else that is no tensor.
    pub state: serde_json::Value,
}

impl Checkpoint {
    /// A checkpoint of `state` and `tensors`.
    ///
    /// # Panics
    ///
    /// If the state does not serialize, which is a defect of its type.
    #[must_use]
    pub fn new(state: &impl Serialize, tensors: StateDict) -> Self {
        let state = serde_json::to_value(state).expect("state of plain fields");
        Self { tensors, state }
    }

    /// The state, as the type that was saved.
    ///
    /// # Errors
    ///
    /// The checkpoint is of another kind of run.
    pub fn state<T: DeserializeOwned>(&self, path: &Path) -> Result<T, TrainError> {
        T::deserialize(&self.state).map_err(|error| unreadable(path, error.to_string()))
    }

    /// The tensors under a prefix, the prefix removed.
    #[must_use]
    pub fn part(&self, prefix: &str) -> StateDict {
        let under = |(name, array): (&String, &NamedTensor)| {
            let rest = name.strip_prefix(prefix)?.strip_prefix('/')?;
            Some((rest.to_owned(), array.clone()))
        };
        self.tensors.iter().filter_map(under).collect()
    }

    /// Writes the checkpoint in the place of `path`, or leaves what stands there untouched.
    ///
    /// # Errors
    ///
    /// The disk is full or the folder cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let bytes = self.to_bytes().map_err(io::Error::other)?;
        let partial = partial_path(path);
        let written = write_synced(&partial, &bytes).and_then(|()| fs::rename(&partial, path));
        if written.is_err() {
            // Nothing is lost if this fails too; the next save truncates the leftover.
            drop(fs::remove_file(&partial));
        }
        written?;
        // The rename itself is durable once the folder is.
        path.parent()
            .filter(|dir| !dir.as_os_str().is_empty())
            .map_or(Ok(()), sync_dir)
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    ///
    /// A file that is missing, cut short, or no checkpoint of this program.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let bytes = fs::read(path).map_err(|error| TrainError::io(path, error))?;
        Self::from_bytes(&bytes).map_err(|reason| unreadable(path, reason))
    }

    fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let views = self.tensors.iter().map(|(name, array)| {
            let bytes = bytemuck::cast_slice(&array.values);
            Ok((
                name,
                TensorView::new(Dtype::F32, array.shape.clone(), bytes)?,
            ))
        });
        let views: Vec<_> = views
            .collect::<Result<_, safetensors::SafeTensorError>>()
            .map_err(|error| error.to_string())?;
        let header = HashMap::from([(STATE.to_owned(), self.state.to_string())]);
        serialize(views, Some(header)).map_err(|error| error.to_string())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
        let state = header
            .metadata()
            .as_ref()
            .and_then(|entries| entries.get(STATE));
        let state = state.ok_or("no training state in its header; weights alone cannot resume")?;
        let state = serde_json::from_str(state).map_err(|error| error.to_string())?;
        let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let mut tensors = StateDict::new();
        for (name, view) in file.iter() {
            if view.dtype() != Dtype::F32 {
                return Err(format!(
                    "tensor `{name}`: expected F32, found {:?}",
                    view.dtype()
                ));
            }
            // The header's length need not keep the data aligned.
            let values = bytemuck::pod_collect_to_vec(view.data());
            tensors.insert(
                name.to_owned(),
                NamedTensor {
                    shape: view.shape().to_vec(),
                    values,
                },
            );
        }
        Ok(Self { tensors, state })
    }
}

/// Adds `part` under `prefix/`.
pub fn insert_part(
    tensors: &mut StateDict,
    prefix: &str,
    part: impl IntoIterator<Item = (String, NamedTensor)>,
) {
    tensors.extend(
        part.into_iter()
            .map(|(name, array)| (format!("{prefix}/{name}"), array)),
    );
}

fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn unreadable(path: &Path, reason: String) -> TrainError {
    TrainError::Checkpoint {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(step: u64) -> Checkpoint {
        let mut tensors = StateDict::new();
        let array = NamedTensor {
            shape: vec![2, 2],
            values: vec![1.0, -0.0, f32::MIN_POSITIVE, 4.0],
        };
        insert_part(
            &mut tensors,
            "model",
            [("norm.weight".to_owned(), array.clone())],
        );
        insert_part(&mut tensors, "teacher", [("norm.weight".to_owned(), array)]);
        Checkpoint::new(&serde_json::json!({ "step": step }), tensors)
    }

    #[test]
    fn a_checkpoint_reads_back_bit_for_bit_and_its_bytes_depend_on_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (
            dir.path().join("one.safetensors"),
            dir.path().join("two.safetensors"),
        );
        checkpoint(5).save(&one).unwrap();
        checkpoint(5).save(&two).unwrap();
        assert_eq!(Checkpoint::load(&one).unwrap(), checkpoint(5));
        assert_eq!(fs::read(one).unwrap(), fs::read(two).unwrap());
        assert_eq!(checkpoint(5).part("teacher").len(), 1);
        assert!(
            checkpoint(5).part("teach").is_empty(),
            "a prefix ends at its slash"
        );
    }

    #[test]
    fn a_failed_save_leaves_the_old_checkpoint_and_no_leftover() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last.safetensors");
        checkpoint(5).save(&path).unwrap();
        // A folder in the way of the partial file stands in for a full disk.
        fs::create_dir(partial_path(&path)).unwrap();
        assert!(checkpoint(6).save(&path).is_err());
        assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint(5));
    }

    #[test]
    fn a_cut_file_and_bare_weights_are_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last.safetensors");
        checkpoint(5).save(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        for length in [0, 7, 40, bytes.len() - 1] {
            fs::write(&path, &bytes[..length]).unwrap();
            let error = Checkpoint::load(&path).unwrap_err().to_string();
            assert!(error.contains("last.safetensors"), "{error}");
        }
        let values = [0u8; 4];
        let view = TensorView::new(Dtype::F32, vec![1], &values).unwrap();
        fs::write(&path, serialize([("norm.weight", view)], None).unwrap()).unwrap();
        let error = Checkpoint::load(&path).unwrap_err().to_string();
        assert!(error.contains("cannot resume"), "{error}");
    }
}
