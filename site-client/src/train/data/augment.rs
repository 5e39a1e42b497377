//! The light augmentation of MAE and fine-tuning: flips and one intensity shift.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Windowed;

/// Flips and shift, as probabilities.
///
/// Source: the released transforms: each axis is flipped with its own probability; with
/// probability ½ one offset from U(−`shift`, `shift`) is added to the whole volume, all channels
/// alike, without clipping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    /// Probability of a flip along each array axis; the first runs left to right.
    pub flip: [f64; 3],
    /// Largest offset.
    pub shift: f64,
}

impl Augmentation {
    /// Leaves every volume as it is.
    pub const NONE: Self = Self {
        flip: [0.0; 3],
        shift: 0.0,
    };

    /// Appends the augmented volume to `out`, `[C, S, S, S]` row-major; all draws come from `seed`.
    pub fn apply(&self, volume: &Windowed, seed: u64, out: &mut Vec<f32>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let flip = self.flip.map(|probability| rng.random_bool(probability));
        let shifted = rng.random_bool(0.5);
        let offset = (rng.random::<f64>() * 2.0 - 1.0) * self.shift;
        let offset = if shifted { offset as f32 } else { 0.0 };
        let size = volume.size;
        let along = |axis: usize, index: usize| if flip[axis] { size - 1 - index } else { index };
        for channel in volume.values.chunks_exact(size.pow(3)) {
            for i in 0..size {
                for j in 0..size {
                    let start = (along(0, i) * size + along(1, j)) * size;
                    let row = &channel[start..start + size];
                    if flip[2] {
                        out.extend(row.iter().rev().map(|value| value.to_f32() + offset));
                    } else {
                        out.extend(row.iter().map(|value| value.to_f32() + offset));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    fn volume() -> Windowed {
        let values = (0..2 * 27)
            .map(|value| f16::from_f32(value as f32))
            .collect();
        Windowed {
            channels: 2,
            size: 3,
            values,
        }
    }

    fn apply(augmentation: Augmentation, seed: u64) -> Vec<f32> {
        let mut out = Vec::new();
        augmentation.apply(&volume(), seed, &mut out);
        out
    }

    #[test]
    fn a_flip_reverses_its_axis_in_every_channel() {
        let plain = apply(Augmentation::NONE, 1);
        let at = |c: usize, i: usize, j: usize, k: usize| plain[((c * 3 + i) * 3 + j) * 3 + k];
        for axis in 0..3 {
            let mut flip = [0.0; 3];
            flip[axis] = 1.0;
            let flipped = apply(Augmentation { flip, shift: 0.0 }, 1);
            let mirrored = |here: usize, index: usize| if here == axis { 2 - index } else { index };
            for (place, value) in flipped.into_iter().enumerate() {
                let [c, i, j, k] = [place / 27, place / 9 % 3, place / 3 % 3, place % 3];
                assert_eq!(value, at(c, mirrored(0, i), mirrored(1, j), mirrored(2, k)));
            }
        }
    }

    #[test]
    fn a_shift_moves_all_voxels_alike_within_its_bound_half_of_the_time() {
        let plain = apply(Augmentation::NONE, 1);
        let shift = Augmentation {
            flip: [0.0; 3],
            shift: 0.1,
        };
        let mut moved = 0;
        for seed in 0..400 {
            let offsets: Vec<f32> = apply(shift, seed)
                .iter()
                .zip(&plain)
                .map(|(a, b)| a - b)
                .collect();
            assert!(
                offsets
                    .iter()
                    .all(|offset| (offset - offsets[0]).abs() < 1e-5)
            );
            assert!(offsets[0].abs() <= 0.1);
            moved += usize::from(offsets[0] != 0.0);
        }
        assert!((150..250).contains(&moved), "{moved} of 400");
    }
}
