//! The files a trainer keeps from round to round: on disk whole, or known to be missing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use protocol::Digest;
use serde::{Deserialize, Serialize};

use super::sync_folder;
use crate::federation::error::FederationError;

/// Digests of a folder's files, by name.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Inventory(BTreeMap<String, Digest>);

impl Inventory {
    /// Makes what a folder holds durable, and lists it; a folder that is not there holds nothing.
    ///
    /// # Errors
    /// If a file cannot be read or synced.
    pub(super) fn make_durable(folder: &Path) -> Result<Self, FederationError> {
        let list = || -> io::Result<Self> {
            let entries = match fs::read_dir(folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
                entries => entries?,
            };
            let mut files = BTreeMap::new();
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().into_string();
                let name = name.map_err(|_| io::ErrorKind::InvalidFilename)?;
                let file = File::open(entry.path())?;
                file.sync_all()?;
                files.insert(name, digest(&file)?);
            }
            sync_folder(folder)?;
            Ok(Self(files))
        };
        list().map_err(|source| FederationError::Io {
            path: folder.to_owned(),
            source,
        })
    }

    /// Whether nothing was kept.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A list that was written; without one nothing was kept.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub(super) fn read(path: &Path) -> Result<Self, FederationError> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| FederationError::Lost {
                path: path.to_owned(),
                found: format!("damaged ({error})"),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(FederationError::Io {
                path: path.to_owned(),
                source,
            }),
        }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).expect("names and digests are plain data with text keys")
    }

    /// Looks whether a folder still holds what was listed.
    ///
    /// # Errors
    /// If a file is missing, damaged or cannot be read.
    pub(super) fn check(&self, folder: &Path) -> Result<(), FederationError> {
        for (name, expected) in &self.0 {
            let path = folder.join(name);
            match File::open(&path).and_then(|file| digest(&file)) {
                Ok(found) if found == *expected => {}
                Ok(_) => {
                    let found = "damaged (its bytes are not those that were written)".to_owned();
                    return Err(FederationError::Lost { path, found });
                }
                Err(source) => return Err(FederationError::lost_or_io(path, source)),
            }
        }
        Ok(())
    }
}

fn digest(file: &File) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize().into())
}
