//! Seeded draws. One stream per purpose, so that adding a draw to one part changes no other.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// What a stream of random numbers is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Person = 1,
    Anatomy = 2,
    Lesions = 3,
    Acquisition = 4,
    Noise = 5,
    Record = 6,
}

/// A stream of random numbers, the same for the same seed, patient, purpose and number.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    pub(crate) fn new(seed: u64, patient: u64, purpose: Purpose, number: u32) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&patient.to_le_bytes());
        key[16] = purpose as u8;
        key[20..24].copy_from_slice(&number.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Uniform in `from..to`.
    pub fn uniform(&mut self, from: f32, to: f32) -> f32 {
        from + (to - from) * self.0.random::<f32>()
    }

    /// Uniform in the range.
    pub(crate) fn within(&mut self, range: [f32; 2]) -> f32 {
        self.uniform(range[0], range[1])
    }

    /// Normal, cut at three standard deviations: anatomy has limits.
    pub fn normal(&mut self, mean: f32, sd: f32) -> f32 {
        mean + sd * self.standard_normal().clamp(-3.0, 3.0)
    }

    pub(crate) fn standard_normal(&mut self) -> f32 {
        StandardNormal.sample(&mut self.0)
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.0.random::<f64>() < p
    }

    /// −1 (left) or 1 (right).
    pub(crate) fn side(&mut self) -> f32 {
        if self.chance(0.5) { 1.0 } else { -1.0 }
    }

    /// An index drawn by weight; weights need not sum to one.
    pub fn pick(&mut self, weights: impl IntoIterator<Item = f64> + Clone) -> usize {
        let total: f64 = weights.clone().into_iter().sum();
        let mut left = self.0.random::<f64>() * total;
        let mut last = 0;
        for (index, weight) in weights.into_iter().enumerate() {
            last = index;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        last
    }

    /// A direction, uniform on the sphere.
    pub(crate) fn phase(&mut self) -> f32 {
        self.uniform(0.0, std::f32::consts::TAU)
    }
}
