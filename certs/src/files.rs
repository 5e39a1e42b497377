//! Files that survive a crash, and files that nobody else may read.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Replaces a file in one step: a crash leaves the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let part = part(path);
    let written = File::create(&part)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&part, path))
        .and_then(|()| sync_parent(path));
    written.map_err(|source| failed("written", path, source))
}

/// Writes a file of mode 0600 that must not exist yet, whole or not at all: a full disk or a crash
/// leaves no half of it.
pub(crate) fn create_secret(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let part = part(path);
    // Of an attempt that was cut short; there is none, as a rule.
    let _ = fs::remove_file(&part);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let written = options
        .open(&part)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    // Unlike a rename, a link never takes the place of another file.
    let linked = written
        .map_err(|source| failed("written", path, source))
        .and_then(|()| match fs::hard_link(&part, path) {
            Err(source) if source.kind() == ErrorKind::AlreadyExists => Err(exists(path)),
            other => other.map_err(|source| failed("written", path, source)),
        });
    let _ = fs::remove_file(&part);
    linked?;
    sync_parent(path).map_err(|source| failed("written", path, source))
}

/// Refuses a file that exists: before anything beside it is written.
pub(crate) fn must_not_exist(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(exists(path)),
        Err(source) if source.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(failed("read", path, source)),
    }
}

fn exists(path: &Path) -> Error {
    Error::Exists {
        path: path.to_owned(),
    }
}

fn part(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

/// Reads a file that must be readable by its owner only.
pub(crate) fn read_secret(path: &Path) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(|source| failed("read", path, source))?;
    let metadata = file
        .metadata()
        .map_err(|source| failed("read", path, source))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::Permissive {
            path: path.to_owned(),
            mode,
        });
    }
    std::io::read_to_string(file)
        .map(String::into_bytes)
        .map_err(|source| failed("read", path, source))
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| failed("read", path, source))
}

/// Makes a directory that only its owner can enter; an existing one stays as it is.
pub(crate) fn create_dir(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| failed("created", path, source))
}

pub(crate) fn failed(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File {
        action,
        path: path.to_owned(),
        source,
    }
}

/// A rename is durable once the directory that holds the name is.
fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
