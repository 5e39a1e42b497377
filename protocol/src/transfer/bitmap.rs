//! A set of chunks.

use bincode::de::Decoder;
use bincode::error::DecodeError;
use bincode::{Decode, Encode};

use super::MAX_CHUNKS;

/// A set of chunks: one bit each, the first chunk in the lowest bit of the first byte.
#[derive(Clone, Debug, Default, Eq, PartialEq, Encode)]
pub struct Bitmap {
    len: u64,
    bytes: Vec<u8>,
}

/// Why bytes are not a bitmap.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BitmapError {
    /// More than [`MAX_CHUNKS`] bits, or not as many bytes as they take.
    #[error("bitmap: {bytes} bytes for {len} bits")]
    Length {
        /// Bits announced.
        len: u64,
        /// Bytes found.
        bytes: usize,
    },
    /// A bit is set after the last.
    #[error("bitmap: a bit is set after the last")]
    Excess,
}

impl Bitmap {
    /// No chunk of `len`.
    pub fn empty(len: u64) -> Self {
        Self {
            len,
            bytes: vec![0; len.div_ceil(8) as usize],
        }
    }

    /// Chunks there are, in the set or not.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no chunk is in the set.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Chunks in the set.
    pub fn count(&self) -> u64 {
        self.bytes
            .iter()
            .map(|byte| u64::from(byte.count_ones()))
            .sum()
    }

    /// Whether a chunk is in the set.
    pub fn contains(&self, chunk: u64) -> bool {
        chunk < self.len && self.bytes[(chunk / 8) as usize] & (1 << (chunk % 8)) != 0
    }

    /// Adds a chunk; `false` if it was in the set.
    ///
    /// # Panics
    /// If there is no such chunk.
    pub fn insert(&mut self, chunk: u64) -> bool {
        assert!(chunk < self.len, "chunk {chunk} of {}", self.len);
        let (byte, bit) = (&mut self.bytes[(chunk / 8) as usize], 1 << (chunk % 8));
        let is_new = *byte & bit == 0;
        *byte |= bit;
        is_new
    }

    /// Chunks not in the set, in order.
    pub fn missing(&self) -> impl Iterator<Item = u64> {
        (0..self.len).filter(|&chunk| !self.contains(chunk))
    }

    fn check(len: u64, bytes: Vec<u8>) -> Result<Self, BitmapError> {
        if len > MAX_CHUNKS || bytes.len() as u64 != len.div_ceil(8) {
            return Err(BitmapError::Length {
                len,
                bytes: bytes.len(),
            });
        }
        let unused = bytes.len() as u64 * 8 - len;
        match bytes.last() {
            Some(last) if u64::from(last.leading_zeros()) < unused => Err(BitmapError::Excess),
            _ => Ok(Self { len, bytes }),
        }
    }
}

impl<Context> Decode<Context> for Bitmap {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::check(u64::decode(decoder)?, Vec::decode(decoder)?)
            .map_err(|error| DecodeError::OtherString(error.to_string()))
    }
}

bincode::impl_borrow_decode!(Bitmap);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inserted_is_not_missing() {
        let mut have = Bitmap::empty(11);
        assert!(have.insert(0) && have.insert(10) && !have.insert(10));
        assert_eq!(have.count(), 2);
        assert_eq!(
            have.missing().collect::<Vec<_>>(),
            (1..10).collect::<Vec<_>>()
        );
        assert!(!have.contains(11));
    }

    #[test]
    fn bits_and_bytes_must_agree() {
        assert!(Bitmap::check(11, vec![0xff, 0b111]).is_ok());
        assert!(Bitmap::check(0, vec![]).is_ok());
        assert_eq!(
            Bitmap::check(11, vec![0xff, 0b1000]),
            Err(BitmapError::Excess)
        );
        let short = Bitmap::check(11, vec![0xff]);
        assert_eq!(short, Err(BitmapError::Length { len: 11, bytes: 1 }));
        let huge = Bitmap::check(u64::MAX, vec![]);
        assert_eq!(
            huge,
            Err(BitmapError::Length {
                len: u64::MAX,
                bytes: 0
            })
        );
    }
}
