//! What stands before a chunk's bytes, on a stream or in a record of its own.

use super::{CHUNK_LEN, MAX_CHUNKS};
use crate::ids::Digest;

/// Which chunk follows, and how long it is.
///
/// ```text
/// ┌─────────┬───────────┬────────────┐
/// │ blob 32 │ chunk u64 │ length u32 │   little-endian
/// └─────────┴───────────┴────────────┘
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChunkHeader {
    /// The blob.
    pub blob: Digest,
    /// The chunk.
    pub chunk: u64,
    /// Its bytes.
    pub len: u32,
}

/// A header that no chunk can have.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("chunk {chunk} of {len} bytes, expected less than {MAX_CHUNKS} and 1 to {CHUNK_LEN}")]
pub struct ChunkHeaderError {
    /// The chunk found.
    pub chunk: u64,
    /// The length found.
    pub len: u32,
}

impl ChunkHeader {
    /// Bytes of a header.
    pub const LEN: usize = Digest::LEN + 8 + 4;

    /// The header as bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..32].copy_from_slice(self.blob.as_bytes());
        bytes[32..40].copy_from_slice(&self.chunk.to_le_bytes());
        bytes[40..].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// If no chunk can have such a number or length.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, ChunkHeaderError> {
        let (blob, rest) = bytes
            .split_first_chunk::<32>()
            .expect("44 bytes begin with 32");
        let (chunk, len) = rest
            .split_first_chunk::<8>()
            .expect("12 bytes begin with 8");
        let len = u32::from_le_bytes(*len.first_chunk().expect("4 bytes are left"));
        let chunk = u64::from_le_bytes(*chunk);
        if chunk >= MAX_CHUNKS || len == 0 || u64::from(len) > CHUNK_LEN {
            return Err(ChunkHeaderError { chunk, len });
        }
        Ok(Self {
            blob: Digest::from(*blob),
            chunk,
            len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_keeps_its_bytes() {
        let header = ChunkHeader {
            blob: Digest::from([0xab; 32]),
            chunk: 0x0102,
            len: 0x0a0b0c,
        };
        let mut bytes = [0; ChunkHeader::LEN];
        bytes[..32].fill(0xab);
        bytes[32..34].copy_from_slice(&[0x02, 0x01]);
        bytes[40..43].copy_from_slice(&[0x0c, 0x0b, 0x0a]);
        assert_eq!(header.encode(), bytes);
        assert_eq!(ChunkHeader::decode(&bytes), Ok(header));
    }

    #[test]
    fn impossible_chunks_are_refused() {
        let good = ChunkHeader {
            blob: Digest::of(b""),
            chunk: 0,
            len: 1,
        };
        for bad in [
            ChunkHeader { len: 0, ..good },
            ChunkHeader {
                len: CHUNK_LEN as u32 + 1,
                ..good
            },
            ChunkHeader {
                chunk: MAX_CHUNKS,
                ..good
            },
        ] {
            assert!(ChunkHeader::decode(&bad.encode()).is_err());
        }
    }
}
