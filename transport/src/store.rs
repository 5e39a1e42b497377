//! Blobs on disk, by content.
//!
//! ```text
//! blobs/ab/abcd….          the bytes of a blob, complete and durable
//! blobs/ab/abcd….outline   hashes of its chunks; proves itself, and is made anew if lost
//! partial/abcd….           a blob being received: what is verified in it is found by hashing
//! ```
//!
//! A file gets its final name only once its bytes are on disk (write, fsync, rename, fsync of the
//! folder), so whatever has a final name is whole. Every read through a [`Blob`] is verified against
//! the outline, and the outline against the name: a damaged disk makes errors, never wrong numbers.
//! Whoever opens or maps the file behind [`BlobStore::path`] verifies it as well, or trusts the disk.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use protocol::Digest;
use protocol::transfer::{BlobRef, CHUNK_LEN, ChunkHash, MAX_CHUNKS, Outline};

mod blob;
mod partial;
mod reader;

pub use blob::Blob;
pub(crate) use partial::Partial;
pub use reader::BlobReader;

/// Why a blob cannot be stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk failed, or is full.
    #[error("blob store: {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Bytes on disk are not what their name says.
    #[error("blob {blob}: damaged on disk in chunk {chunk}")]
    Damaged {
        /// The blob.
        blob: Digest,
        /// The first chunk that does not match.
        chunk: u64,
    },
    /// No blob of that name.
    #[error("blob {0}: not in the store")]
    Missing(Digest),
    /// More than a blob may hold.
    #[error("blob: more than {} bytes", MAX_CHUNKS * CHUNK_LEN)]
    TooLarge,
    /// A range outside of the blob.
    #[error("blob {blob}: bytes {start} to {end} of {len}")]
    Range {
        /// The blob.
        blob: Digest,
        /// First byte asked for.
        start: u64,
        /// Byte after the last asked for.
        end: u64,
        /// Bytes there are.
        len: u64,
    },
}

impl StoreError {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    /// Whether the blob is not here, or not as it was: it must be made or received again.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Missing(_))
    }

    /// Whether there is no room left.
    pub fn is_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Io { source, .. } if full.contains(&source.kind()))
    }
}

/// A folder of blobs. Clones share it; any number of readers and writers may use it at once.
#[derive(Clone, Debug)]
pub struct BlobStore {
    root: Arc<Path>,
    /// Blobs that somebody is receiving.
    turns: Arc<Turns>,
}

type Turns = Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>;

/// What a garbage collection removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Collected {
    /// Blobs removed, complete or partial.
    pub blobs: u64,
    /// Bytes they took.
    pub bytes: u64,
}

impl BlobStore {
    /// Opens a folder, and makes it if need be.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root: PathBuf = root.into();
        for folder in [BLOBS, PARTIAL] {
            fs::create_dir_all(root.join(folder)).map_err(StoreError::io("make folder"))?;
        }
        Ok(Self {
            root: root.into(),
            turns: Arc::default(),
        })
    }

    /// Stores bytes, durably. Storing twice is the same as storing once.
    ///
    /// # Errors
    /// If the disk fails or there are too many bytes.
    pub fn put(&self, bytes: &[u8]) -> Result<BlobRef, StoreError> {
        let mut writer = self.writer()?;
        writer
            .write_all(bytes)
            .map_err(StoreError::io("write blob"))?;
        writer.finish()
    }

    /// Starts a blob whose bytes come one after the other.
    ///
    /// # Errors
    /// If no file can be made.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        let path = self
            .root
            .join(PARTIAL)
            .join(format!("{:032x}.new", rand::random::<u128>()));
        let file = File::create_new(&path).map_err(StoreError::io("make file"))?;
        let buffer = Vec::with_capacity(CHUNK_LEN as usize);
        Ok(BlobWriter {
            store: self.clone(),
            path,
            file,
            buffer,
            leaves: Vec::new(),
            len: 0,
        })
    }

    /// Opens a blob to read.
    ///
    /// # Errors
    /// If there is none, or its bytes do not make up its name.
    pub fn blob(&self, digest: Digest) -> Result<Blob, StoreError> {
        Blob::open(&self.path(digest), digest)
    }

    /// Whether there is a complete blob of that name.
    pub fn contains(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Removes a blob that was found damaged, so that it can be received again.
    ///
    /// # Errors
    /// If it is there and cannot be removed.
    pub fn discard(&self, digest: Digest) -> Result<(), StoreError> {
        let path = self.path(digest);
        for path in [path.with_added_extension(OUTLINE), path] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove blob")(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The file of a blob; for programs that map it. What is read from it is not verified.
    pub fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join(BLOBS).join(&name[..2]).join(name)
    }

    /// Every complete blob.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn digests(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let mut digests = BTreeSet::new();
        for folder in read_dir(&self.root.join(BLOBS))? {
            for file in read_dir(&folder)? {
                digests.extend(name(&file).and_then(|name| name.parse::<Digest>().ok()));
            }
        }
        Ok(digests)
    }

    /// Removes every blob, complete or partial, that nobody refers to.
    ///
    /// The caller knows of every blob that is wanted, those on their way included; a blob that
    /// comes to be wanted during the collection may be lost.
    ///
    /// # Errors
    /// If a folder cannot be read or a file not removed.
    pub fn collect(&self, keep: &BTreeSet<Digest>) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        let folders = read_dir(&self.root.join(BLOBS))?;
        for folder in folders.into_iter().chain([self.root.join(PARTIAL)]) {
            for file in read_dir(&folder)? {
                let stem = name(&file).and_then(|name| name.split('.').next()?.parse().ok());
                if stem.is_some_and(|digest: Digest| keep.contains(&digest)) {
                    continue;
                }
                let len = file
                    .metadata()
                    .map_err(StoreError::io("look at blob"))?
                    .len();
                fs::remove_file(&file).map_err(StoreError::io("remove blob"))?;
                if file
                    .extension()
                    .is_none_or(|extension| extension != OUTLINE)
                {
                    collected.blobs += 1;
                }
                collected.bytes += len;
            }
        }
        Ok(collected)
    }

    /// Waits until nobody else is receiving this blob.
    pub(crate) async fn turn(&self, digest: Digest) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let turn = turns
                .get(&digest)
                .and_then(Weak::upgrade)
                .unwrap_or_default();
            turns.insert(digest, Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }

    /// Continues or starts receiving a blob.
    pub(crate) fn partial(&self, blob: BlobRef) -> Result<Partial, StoreError> {
        let path = self.root.join(PARTIAL).join(blob.digest.to_string());
        Partial::open(self.clone(), path, blob)
    }

    /// Gives a whole, synced file its name.
    fn adopt(&self, path: &Path, outline: &Outline) -> Result<(), StoreError> {
        let target = self.path(outline.blob().digest);
        let folder = target.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(StoreError::io("make folder"))?;
        blob::save_outline(&target, outline)?;
        fs::rename(path, &target).map_err(StoreError::io("rename blob"))?;
        for folder in [folder, &self.root.join(BLOBS)] {
            let folder = File::open(folder).map_err(StoreError::io("open folder"))?;
            folder.sync_all().map_err(StoreError::io("sync folder"))?;
        }
        Ok(())
    }
}

