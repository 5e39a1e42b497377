//! The hashes of a blob's chunks, which prove themselves against its digest.

use bincode::{Decode, Encode};
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};

use super::{BlobRef, CHUNK_LEN, MAX_CHUNKS, OUTLINE_PAGE};
use crate::bounded::List;
use crate::ids::Digest;
use crate::message::OutlinePage;

/// BLAKE3 chaining value of one chunk's subtree; of a blob's only chunk, the blob's digest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode)]
pub struct ChunkHash([u8; Digest::LEN]);

impl ChunkHash {
    /// The hash of chunk `chunk` of a blob of `len` bytes.
    ///
    /// # Panics
    /// If `bytes` are not as long as that chunk is.
    pub fn of(len: u64, chunk: u64, bytes: &[u8]) -> Self {
        assert!(
            !bytes.is_empty() && bytes.len() as u64 <= CHUNK_LEN,
            "not a chunk"
        );
        if len <= CHUNK_LEN {
            return Self(*blake3::hash(bytes).as_bytes());
        }
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(chunk * CHUNK_LEN);
        Self(hasher.update(bytes).finalize_non_root())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; Digest::LEN] {
        &self.0
    }
}

impl From<[u8; Digest::LEN]> for ChunkHash {
    fn from(bytes: [u8; Digest::LEN]) -> Self {
        Self(bytes)
    }
}

/// Why hashes are not a blob's outline.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OutlineError {
    /// Not as many hashes as the blob has chunks.
    #[error("outline: {found} hashes, expected {expected}")]
    Count {
        /// Chunks of the blob.
        expected: u64,
        /// Hashes found.
        found: u64,
    },
    /// The hashes do not merge into the blob's digest.
    #[error("outline: hashes do not make up the blob's digest")]
    Digest,
    /// A blob of more than [`MAX_CHUNKS`].
    #[error("blob: {len} bytes, expected at most {}", MAX_CHUNKS * CHUNK_LEN)]
    Length {
        /// Bytes of the blob.
        len: u64,
    },
}

/// The hashes of all chunks of a blob, proven.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outline {
    blob: BlobRef,
    hashes: Vec<ChunkHash>,
}

impl Outline {
    /// The outline of a blob of `len` bytes whose chunks have these hashes.
    ///
    /// # Errors
    /// If there are not as many hashes as chunks, or too many.
    pub fn new(len: u64, hashes: Vec<ChunkHash>) -> Result<Self, OutlineError> {
        let (expected, found) = (len.div_ceil(CHUNK_LEN), hashes.len() as u64);
        if expected > MAX_CHUNKS {
            return Err(OutlineError::Length { len });
        }
        if expected != found {
            return Err(OutlineError::Count { expected, found });
        }
        Ok(Self {
            blob: BlobRef {
                digest: root(&hashes),
                len,
            },
            hashes,
        })
    }

    /// The outline of `blob`, if `hashes` are its chunks'.
    ///
    /// # Errors
    /// If they are not.
    pub fn prove(blob: BlobRef, hashes: Vec<ChunkHash>) -> Result<Self, OutlineError> {
        let outline = Self::new(blob.len, hashes)?;
        if outline.blob == blob {
            Ok(outline)
        } else {
            Err(OutlineError::Digest)
        }
    }

    /// The outline of bytes in memory.
    ///
    /// # Errors
    /// If there are more than a blob may have.
    pub fn of(bytes: &[u8]) -> Result<Self, OutlineError> {
        let len = bytes.len() as u64;
        let chunks = bytes.chunks(CHUNK_LEN as usize).enumerate();
        let hashes = chunks.map(|(chunk, bytes)| ChunkHash::of(len, chunk as u64, bytes));
        Self::new(len, hashes.collect())
    }

    /// The blob.
    pub fn blob(&self) -> BlobRef {
        self.blob
    }

    /// The hashes, one a chunk.
    pub fn hashes(&self) -> &[ChunkHash] {
        &self.hashes
    }

    /// Whether `bytes` are that chunk.
    pub fn matches(&self, chunk: u64, bytes: &[u8]) -> bool {
        let range = self.blob.range(chunk);
        let expected = usize::try_from(chunk)
            .ok()
            .and_then(|chunk| self.hashes.get(chunk));
        expected.is_some_and(|&expected| {
            range.end - range.start == bytes.len() as u64
                && ChunkHash::of(self.blob.len, chunk, bytes) == expected
        })
    }

