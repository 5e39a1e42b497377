//! Moving a blob: verified chunk by chunk, resumed by asking for what is missing. Sans-IO.
//!
//! A blob is cut into chunks of 1 MiB. A chunk's hash is the BLAKE3 chaining value of its subtree,
//! so the hashes of all chunks merge into the blob's own digest: an [`Outline`] proves itself, and
//! every byte is hashed once.
//!
//! ```text
//!   sender                                  receiver
//!     │ ── Manifest (signed) ────────────────▶ │   may be refused: Rejection
//!     │ ◀────────────── Want ───────────────── │   a download begins with this
//!     │ ── OutlinePage… ─────────────────────▶ │
//!     │ ◀────────────── Have ───────────────── │   what is on disk already, verified
//!     │ ── chunks that are missing ──────────▶ │   each on a stream of its own
//!     │ ◀────────────── Resend ─────────────── │   a chunk did not match its hash
//!     │ ── that chunk ───────────────────────▶ │
//!     │ ◀───────── Receipt (signed) ────────── │   complete, verified, durable
//! ```
//!
//! After a cut the same exchange happens again from the top, and `Have` says more. There is no
//! other way to resume, and none is needed. A receiver that has the whole blob answers with the
//! receipt at once, so sending twice is the same as sending once.

use std::ops::Range;

use bincode::{Decode, Encode};

use crate::ids::Digest;

mod bitmap;
mod chunk_header;
mod outline;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

pub use bitmap::{Bitmap, BitmapError};
pub use chunk_header::{ChunkHeader, ChunkHeaderError};
pub use outline::{ChunkHash, Outline, OutlineError};
pub use receiver::{Accepted, ReceiveError, Receiver};
pub use sender::{SendError, Sender};

/// Bytes of a chunk; the last one of a blob may be shorter.
pub const CHUNK_LEN: u64 = 1 << 20;
/// Hashes of one [`OutlinePage`](crate::message::OutlinePage): 128 KiB.
pub const OUTLINE_PAGE: usize = 4096;
/// Most chunks of a blob: 1 TiB.
pub const MAX_CHUNKS: u64 = 1 << 20;
/// Damaged chunks after which a receiver gives up on a sender.
pub const MAX_DAMAGED: u32 = 64;

/// A blob, by content and length.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Encode, Decode)]
pub struct BlobRef {
    /// BLAKE3 of the bytes.
    pub digest: Digest,
    /// How many.
    pub len: u64,
}

impl BlobRef {
    /// The blob of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            digest: Digest::of(bytes),
            len: bytes.len() as u64,
        }
    }

    /// How many chunks it has.
    pub fn chunks(self) -> u64 {
        self.len.div_ceil(CHUNK_LEN)
    }

    /// Bytes of one chunk; empty past the end.
    pub fn range(self, chunk: u64) -> Range<u64> {
        let start = chunk.saturating_mul(CHUNK_LEN).min(self.len);
        start..start.saturating_add(CHUNK_LEN).min(self.len)
    }
}
