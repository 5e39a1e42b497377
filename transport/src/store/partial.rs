//! A blob being received.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use protocol::transfer::{BlobRef, Outline};

use super::{BlobStore, StoreError};

/// The file of a blob that is not complete. It outlives connections and processes.
#[derive(Debug)]
pub(crate) struct Partial {
    store: BlobStore,
    path: PathBuf,
    file: File,
    blob: BlobRef,
    /// Bytes there were on opening; none beyond can be verified already.
    found: u64,
    /// Bytes written since the last sync began.
    unsynced: u64,
    /// A sync under way.
    sync: Option<JoinHandle<io::Result<()>>>,
}

impl Partial {
    pub(super) fn open(store: BlobStore, path: PathBuf, blob: BlobRef) -> Result<Self, StoreError> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let file = file.map_err(StoreError::io("open partial blob"))?;
        let found = file
            .metadata()
            .map_err(StoreError::io("look at partial blob"))?
            .len();
        if found > blob.len {
            file.set_len(blob.len)
                .map_err(StoreError::io("cut partial blob"))?;
        }
        Ok(Self {
            store,
            path,
            file,
            blob,
            found,
            unsynced: 0,
            sync: None,
        })
    }

    /// Chunks that are on disk already, found by hashing: nothing else says so after a crash.
    pub(crate) fn verified(&self, outline: &Outline) -> impl Iterator<Item = u64> {
        let mut bytes = Vec::new();
        (0..self.blob.chunks()).filter(move |&chunk| {
            let range = self.blob.range(chunk);
            if range.end > self.found {
                return false;
            }
            bytes.resize((range.end - range.start) as usize, 0);
            self.file.read_exact_at(&mut bytes, range.start).is_ok()
                && outline.matches(chunk, &bytes)
        })
    }

    /// Writes a verified chunk. The disk is kept busy meanwhile, so that the last sync is short; if it
    /// is slower than what arrives, it is waited for.
    pub(crate) fn write(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<(), StoreError> {
        self.file
            .write_all_at(bytes, range.start)
            .map_err(StoreError::io("write blob"))?;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_EVERY {
            self.unsynced = 0;
            self.end_sync()?;
            let file = self.file.try_clone().map_err(StoreError::io("sync blob"))?;
            let sync = thread::Builder::new().spawn(move || file.sync_data());
            self.sync = Some(sync.map_err(StoreError::io("sync blob"))?);
        }
        Ok(())
    }

    fn end_sync(&mut self) -> Result<(), StoreError> {
        let Some(sync) = self.sync.take() else {
            return Ok(());
        };
        let panicked = |_| Err(io::Error::other("the sync panicked"));
        sync.join()
            .unwrap_or_else(panicked)
            .map_err(StoreError::io("sync blob"))
    }

    /// Makes it durable, under its own name.
    pub(crate) fn finish(mut self, outline: &Outline) -> Result<(), StoreError> {
        self.end_sync()?;
        self.file.sync_all().map_err(StoreError::io("sync blob"))?;
        self.store.adopt(&self.path, outline)
    }
}

/// Bytes after which a sync begins.
const SYNC_EVERY: u64 = 32 << 20;
