//! How the numbers of an update travel: 32-bit floats, bfloat16, or 8-bit blocks.
//!
//! Every encoding cuts a vector into blocks of [`BLOCK`] elements, so that a range that starts at a
//! block can be decoded by itself: aggregation reads the same column range of every staged update
//! and never holds a whole one.
//!
//! * [`Encoding::F32`]: little-endian IEEE 754, exact.
//! * [`Encoding::Bf16`]: the upper half of a float, rounded to nearest even.
//! * [`Encoding::Int8`]: per block one float scale, then one signed byte per element. Rounding is
//!   stochastic and therefore unbiased; with [`Feedback`] what rounding lost in one round is added
//!   in the next (Seide et al. 2014; Karimireddy et al. 2019, "Error feedback fixes SignSGD").

use std::ops::Range;

use bincode::{Decode, Encode};
use half::bf16;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Elements that share a scale, and the grain at which ranges are read.
pub const BLOCK: u64 = 256;

/// How numbers are written.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, Hash, Serialize, Deserialize, Encode, Decode,
)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Four bytes an element, exact.
    #[default]
    F32,
    /// Two bytes an element, relative error at most 2⁻⁸.
    Bf16,
    /// One byte an element and four for each block of 256; error below one 127th of the largest
    /// magnitude in the block.
    Int8,
}

/// Why bytes could not be decoded.
#[derive(Clone, Debug, Eq, PartialEq, Error)]
#[error("encoded values: {elements} elements take {expected} bytes, found {found}")]
pub struct EncodingError {
    /// Elements that were asked for.
    pub elements: usize,
    /// Bytes that many elements take.
    pub expected: u64,
    /// Bytes that were given.
    pub found: usize,
}

impl Encoding {
    /// Bytes that `elements` numbers take.
    pub fn encoded_len(self, elements: u64) -> u64 {
        match self {
            Self::F32 => elements * 4,
            Self::Bf16 => elements * 2,
            Self::Int8 => elements.div_ceil(BLOCK) * SCALE_BYTES + elements,
        }
    }

    /// Where `elements` lie in the encoded bytes.
    ///
    /// # Panics
    /// If the range starts inside a block: readers step by blocks.
    pub fn byte_range(self, elements: Range<u64>) -> Range<u64> {
        assert!(
            elements.start.is_multiple_of(BLOCK),
            "a range starts at a block"
        );
        self.encoded_len(elements.start)..self.encoded_len(elements.end)
    }

    /// Decodes exactly `values.len()` numbers, of a range that starts at a block.
    ///
    /// # Errors
    /// If `bytes` is not exactly as long as that many numbers take.
    pub fn decode(self, bytes: &[u8], values: &mut [f32]) -> Result<(), EncodingError> {
        let expected = self.encoded_len(values.len() as u64);
        if bytes.len() as u64 != expected {
            return Err(EncodingError {
                elements: values.len(),
                expected,
                found: bytes.len(),
            });
        }
        match self {
            Self::F32 => {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }
            Self::Bf16 => {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                    *value = bf16::from_le_bytes(*bytes).to_f32();
                }
            }
            Self::Int8 => decode_int8(bytes, values),
        }
        Ok(())
    }

    /// Encodes `values`, which start at element `first` of their vector, onto the end of `bytes`.
    ///
    /// `seed` steers stochastic rounding: the same seed, position and value give the same bytes,
    /// so an interrupted encoding can be redone exactly.
    ///
    /// # Panics
    /// If `first` lies inside a block.
    pub fn encode(self, values: &[f32], first: u64, seed: u64, bytes: &mut Vec<u8>) {
        assert!(first.is_multiple_of(BLOCK), "a range starts at a block");
        bytes.reserve(self.encoded_len(values.len() as u64) as usize);
        match self {
            Self::F32 => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::Bf16 => {
                bytes.extend(
                    values
                        .iter()
                        .flat_map(|&value| bf16::from_f32(value).to_le_bytes()),
                );
            }
            Self::Int8 => encode_int8(values, first, seed, bytes),
        }
    }

    /// Whether decoding gives back other numbers than were encoded.
    pub fn is_lossy(self) -> bool {
        self != Self::F32
    }
}

/// What encoding has lost so far, element by element; it is added to the next update.
///
/// Kept at the site, never sent.
#[derive(Clone, Default, PartialEq)]
pub struct Feedback {
    residual: Vec<f32>,
}

impl Feedback {
    /// Nothing lost yet.
    pub fn new(elements: usize) -> Self {
        Self {
            residual: vec![0.0; elements],
        }
    }

    /// Continues from what was lost before.
    pub fn from_residual(residual: Vec<f32>) -> Self {
        Self { residual }
    }

