//! Reading, verified.

use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::Digest;
use protocol::transfer::{BlobRef, CHUNK_LEN, ChunkHash, Outline};

use super::{BlobReader, OUTLINE, StoreError, outline_of};

/// A complete blob, open to read. Reads are verified chunk by chunk.
#[derive(Clone, Debug)]
pub struct Blob {
    file: Arc<File>,
    outline: Arc<Outline>,
}

impl Blob {
    pub(super) fn open(path: &Path, digest: Digest) -> Result<Self, StoreError> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::Missing(digest));
            }
            Err(error) => return Err(StoreError::io("open blob")(error)),
        };
        let len = file
            .metadata()
            .map_err(StoreError::io("look at blob"))?
            .len();
        let blob = BlobRef { digest, len };
        let outline = match load_outline(path, blob) {
            Some(outline) => outline,
            None => {
                let outline = outline_of(&mut file, len)?;
                if outline.blob() != blob {
                    return Err(StoreError::Damaged {
                        blob: digest,
                        chunk: 0,
                    });
                }
                save_outline(path, &outline)?;
                outline
            }
        };
        Ok(Self {
            file: Arc::new(file),
            outline: Arc::new(outline),
        })
    }

    /// Digest and length.
    pub fn blob(&self) -> BlobRef {
        self.outline.blob()
    }

    /// The hashes of its chunks.
    pub fn outline(&self) -> &Arc<Outline> {
        &self.outline
    }

    /// One chunk of 1 MiB; the last one may be shorter.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or there is no such chunk.
    pub fn chunk(&self, chunk: u64) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        self.read_chunk(chunk, &mut bytes)?;
        Ok(bytes)
    }

    /// The same, into memory that is there already.
    pub(super) fn read_chunk(&self, chunk: u64, bytes: &mut Vec<u8>) -> Result<(), StoreError> {
        let range = self.blob().range(chunk);
        bytes.resize((range.end - range.start) as usize, 0);
        let read = self.file.read_exact_at(bytes, range.start);
        read.map_err(StoreError::io("read blob"))?;
        if self.outline.matches(chunk, bytes) {
            Ok(())
        } else {
            Err(StoreError::Damaged {
                blob: self.blob().digest,
                chunk,
            })
        }
    }

    /// Any bytes. Whole chunks around them are read and verified, so ask for long ranges.
    ///
    /// # Errors
    /// If they cannot be read, are damaged, or lie outside of the blob.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let BlobRef { digest: blob, len } = self.blob();
        let Range { start, end } = range;
        if start > end || end > len {
            return Err(StoreError::Range {
                blob,
                start,
                end,
                len,
            });
        }
        let mut bytes = Vec::with_capacity((end - start) as usize);
        for chunk in start / CHUNK_LEN..end.div_ceil(CHUNK_LEN) {
            let held = self.blob().range(chunk);
            let from = start.max(held.start) - held.start;
            let to = end.min(held.end) - held.start;
            bytes.extend_from_slice(&self.chunk(chunk)?[from as usize..to as usize]);
        }
        Ok(bytes)
    }

    /// All of it from the beginning, as a file is read.
    pub fn reader(&self) -> BlobReader {
        BlobReader::new(self.clone())
    }

    /// Reads all of it, to find damage.
    ///
    /// # Errors
    /// The first chunk that is damaged.
    pub fn verify(&self) -> Result<(), StoreError> {
        (0..self.blob().chunks()).try_for_each(|chunk| self.chunk(chunk).map(drop))
    }
}

/// Writes the outline beside the blob. Not synced: it can be made anew, and proves itself.
pub(super) fn save_outline(path: &Path, outline: &Outline) -> Result<(), StoreError> {
    let bytes: Vec<u8> = outline
        .hashes()
        .iter()
        .flat_map(|hash| *hash.as_bytes())
        .collect();
    fs::write(outline_path(path), bytes).map_err(StoreError::io("write outline"))
}

fn load_outline(path: &Path, blob: BlobRef) -> Option<Outline> {
    let limit = blob.chunks() * Digest::LEN as u64;
    let mut bytes = Vec::new();
    let file = File::open(outline_path(path)).ok()?;
    file.take(limit + 1).read_to_end(&mut bytes).ok()?;
    let (hashes, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return None;
    }
    Outline::prove(
        blob,
        hashes.iter().map(|&hash| ChunkHash::from(hash)).collect(),
    )
    .ok()
}

fn outline_path(path: &Path) -> PathBuf {
    path.with_added_extension(OUTLINE)
}
