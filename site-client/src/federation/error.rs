//! What goes wrong in a site's part of a round; each is about this site, never the end of a run.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// An error of the federation area.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FederationError {
    /// A file of the site's state could not be read or written.
    #[error("site state: cannot use {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The model's file could not be read.
    #[error("model not readable: {0}")]
    ModelRead(io::Error),
    /// The model that came is not of the plan's and schema's size.
    #[error("model: expected {expected} bytes, found {found}")]
    ModelSize {
        /// Bytes of a model of this run.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// A file of the site's state is not what was written there.
    #[error("site state: {path} is damaged: {reason}")]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What the trainer gave back does not fit the model.
    #[error("trainer: {0}")]
    Trainer(String),
    /// Training ended in numbers that are none.
    #[error("update: holds a value that is not finite")]
    NotFinite,
    /// The update's file could not be written.
    #[error("update not written: {0}")]
    UpdateWrite(io::Error),
}

impl FederationError {
    /// What the coordinator is told: no path of this site's disks is in it.
    #[must_use]
    pub fn told(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("site state: {}", source.kind()),
            Self::State { .. } => "site state: damaged".to_owned(),
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_is_told_no_path() {
        let path = PathBuf::from("/srv/miller-john/runs");
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let reason = "/srv/miller-john".to_owned();
        for error in [
            FederationError::Io {
                path: path.clone(),
                source,
            },
            FederationError::State { path, reason },
        ] {
            assert!(error.to_string().contains("miller"));
            assert!(!error.told().contains("miller"), "{}", error.told());
        }
    }
}