    /// What has been lost, element by element.
    pub fn residual(&self) -> &[f32] {
        &self.residual
    }

    /// Encodes `values` plus what was lost before, and keeps what this encoding loses.
    ///
    /// # Panics
    /// If `values` has another length than this feedback.
    pub fn encode(&mut self, encoding: Encoding, values: &[f32], seed: u64) -> Vec<u8> {
        assert_eq!(
            values.len(),
            self.residual.len(),
            "one residual for each element"
        );
        let mut bytes = Vec::new();
        let mut decoded = vec![0.0; CHUNK];
        for (index, (values, residual)) in values
            .chunks(CHUNK)
            .zip(self.residual.chunks_mut(CHUNK))
            .enumerate()
        {
            for (kept, value) in residual.iter_mut().zip(values) {
                *kept += value;
            }
            let start = bytes.len();
            encoding.encode(residual, (index * CHUNK) as u64, seed, &mut bytes);
            let decoded = &mut decoded[..residual.len()];
            encoding
                .decode(&bytes[start..], decoded)
                .expect("decodes what was just encoded");
            for (kept, sent) in residual.iter_mut().zip(decoded) {
                *kept -= *sent;
            }
        }
        bytes
    }
}

fn decode_int8(bytes: &[u8], values: &mut [f32]) {
    let stride = (BLOCK + SCALE_BYTES) as usize;
    for (block, values) in bytes.chunks(stride).zip(values.chunks_mut(BLOCK as usize)) {
        let (scale, levels) = block.split_at(SCALE_BYTES as usize);
        let scale = f32::from_le_bytes(scale.try_into().expect("four bytes"));
        for (value, &level) in values.iter_mut().zip(levels) {
            *value = f32::from(level.cast_signed()) * scale;
        }
    }
}

fn encode_int8(values: &[f32], first: u64, seed: u64, bytes: &mut Vec<u8>) {
    for (block, values) in values.chunks(BLOCK as usize).enumerate() {
        // A block with a value that is not finite gets a scale that is not: the receiver refuses
        // it, instead of never knowing.
        let largest = values.iter().fold(0.0_f32, |largest, value| {
            if value.is_nan() {
                f32::NAN
            } else {
                largest.max(value.abs())
            }
        });
        let finite = values.iter().all(|value| value.is_finite());
        let scale = if finite { largest / LEVELS } else { f32::NAN };
        bytes.extend(scale.to_le_bytes());
        let position = first + block as u64 * BLOCK;
        bytes.extend(values.iter().zip(position..).map(|(value, position)| {
            let level = if scale > 0.0 { value / scale } else { 0.0 };
            let level = (level + uniform(seed, position))
                .floor()
                .clamp(-LEVELS, LEVELS);
            (level as i8).cast_unsigned()
        }));
    }
}

