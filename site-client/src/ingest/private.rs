//! Files only their owner may read.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;

use super::IngestError;

/// Writes a file of mode 0600 that appears complete or not at all.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), IngestError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    // A stale file would keep its own mode.
    drop(fs::remove_file(&partial));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&partial, path));
    written.map_err(IngestError::io("write", path))
}

/// Writes a table of mode 0600.
pub(super) fn write_csv<T: Serialize>(path: &Path, rows: &[T]) -> Result<(), IngestError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let error = |error: csv::Error| IngestError::io("write", path)(error.into());
    for row in rows {
        writer.serialize(row).map_err(error)?;
    }
    let bytes = writer
        .into_inner()
        .map_err(|e| error(e.into_error().into()))?;
    write(path, &bytes)
}
