//! What goes wrong in a site's part of a round; each is about this site, never the end of a run.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use transport::StoreError;

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
    /// Another process takes part with this site's directory.
    #[error("site {path}: in use by another process: end the other `fmct-site run` first")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// What an earlier round left for the next one is not there as it was written.
    #[error(
        "site state: {path} is {found}, and the rounds of this run that counted built on it: put the \
         run's folder back from a backup, or remove that folder to go on as a site that joins late"
    )]
    Lost {
        /// The file.
        path: PathBuf,
        /// Missing, or what is wrong with it.
        found: String,
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
    /// A file of an earlier round that cannot be read.
    pub(super) fn lost_or_io(path: PathBuf, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::Lost {
                path,
                found: "missing".to_owned(),
            },
            _ => Self::Io { path, source },
        }
    }

    /// Whether the model's file is missing or damaged: the coordinator has it still.
    pub(super) fn is_model_lost(&self) -> bool {
        match self {
            Self::ModelRead(error) => {
                let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
                cause.is_some_and(StoreError::is_lost)
            }
            // Of another size none was ever fetched.
            Self::ModelSize { .. } => true,
            _ => false,
        }
    }

    /// Whether a file that was written is missing or damaged, so that trying again does not help.
    pub(super) fn is_file_lost(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Lost { .. } | Self::State { .. } => true,
            _ => false,
        }
    }

    /// What the coordinator is told: no path of this site's disks is in it.
    #[must_use]
    pub fn told(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("site state: {}", source.kind()),
            Self::Locked { .. } => "site state: in use by another process".to_owned(),
            Self::Lost { .. } => {
                "site state: what an earlier round left is missing or damaged; the site's log says \
                 what to do"
                    .to_owned()
            }
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
            FederationError::Lost {
                path: path.clone(),
                found: reason.clone(),
            },
            FederationError::Locked { path: path.clone() },
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
