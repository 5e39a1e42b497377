//! The receiving end of one transfer.

use std::ops::Range;

use super::{
    Bitmap, BlobRef, CHUNK_LEN, ChunkHash, MAX_CHUNKS, MAX_DAMAGED, Outline, OutlineError,
};
use crate::ids::Digest;
use crate::message::{OutlinePage, Reason};

/// Why a transfer cannot go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReceiveError {
    /// More than [`MAX_DAMAGED`] chunks did not match.
    #[error("blob: {count} damaged chunks")]
    Damaged {
        /// How many.
        count: u32,
    },
    /// Longer than the receiver allows.
    #[error("blob: {found} bytes, expected at most {limit}")]
    TooLarge {
        /// Bytes announced.
        found: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The hashes are not the blob's.
    #[error(transparent)]
    Outline(#[from] OutlineError),
    /// A page out of order, or of another blob.
    #[error("outline: page at {found} of blob {blob:?}, expected {expected}")]
    Page {
        /// The page's blob.
        blob: Digest,
        /// The page's first chunk.
        found: u64,
        /// The chunk whose hash is wanted next.
        expected: u64,
    },
    /// A chunk before the outline was complete.
    #[error("chunk {chunk}: before the outline")]
    Early {
        /// The chunk.
        chunk: u64,
    },
}

impl From<ReceiveError> for Reason {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Damaged { count } => Self::Damaged { count },
            ReceiveError::TooLarge { found, limit } => Self::TooLarge { found, limit },
            other => Self::Invalid {
                defect: crate::bounded::Text::lossy(&other.to_string()),
            },
        }
    }
}

/// What to do with a chunk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Accepted {
    /// It did not match: ask for it again.
    Damaged,
    /// It is held already: do nothing.
    Duplicate,
    /// It is new and verified: write it to these bytes of the blob, then say
    /// [`stored`](Receiver::stored).
    New(Range<u64>),
}

/// Checks what arrives, and knows what is missing.
///
/// Feed it the outline's pages, mark what is on disk already with [`stored`](Self::stored), answer
/// with [`have`](Self::have), feed it chunks until [`is_complete`](Self::is_complete).
#[derive(Debug)]
pub struct Receiver {
    blob: BlobRef,
    hashes: Vec<ChunkHash>,
    outline: Option<Outline>,
    have: Bitmap,
    damaged: u32,
}

impl Receiver {
    /// A transfer of `blob`, of which nothing is held yet.
    ///
    /// # Errors
    /// If it is longer than `limit` bytes or than any blob may be.
    pub fn new(blob: BlobRef, limit: u64) -> Result<Self, ReceiveError> {
        let limit = limit.min(MAX_CHUNKS * CHUNK_LEN);
        if blob.len > limit {
            return Err(ReceiveError::TooLarge {
                found: blob.len,
                limit,
            });
        }
        let have = Bitmap::empty(blob.chunks());
        let outline = Outline::prove(blob, Vec::new()).ok();
        if blob.len == 0 && outline.is_none() {
            return Err(OutlineError::Digest.into());
        }
        Ok(Self {
            blob,
            hashes: Vec::new(),
            outline,
            have,
            damaged: 0,
        })
    }

    /// What is received.
    pub fn blob(&self) -> BlobRef {
        self.blob
    }

    /// The outline, once it is complete and proven.
    pub fn outline(&self) -> Option<&Outline> {
        self.outline.as_ref()
    }

    /// Adds hashes. Pages come in order; those of a known outline are ignored.
    ///
    /// # Errors
    /// If a page is missing, or the hashes are not the blob's.
    pub fn page(&mut self, page: &OutlinePage) -> Result<(), ReceiveError> {
        let expected = self.hashes.len() as u64;
        let is_ours = page.blob == self.blob.digest;
        if is_ours && self.outline.is_some() {
            return Ok(());
        }
        if !is_ours || page.first != expected {
            return Err(ReceiveError::Page {
                blob: page.blob,
                found: page.first,
                expected,
            });
        }
        let found = expected + page.hashes.len() as u64;
        if found > self.blob.chunks() {
            let expected = self.blob.chunks();
            return Err(OutlineError::Count { expected, found }.into());
        }
        self.hashes.extend_from_slice(&page.hashes);
        if found == self.blob.chunks() {
            let hashes = std::mem::take(&mut self.hashes);
            self.outline = Some(Outline::prove(self.blob, hashes)?);
        }
        Ok(())
    }

    /// Forgets the pages of an outline that was cut short: the next connection begins anew.
    pub fn restart(&mut self) {
        self.hashes.clear();
    }

    /// What need not be sent.
    pub fn have(&self) -> &Bitmap {
        &self.have
    }

    /// Chunks that are still to come, in order.
    pub fn missing(&self) -> impl Iterator<Item = u64> {
        self.have.missing()
    }

    /// Judges a chunk.
    ///
    /// # Errors
    /// If the outline is not known yet, or too many chunks were damaged.
    pub fn accept(&mut self, chunk: u64, bytes: &[u8]) -> Result<Accepted, ReceiveError> {
        let outline = self.outline.as_ref().ok_or(ReceiveError::Early { chunk })?;
        if self.have.contains(chunk) {
            return Ok(Accepted::Duplicate);
        }
        if outline.matches(chunk, bytes) {
            return Ok(Accepted::New(self.blob.range(chunk)));
        }
        self.damaged += 1;
        if self.damaged > MAX_DAMAGED || chunk >= self.blob.chunks() {
            return Err(ReceiveError::Damaged {
                count: self.damaged,
            });
        }
        Ok(Accepted::Damaged)
    }

    /// A verified chunk was written.
    ///
    /// # Panics
    /// If there is no such chunk.
    pub fn stored(&mut self, chunk: u64) {
        self.have.insert(chunk);
    }

    /// Whether every chunk is held.
    pub fn is_complete(&self) -> bool {
        self.outline.is_some() && self.have.count() == self.have.len()
    }
}