/// A blob being written, hashed as it comes. Dropped before [`finish`](Self::finish), it is gone.
#[derive(Debug)]
pub struct BlobWriter {
    store: BlobStore,
    path: PathBuf,
    file: File,
    /// The chunk being filled.
    buffer: Vec<u8>,
    leaves: Vec<ChunkHash>,
    len: u64,
}

impl BlobWriter {
    /// Makes it durable, under the name of its digest.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn finish(mut self) -> Result<BlobRef, StoreError> {
        let outline = self.outline()?;
        self.adopt(&outline)
    }

    /// Makes it durable if its bytes are those of `blob`; else it is gone.
    ///
    /// # Errors
    /// If they are not, or the disk fails.
    pub(crate) fn finish_as(mut self, blob: BlobRef) -> Result<BlobRef, StoreError> {
        let outline = self.outline()?;
        if outline.blob() != blob {
            let (blob, chunk) = (blob.digest, 0);
            return Err(StoreError::Damaged { blob, chunk });
        }
        self.adopt(&outline)
    }

    fn outline(&mut self) -> Result<Outline, StoreError> {
        if !self.buffer.is_empty() {
            let chunk = self.leaves.len() as u64;
            self.leaves
                .push(ChunkHash::of(self.len, chunk, &self.buffer));
        }
        let leaves = std::mem::take(&mut self.leaves);
        Outline::new(self.len, leaves).map_err(|_| StoreError::TooLarge)
    }

    fn adopt(&self, outline: &Outline) -> Result<BlobRef, StoreError> {
        self.file.sync_all().map_err(StoreError::io("sync blob"))?;
        self.store.adopt(&self.path, outline)?;
        Ok(outline.blob())
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk is hashed once more comes: only then is it known not to be the only one.
        if self.buffer.len() as u64 == CHUNK_LEN {
            let chunk = self.leaves.len() as u64;
            self.leaves
                .push(ChunkHash::of(u64::MAX, chunk, &self.buffer));
            self.buffer.clear();
        }
        let room = CHUNK_LEN as usize - self.buffer.len();
        let taken = self.file.write(&bytes[..bytes.len().min(room)])?;
        self.buffer.extend_from_slice(&bytes[..taken]);
        self.len += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for BlobWriter {
    /// After `finish` the file has another name, and there is nothing to remove.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The outline of a file that nothing is known of.
fn outline_of(file: &mut impl Read, len: u64) -> Result<Outline, StoreError> {
    let mut hashes = Vec::new();
    let mut buffer = Vec::with_capacity(CHUNK_LEN as usize);
    loop {
        buffer.clear();
        let mut chunk = file.by_ref().take(CHUNK_LEN);
        chunk
            .read_to_end(&mut buffer)
            .map_err(StoreError::io("read blob"))?;
        if buffer.is_empty() {
            return Outline::new(len, hashes).map_err(|_| StoreError::TooLarge);
        }
        hashes.push(ChunkHash::of(len, hashes.len() as u64, &buffer));
    }
}

fn read_dir(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(folder).map_err(StoreError::io("read folder"))?;
    entries
        .map(|entry| {
            entry
                .map(|entry| entry.path())
                .map_err(StoreError::io("read folder"))
        })
        .collect()
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

const BLOBS: &str = "blobs";
const PARTIAL: &str = "partial";
const OUTLINE: &str = "outline";

#[cfg(test)]
mod tests;
