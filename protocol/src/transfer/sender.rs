//! The sending end of one transfer.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Bitmap, BlobRef, Outline};
use crate::ids::Digest;

/// Why a peer's answer makes no sense.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SendError {
    /// A bitmap of another length than the blob has chunks.
    #[error("have: {found} chunks, expected {expected}")]
    Have {
        /// Chunks of the blob.
        expected: u64,
        /// Bits found.
        found: u64,
    },
    /// A chunk the blob does not have.
    #[error("resend: no chunk {chunk}")]
    Chunk {
        /// The chunk asked for.
        chunk: u64,
    },
    /// A receipt for something else.
    #[error("receipt: for blob {found:?}, expected {expected:?}")]
    Receipt {
        /// The blob that was sent.
        expected: Digest,
        /// The blob in the receipt.
        found: Digest,
    },
}

/// Decides which chunk goes next.
///
/// Send the manifest and the outline's pages; feed the peer's answers to [`have`](Self::have),
/// [`resend`](Self::resend) and [`receipt`](Self::receipt); send what
/// [`next_chunk`](Self::next_chunk) says until [`is_done`](Self::is_done).
#[derive(Debug)]
pub struct Sender {
    outline: Arc<Outline>,
    queue: VecDeque<u64>,
    bytes_queued: u64,
    is_done: bool,
}

impl Sender {
    /// A transfer that nothing was said about yet.
    pub fn new(outline: Arc<Outline>) -> Self {
        Self {
            outline,
            queue: VecDeque::new(),
            bytes_queued: 0,
            is_done: false,
        }
    }

    /// What is sent.
    pub fn outline(&self) -> &Outline {
        &self.outline
    }

    /// The receiver holds these chunks: all others are to be sent, from the first.
    ///
    /// # Errors
    /// If the bitmap is of another length.
    pub fn have(&mut self, have: &Bitmap) -> Result<(), SendError> {
        let expected = self.outline.blob().chunks();
        if have.len() != expected {
            return Err(SendError::Have {
                expected,
                found: have.len(),
            });
        }
        self.queue = have.missing().collect();
        self.bytes_queued = self.queue.iter().map(|&chunk| self.len_of(chunk)).sum();
        Ok(())
    }

    /// A chunk arrived damaged: it goes before all others.
    ///
    /// # Errors
    /// If there is no such chunk.
    pub fn resend(&mut self, chunk: u64) -> Result<(), SendError> {
        if chunk >= self.outline.blob().chunks() {
            return Err(SendError::Chunk { chunk });
        }
        if !self.queue.contains(&chunk) {
            self.bytes_queued += self.len_of(chunk);
            self.queue.push_front(chunk);
        }
        Ok(())
    }

    /// The receiver has it all, for good.
    ///
    /// # Errors
    /// If it is about another blob.
    pub fn receipt(&mut self, blob: BlobRef) -> Result<(), SendError> {
        let expected = self.outline.blob();
        if blob != expected {
            let (expected, found) = (expected.digest, blob.digest);
            return Err(SendError::Receipt { expected, found });
        }
        self.queue.clear();
        self.bytes_queued = 0;
        self.is_done = true;
        Ok(())
    }

    /// The chunk to send now; it is not named again unless the receiver asks.
    pub fn next_chunk(&mut self) -> Option<u64> {
        let chunk = self.queue.pop_front()?;
        self.bytes_queued -= self.len_of(chunk);
        Some(chunk)
    }

    /// Bytes that are still to be sent.
    pub fn bytes_queued(&self) -> u64 {
        self.bytes_queued
    }

    /// Whether the receipt has come.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    fn len_of(&self, chunk: u64) -> u64 {
        let range = self.outline.blob().range(chunk);
        range.end - range.start
    }
}
