//! A blob from its beginning to its end, verified.

use std::io::{self, Read, Seek, SeekFrom};

use protocol::transfer::{BlobRef, CHUNK_LEN};

use super::Blob;

/// Bytes of a blob in order, for code that takes a file. Each chunk is verified before a byte of it
/// is given out; one chunk (1 MiB) is held in memory.
///
/// A read that fails because of the store has its [`StoreError`](super::StoreError) inside.
#[derive(Debug)]
pub struct BlobReader {
    blob: Blob,
    position: u64,
    /// The chunk that `bytes` are of.
    held: Option<u64>,
    bytes: Vec<u8>,
}

impl BlobReader {
    pub(super) fn new(blob: Blob) -> Self {
        Self {
            blob,
            position: 0,
            held: None,
            bytes: Vec::new(),
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let BlobRef { len, .. } = self.blob.blob();
        if self.position >= len {
            return Ok(0);
        }
        let chunk = self.position / CHUNK_LEN;
        if self.held != Some(chunk) {
            self.held = None;
            let read = self.blob.read_chunk(chunk, &mut self.bytes);
            read.map_err(io::Error::other)?;
            self.held = Some(chunk);
        }
        let rest = &self.bytes[(self.position % CHUNK_LEN) as usize..];
        let taken = rest.len().min(out.len());
        out[..taken].copy_from_slice(&rest[..taken]);
        self.position += taken as u64;
        Ok(taken)
    }
}

impl Seek for BlobReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.blob.blob().len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
