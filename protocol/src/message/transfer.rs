//! Blobs: announced, asked for, held, received. The order of these messages is in
//! [`crate::transfer`].

use bincode::{Decode, Encode};

use crate::bounded::List;
use crate::encoding::Encoding;
use crate::ids::{Digest, Round, RunId};
use crate::signed::Statement;
use crate::time::Timestamp;
use crate::transfer::{Bitmap, BlobRef, ChunkHash, OUTLINE_PAGE};

/// What a blob is. Signed by whoever made it.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Manifest {
    /// The bytes.
    pub blob: BlobRef,
    /// The run they belong to.
    pub run: RunId,
    /// The round they belong to.
    pub round: Round,
    /// Schema of the model they are of.
    pub schema: Digest,
    /// What they mean.
    pub content: Content,
}

impl Statement for Manifest {
    const CONTEXT: &'static str = "manifest";
}

/// What the bytes of a blob mean.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Content {
    /// A global model.
    Model {
        /// Global step it stands at.
        step: u64,
    },
    /// What a site's training changed.
    Update(UpdateFacts),
}

/// How an update came about.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct UpdateFacts {
    /// Digest of the model it started from.
    pub base: Digest,
    /// Examples trained on in the round.
    pub examples: u64,
    /// Optimizer steps taken.
    pub steps: u64,
    /// How its numbers are written, as the plan says.
    pub encoding: Encoding,
}

/// Asks for a blob.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Want {
    /// Which.
    pub blob: Digest,
}

/// Hashes of some of a blob's chunks.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub struct OutlinePage {
    /// The blob.
    pub blob: Digest,
    /// The chunk of the first hash.
    pub first: u64,
    /// One hash a chunk.
    pub hashes: List<ChunkHash, OUTLINE_PAGE>,
}

/// Chunks that need not be sent: the receiver holds them, verified.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Have {
    /// The blob.
    pub blob: Digest,
    /// One bit a chunk.
    pub chunks: Bitmap,
}

/// A chunk arrived damaged; it alone is sent again.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Resend {
    /// The blob.
    pub blob: Digest,
    /// The chunk.
    pub chunk: u64,
}

/// A blob is complete, verified, and on disk to stay. Signed by whoever holds it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Receipt {
    /// The blob.
    pub blob: BlobRef,
    /// When it was stored, by the holder's clock.
    pub stored: Timestamp,
}

impl Statement for Receipt {
    const CONTEXT: &'static str = "receipt";
}
