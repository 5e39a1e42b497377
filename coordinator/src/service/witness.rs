//! A blob that is hashed as it is read: what was folded is what its name says, and no byte is read twice.

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use protocol::Digest;

use crate::aggregate::ReadAt;
use crate::blobs::Blobs;

/// An open blob. A fold reads each update from its first byte to its last, some after a first pass over
/// a part of it; each pass begins a new hash, and the last one is [checked](Self::is_whole).
pub(super) struct Witness<'a> {
    blobs: &'a Blobs,
    digest: Digest,
    file: File,
    hashed: Mutex<Hashed>,
}

/// The bytes from the first one up to `end`.
#[derive(Default)]
struct Hashed {
    hasher: blake3::Hasher,
    end: u64,
}

impl<'a> Witness<'a> {
    /// Opens a blob.
    pub(super) fn open(blobs: &'a Blobs, digest: Digest) -> io::Result<Self> {
        Ok(Self {
            blobs,
            digest,
            file: blobs.read(digest)?,
            hashed: Mutex::default(),
        })
    }

    /// The blob.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether the bytes that were read are what the blob's name says. Of a blob that was not read to
    /// its end, in order, whether those on disk are: it is read now.
    pub(super) fn is_whole(&self) -> io::Result<bool> {
        let hashed = self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        if hashed.end == self.file.size()? {
            return Ok(Digest::from(hashed.hasher.finalize()) == self.digest);
        }
        self.blobs.verify(self.digest)
    }
}

impl ReadAt for Witness<'_> {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)?;
        let mut hashed = self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        if offset == 0 {
            *hashed = Hashed::default();
        }
        if offset == hashed.end {
            hashed.hasher.update(bytes);
            hashed.end += bytes.len() as u64;
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads these ranges of a blob that holds `stored` under the name of `named`.
    fn is_whole(named: &[u8], stored: &[u8], ranges: &[std::ops::Range<u64>]) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().to_owned()).unwrap();
        let digest = Digest::of(named);
        std::fs::create_dir_all(blobs.path(digest).parent().unwrap()).unwrap();
        std::fs::write(blobs.path(digest), stored).unwrap();
        let witness = Witness::open(&blobs, digest).unwrap();
        for range in ranges {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            witness.read_exact_at(&mut bytes, range.start).unwrap();
            assert_eq!(bytes, stored[range.start as usize..range.end as usize]);
        }
        witness.is_whole().unwrap()
    }

    #[test]
    fn damage_is_found_wherever_it_lies_and_however_the_blob_was_read() {
        let bytes: Vec<u8> = (0..5000_u32).map(|place| place as u8).collect();
        let orders: [&[std::ops::Range<u64>]; 5] = [
            &[0..2000, 2000..4999, 4999..5000],
            // A first pass over a part.
            &[0..1000, 1000..3000, 0..5000],
            &[0..1000, 4000..5000],
            &[4000..5000, 0..4000],
            &[],
        ];
        for ranges in orders {
            assert!(is_whole(&bytes, &bytes, ranges), "{ranges:?}");
            for place in [0, 1999, 2000, 4999] {
                let mut damaged = bytes.clone();
                damaged[place] ^= 1;
                assert!(
                    !is_whole(&bytes, &damaged, ranges),
                    "{ranges:?}, byte {place}"
                );
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(
                !is_whole(&bytes, &longer, ranges),
                "{ranges:?}, a byte more"
            );
        }
    }
}
