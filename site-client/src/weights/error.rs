//! Why weights cannot be read or written.

use std::io;
use std::path::PathBuf;

use burn_store::pytorch_reader::PytorchError;
use core_model::state::Mismatch;
use safetensors::SafeTensorError;
use thiserror::Error;

/// Weights that cannot be read, written or used.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The file system said no.
    #[error("{}: cannot be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another kind of file.
    #[error("{}: expected a file named .safetensors, .pt or .pth", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// Not a safetensors file, or a broken one.
    #[error("{}: not a valid safetensors file", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: SafeTensorError,
    },
    /// The file ends before its tensors do.
    #[error("{}: key {key} ends at byte {expected}, but the file has {found}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The first tensor, by place, that is cut off.
        key: String,
        /// Where it should end.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// Not a PyTorch file, or a broken one.
    #[error("{}: not a readable PyTorch file", path.display())]
    PyTorch {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<PytorchError>,
    },
    /// A value that is infinite or not a number.
    #[error("{}: key {key} holds {found} at position {position}, expected finite numbers", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        key: String,
        /// The value.
        found: f32,
        /// Where it is, counted row by row.
        position: usize,
    },
    /// The architecture cannot be told from the tensors.
    #[error("{}: {reason}", path.display())]
    Undetected {
        /// The file.
        path: PathBuf,
        /// The key that tells it, and what was found.
        reason: String,
    },
    /// Tensors that do not fit the detected architecture.
    #[error("{}: {mismatch}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Everything that does not fit.
        mismatch: Mismatch,
    },
}