    /// The outline as messages.
    pub fn pages(&self) -> impl Iterator<Item = OutlinePage> {
        let blob = self.blob.digest;
        self.hashes
            .chunks(OUTLINE_PAGE)
            .enumerate()
            .map(move |(page, hashes)| OutlinePage {
                blob,
                first: (page * OUTLINE_PAGE) as u64,
                hashes: List::new(hashes.to_vec()).expect("a page is as long as the list allows"),
            })
    }
}

/// The digest of the whole from the hashes of its chunks (BLAKE3 §2.1: the left subtree is the
/// largest power of two of chunks that leaves something for the right).
fn root(hashes: &[ChunkHash]) -> Digest {
    match hashes {
        [] => Digest::of(&[]),
        [only] => Digest::from(only.0),
        _ => {
            let (left, right) = split(hashes);
            merge_subtrees_root(&merge(left), &merge(right), Mode::Hash).into()
        }
    }
}

fn merge(hashes: &[ChunkHash]) -> ChainingValue {
    if let [only] = hashes {
        return only.0;
    }
    let (left, right) = split(hashes);
    merge_subtrees_non_root(&merge(left), &merge(right), Mode::Hash)
}

fn split(hashes: &[ChunkHash]) -> (&[ChunkHash], &[ChunkHash]) {
    hashes.split_at(hashes.len().next_power_of_two() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn hashes_of_chunks_merge_into_the_digest_of_the_whole() {
        let mib = CHUNK_LEN as usize;
        for len in [
            0,
            1,
            1024,
            mib - 1,
            mib,
            mib + 1,
            2 * mib,
            3 * mib,
            5 * mib + 7,
            8 * mib,
        ] {
            let bytes = bytes(len);
            let outline = Outline::of(&bytes).unwrap();
            assert_eq!(outline.blob(), BlobRef::of(&bytes), "{len} bytes");
            assert!(Outline::prove(outline.blob(), outline.hashes().to_vec()).is_ok());
        }
    }

    #[test]
    fn a_false_outline_is_refused() {
        let bytes = bytes(3 * CHUNK_LEN as usize + 5);
        let outline = Outline::of(&bytes).unwrap();
        let mut swapped = outline.hashes().to_vec();
        swapped.swap(0, 1);
        assert_eq!(
            Outline::prove(outline.blob(), swapped),
            Err(OutlineError::Digest)
        );
        let short = outline.hashes()[1..].to_vec();
        let count = OutlineError::Count {
            expected: 4,
            found: 3,
        };
        assert_eq!(Outline::prove(outline.blob(), short), Err(count));
        let len = MAX_CHUNKS * CHUNK_LEN + 1;
        assert_eq!(Outline::new(len, vec![]), Err(OutlineError::Length { len }));
    }

    #[test]
    fn a_chunk_matches_only_in_its_place_and_whole() {
        let bytes = bytes(2 * CHUNK_LEN as usize + 5);
        let outline = Outline::of(&bytes).unwrap();
        let chunk = |index: u64| {
            let range = outline.blob().range(index);
            &bytes[range.start as usize..range.end as usize]
        };
        assert!((0..3).all(|index| outline.matches(index, chunk(index))));
        assert!(!outline.matches(0, chunk(1)));
        assert!(!outline.matches(2, &chunk(2)[..4]));
        assert!(!outline.matches(3, &[]));
        assert!(!outline.matches(u64::MAX, chunk(0)));
    }

    #[test]
    fn pages_cover_the_outline_in_order() {
        let len = (OUTLINE_PAGE as u64 + 3) * CHUNK_LEN;
        let hashes = (0..OUTLINE_PAGE as u32 + 3).map(|chunk| {
            let mut hash = [0; Digest::LEN];
            hash[..4].copy_from_slice(&chunk.to_le_bytes());
            ChunkHash(hash)
        });
        let outline = Outline::new(len, hashes.collect()).unwrap();
        let pages: Vec<_> = outline.pages().collect();
        assert_eq!(
            pages.iter().map(|page| page.first).collect::<Vec<_>>(),
            [0, 4096]
        );
        let joined: Vec<_> = pages
            .iter()
            .flat_map(|page| page.hashes.iter().copied())
            .collect();
        assert_eq!(joined, outline.hashes());
    }
}