/// A number in [0, 1) for each position: SplitMix64 (Steele et al. 2014) as a counter. It rounds
/// without bias; it hides nothing and need not.
fn uniform(seed: u64, position: u64) -> f32 {
    let mut z = seed.wrapping_add((position + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1_u64 << 24) as f32
}

const SCALE_BYTES: u64 = 4;

/// Levels on either side of zero.
const LEVELS: f32 = 127.0;

/// Elements encoded at a time under feedback.
const CHUNK: usize = 64 * BLOCK as usize;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    const ALL: [Encoding; 3] = [Encoding::F32, Encoding::Bf16, Encoding::Int8];

    fn round_trip(encoding: Encoding, values: &[f32], seed: u64) -> Vec<f32> {
        let mut bytes = Vec::new();
        encoding.encode(values, 0, seed, &mut bytes);
        assert_eq!(
            bytes.len() as u64,
            encoding.encoded_len(values.len() as u64)
        );
        let mut decoded = vec![0.0; values.len()];
        encoding.decode(&bytes, &mut decoded).unwrap();
        decoded
    }

    #[test]
    fn golden_bytes_of_each_encoding() {
        let values = [1.0_f32, -0.5, 0.0];
        let mut bytes = Vec::new();
        Encoding::F32.encode(&values, 0, 0, &mut bytes);
        assert_eq!(bytes, [0, 0, 0x80, 0x3f, 0, 0, 0, 0xbf, 0, 0, 0, 0]);
        bytes.clear();
        Encoding::Bf16.encode(&values, 0, 0, &mut bytes);
        assert_eq!(bytes, [0x80, 0x3f, 0, 0xbf, 0, 0]);
        bytes.clear();
        Encoding::Int8.encode(&values, 0, 0, &mut bytes);
        // 1/127 as a float; 127; -63.5 rounded down or up by the seed; 0.
        assert_eq!(bytes[..4], (1.0_f32 / 127.0).to_le_bytes());
        assert_eq!(bytes[4], 127);
        assert!([-64, -63].contains(&bytes[5].cast_signed()));
        assert_eq!(bytes[6], 0);
    }

    #[test]
    fn not_finite_values_stay_not_finite() {
        for encoding in ALL {
            for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut values = vec![0.25; 700];
                values[300] = poison;
                let decoded = round_trip(encoding, &values, 1);
                assert!(
                    decoded.iter().any(|value| !value.is_finite()),
                    "{encoding:?} {poison}"
                );
            }
        }
    }

    #[test]
    fn wrong_length_is_refused() {
        for encoding in ALL {
            let mut values = [0.0; 300];
            let length = encoding.encoded_len(300) as usize;
            for found in [0, length - 1, length + 1] {
                assert!(encoding.decode(&vec![0; found], &mut values).is_err());
            }
        }
    }

    #[test]
    fn stochastic_rounding_is_unbiased() {
        // The mean over many seeds comes within five standard errors of the value.
        let values = [1.0_f32, 0.3, -0.77, 0.001];
        let seeds = 4_000;
        let mut sums = [0.0_f64; 4];
        for seed in 0..seeds {
            for (sum, value) in sums
                .iter_mut()
                .zip(round_trip(Encoding::Int8, &values, seed))
            {
                *sum += f64::from(value);
            }
        }
        let error = 5.0 * 0.5 / 127.0 / f64::from(seeds as u32).sqrt();
        for (sum, value) in sums.iter().zip(values) {
            assert!((sum / seeds as f64 - f64::from(value)).abs() < error);
        }
    }

    #[test]
    fn feedback_delivers_in_the_long_run_what_each_round_loses() {
        // The same small update sent 200 times: the sum that arrives differs from the sum that was
        // meant by one rounding error, not by 200.
        let update: Vec<f32> = (0..600).map(|i| ((i as f32) * 0.37).sin() * 1e-3).collect();
        for encoding in [Encoding::Bf16, Encoding::Int8] {
            let mut feedback = Feedback::new(update.len());
            let mut arrived = vec![0.0_f64; update.len()];
            let mut decoded = vec![0.0; update.len()];
            for seed in 0..200 {
                let bytes = feedback.encode(encoding, &update, seed);
                encoding.decode(&bytes, &mut decoded).unwrap();
                for (sum, value) in arrived.iter_mut().zip(&decoded) {
                    *sum += f64::from(*value);
                }
            }
            for (sum, value) in arrived.iter().zip(&update) {
                assert!(
                    (sum - 200.0 * f64::from(*value)).abs() < 3e-5,
                    "{encoding:?}"
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, rng_seed: RngSeed::Fixed(8), ..ProptestConfig::default() })]

        #[test]
        fn a_block_range_decodes_as_the_whole_does(
            values in prop::collection::vec(-1e3_f32..1e3, 1..2_000),
            from in 0_u64..8,
            length in 0_u64..1_500,
            seed: u64,
        ) {
            let total = values.len() as u64;
            let start = (from * BLOCK).min(total / BLOCK * BLOCK);
            // A range ends at a block or at the end of the vector.
            let end = ((start + length) / BLOCK * BLOCK).max(start);
            let end = if end + BLOCK > total { total } else { end };
            for encoding in ALL {
                let mut bytes = Vec::new();
                encoding.encode(&values, 0, seed, &mut bytes);
                let mut whole = vec![0.0; values.len()];
                encoding.decode(&bytes, &mut whole).unwrap();
                let range = encoding.byte_range(start..end);
                let mut part = vec![0.0; (end - start) as usize];
                encoding
                    .decode(&bytes[range.start as usize..range.end as usize], &mut part)
                    .unwrap();
                prop_assert_eq!(&part, &whole[start as usize..end as usize]);
            }
        }

        #[test]
        fn errors_stay_within_the_stated_bounds(
            values in prop::collection::vec(-1e3_f32..1e3, 1..600),
            seed: u64,
        ) {
            prop_assert_eq!(&round_trip(Encoding::F32, &values, seed), &values);
            for (value, decoded) in values.iter().zip(round_trip(Encoding::Bf16, &values, seed)) {
                prop_assert!((value - decoded).abs() <= value.abs() / 256.0);
            }
            let decoded = round_trip(Encoding::Int8, &values, seed);
            for (values, decoded) in values.chunks(256).zip(decoded.chunks(256)) {
                let largest = values.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
                for (value, decoded) in values.iter().zip(decoded) {
                    prop_assert!((value - decoded).abs() <= largest / 127.0 * 1.001);
                }
            }
        }
    }
}
