//! One process at a time takes part with a site's directory.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use transport::FileLock;

use crate::federation::error::FederationError;

/// Holds a site's directory until this is dropped. Whoever only looks, as `doctor` and `egress` do,
/// needs no hold.
///
/// # Errors
/// If another process holds it, or its file cannot be made or locked.
pub(super) fn hold(directory: &Path) -> Result<FileLock, FederationError> {
    let path = directory.join(FILE);
    let io = |source| FederationError::Io {
        path: path.clone(),
        source,
    };
    fs::create_dir_all(directory).map_err(io)?;
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).open(&path);
    FileLock::take(file.map_err(io)?).map_err(|error| match error {
        TryLockError::WouldBlock => FederationError::Locked {
            path: directory.to_owned(),
        },
        TryLockError::Error(source) => io(source),
    })
}

const FILE: &str = "run.lock";
