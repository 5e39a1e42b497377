//! Models, moments and updates on disk, by digest.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use protocol::{BlobRef, Digest};
use transport::FileLock;

/// A directory of blobs: each file is named by the BLAKE3 of its bytes, and appears only whole.
///
/// The same directory and the same file names as `transport`'s store, which receives updates into
/// it and sends models from it. This one is for folding: files that are written at any position and
/// only then hashed and named.
///
/// Several processes use one directory. Whoever counts on blobs that no journal names yet, or reads
/// many of them, [holds](Self::hold) them all; whoever removes any [clears](Self::clear) first.
#[derive(Clone, Debug)]
pub struct Blobs {
    directory: PathBuf,
}

impl Blobs {
    /// Opens, or makes, a directory; what a crash left half-written is removed.
    ///
    /// # Errors
    /// If it cannot be made or read.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(directory.join(TEMPORARY))?;
        for entry in fs::read_dir(directory.join(TEMPORARY))? {
            fs::remove_file(entry?.path())?;
        }
        Ok(Self { directory })
    }

    /// Opens a directory beside a process that may be writing to it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open_shared(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(directory.join(TEMPORARY))?;
        Ok(Self { directory })
    }

    /// Where a blob lies, or would.
    pub fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.directory.join(BLOBS).join(&name[..2]).join(name)
    }

    /// Whether a blob is here.
    pub fn contains(&self, digest: Digest) -> bool {
        self.path(digest).exists()
    }

    /// Opens a blob for reading at any position.
    ///
    /// # Errors
    /// If it is not here or cannot be read.
    pub fn read(&self, digest: Digest) -> io::Result<File> {
        File::open(self.path(digest))
    }

    /// A new empty file, writable and readable, to be [committed](Self::commit).
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(&self, name: &str) -> io::Result<(File, PathBuf)> {
        let path = self.directory.join(TEMPORARY).join(name);
        let options = || {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(true);
            options
        };
        Ok((options().open(&path)?, path))
    }

    /// Hashes and syncs a file that was [created](Self::create) here, and gives it its name.
    ///
    /// # Errors
    /// If it cannot be read, synced or renamed.
    pub fn commit(&self, file: &File, path: &Path) -> io::Result<BlobRef> {
        let blob = hash(&mut File::open(path)?)?;
        file.sync_all()?;
        let target = self.path(blob.digest);
        let folder = self
            .directory
            .join(BLOBS)
            .join(&blob.digest.to_string()[..2]);
        fs::create_dir_all(&folder)?;
        fs::rename(path, target)?;
        for folder in [&folder, &self.directory.join(BLOBS)] {
            File::open(folder)?.sync_all()?;
        }
        Ok(blob)
    }

    /// Holds every blob: until this is dropped nobody removes one. Waits for a removal under way.
    ///
    /// # Errors
    /// If the lock file cannot be made or locked.
    pub fn hold(&self) -> io::Result<FileLock> {
        FileLock::take_shared(self.lock_file()?)
    }

    /// Leave to remove blobs that nothing refers to, until it is dropped; what refers to them must be
    /// looked up under it. `None` while anybody holds them: then it is for later.
    ///
    /// # Errors
    /// If the lock file cannot be made or locked.
    pub fn clear(&self) -> io::Result<Option<FileLock>> {
        match FileLock::take(self.lock_file()?) {
            Ok(lock) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn lock_file(&self) -> io::Result<File> {
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        options.open(self.directory.join(LOCK))
    }

    /// Whether there is anything of a blob here, be it whole or as much as has arrived.
    pub fn has_any_of(&self, digest: Digest) -> bool {
        self.contains(digest) || self.partial(digest).exists()
    }

    /// Removes a blob, whole or in part, with its outline; one that is not here is none to remove.
    ///
    /// # Errors
    /// If it is here and cannot be removed.
    pub fn remove(&self, digest: Digest) -> io::Result<()> {
        let path = self.path(digest);
        let outline = path.with_added_extension(OUTLINE);
        for path in [self.partial(digest), outline, path] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Where `transport` receives it.
    fn partial(&self, digest: Digest) -> PathBuf {
        self.directory.join(PARTIAL).join(digest.to_string())
    }

    /// Whether the bytes of a blob are what its name says.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn verify(&self, digest: Digest) -> io::Result<bool> {
        Ok(hash(&mut self.read(digest)?)?.digest == digest)
    }
}

/// BLAKE3 and length of what a file holds.
fn hash(file: &mut File) -> io::Result<BlobRef> {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = vec![0; READ_BYTES];
    let mut len = 0;
    loop {
        let read = file.read(&mut bytes)?;
        if read == 0 {
            return Ok(BlobRef {
                digest: hasher.finalize().into(),
                len,
            });
        }
        hasher.update(&bytes[..read]);
        len += read as u64;
    }
}

const BLOBS: &str = "blobs";
const LOCK: &str = "lock";
const OUTLINE: &str = "outline";
const PARTIAL: &str = "partial";
const TEMPORARY: &str = "scratch";
const READ_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_held_by_many_or_cleared_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = || Blobs::open_shared(folder.path().to_owned()).unwrap();
        let holds = [blobs().hold().unwrap(), blobs().hold().unwrap()];
        for hold in holds {
            assert!(blobs().clear().unwrap().is_none());
            drop(hold);
        }
        let cleared = blobs().clear().unwrap().unwrap();
        assert!(blobs().clear().unwrap().is_none());
        drop(cleared);
        blobs().hold().unwrap();
    }
}
