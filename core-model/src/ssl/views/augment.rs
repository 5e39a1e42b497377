//! Augmentation of a resized view: flips, intensity shift, Gaussian smoothing, gamma.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use statrs::function::erf::erf;

use crate::error::ConfigError;

/// How strongly views are augmented. Source: the released settings, by MONAI's definitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// Probability of a flip of each axis. Flip no left–right axis when labels name a side.
    pub flip: [f64; 3],
    /// Greatest intensity shift; one offset for all voxels and channels.
    pub shift: f64,
    /// Probability of a shift.
    pub shift_probability: f64,
    /// Probability of smoothing (even global views).
    pub smooth_probability: f64,
    /// Range of the deviation of the smoothing kernel, voxels; each axis is drawn by itself.
    pub sigma: [f64; 2],
    /// Probability of a gamma adjustment (odd global views).
    pub gamma_probability: f64,
    /// Range of gamma.
    pub gamma: [f64; 2],
}

impl Augmentation {
    /// DINO: flips and smoothing or gamma with probability 0.2, a shift of up to 0.2 in every
    /// second view.
    pub fn dino() -> Self {
        Self {
            flip: [0.2; 3],
            shift: 0.2,
            shift_probability: 0.5,
            smooth_probability: 0.2,
            sigma: [0.5, 1.0],
            gamma_probability: 0.2,
            gamma: [0.2, 1.0],
        }
    }

    /// MAE and fine-tuning: flips with probability 0.1, a shift of up to 0.1.
    pub fn light() -> Self {
        Self {
            flip: [0.1; 3],
            shift: 0.1,
            smooth_probability: 0.0,
            gamma_probability: 0.0,
            ..Self::dino()
        }
    }

    /// Nothing at all.
    pub fn none() -> Self {
        Self {
            flip: [0.0; 3],
            shift_probability: 0.0,
            ..Self::light()
        }
    }

    /// # Errors
    /// When a probability is outside [0, 1], the shift is negative, or a range is not ordered and
    /// positive.
    pub fn check(&self) -> Result<(), ConfigError> {
        let [x, y, z] = self.flip;
        for (object, probability) in [
            ("flip", x),
            ("flip", y),
            ("flip", z),
            ("shift_probability", self.shift_probability),
            ("smooth_probability", self.smooth_probability),
            ("gamma_probability", self.gamma_probability),
        ] {
            let holds = (0.0..=1.0).contains(&probability);
            ConfigError::unless(holds, object, "must be within 0 and 1", probability)?;
        }
        let shift = self.shift;
        let holds = shift.is_finite() && shift >= 0.0;
        ConfigError::unless(holds, "shift", "must be at least 0", shift)?;
        for (object, [low, high]) in [("sigma", self.sigma), ("gamma", self.gamma)] {
            let holds = 0.0 < low && low <= high && high.is_finite();
            let found = format!("{low} to {high}");
            ConfigError::unless(holds, object, "must be an ordered, positive range", found)?;
        }
        Ok(())
    }

    /// Flips and shifts a view `[C, S, S, S]` in place. The draws are the same whatever their
    /// outcome, so that one probability does not move the next view.
    pub fn apply(&self, view: &mut [f32], size: usize, rng: &mut impl Rng) {
        for (axis, probability) in self.flip.into_iter().enumerate() {
            if rng.random_bool(probability) {
                flip(view, size, axis);
            }
        }
        let offset = (rng.random::<f64>() * 2.0 - 1.0) * self.shift;
        if rng.random_bool(self.shift_probability) {
            view.iter_mut().for_each(|value| *value += offset as f32);
        }
    }

    pub(super) fn maybe_smooth(&self, view: &mut [f32], size: usize, rng: &mut impl Rng) {
        let [low, high] = self.sigma;
        let sigma = [(); 3].map(|()| low + rng.random::<f64>() * (high - low));
        if rng.random_bool(self.smooth_probability) {
            smooth(view, size, sigma);
        }
    }

    pub(super) fn maybe_adjust_gamma(&self, view: &mut [f32], rng: &mut impl Rng) {
        let [low, high] = self.gamma;
        let gamma = low + rng.random::<f64>() * (high - low);
        if rng.random_bool(self.gamma_probability) {
            adjust_gamma(view, gamma);
        }
    }
}

fn flip(view: &mut [f32], size: usize, axis: usize) {
    let stride = size.pow(2 - axis as u32);
    for slab in view.chunks_exact_mut(stride * size) {
        for index in 0..size / 2 {
            let (front, back) = slab.split_at_mut((size - 1 - index) * stride);
            front[index * stride..][..stride].swap_with_slice(&mut back[..stride]);
        }
    }
}

/// Separable Gaussian, zero outside.
pub(super) fn smooth(view: &mut [f32], size: usize, sigma: [f64; 3]) {
    for (axis, sigma) in sigma.into_iter().enumerate() {
        let kernel = gaussian(sigma);
        let tail = kernel.len() / 2;
        let stride = size.pow(2 - axis as u32);
        let mut slab_in = vec![0.0; stride * size];
        for slab in view.chunks_exact_mut(stride * size) {
            slab_in.copy_from_slice(slab);
            slab.fill(0.0);
            for (index, out) in slab.chunks_exact_mut(stride).enumerate() {
                for (tap, weight) in kernel.iter().enumerate() {
                    let Some(source) = (index + tap).checked_sub(tail).filter(|&s| s < size) else {
                        continue;
                    };
                    let row = &slab_in[source * stride..][..stride];
                    for (out, value) in out.iter_mut().zip(row) {
                        *out += weight * value;
                    }
                }
            }
        }
    }
}

/// Weights of a Gaussian integrated over each voxel, cut at four deviations and not renormalized.
fn gaussian(sigma: f64) -> Vec<f32> {
    let tail = ((sigma * 4.0).max(0.5) + 0.5) as i64;
    let scale = std::f64::consts::FRAC_1_SQRT_2 / sigma;
    (-tail..=tail)
        .map(|x| {
            let [low, high] = [x as f64 - 0.5, x as f64 + 0.5].map(|edge| erf(edge * scale));
            (0.5 * (high - low)).max(0.0) as f32
        })
        .collect()
}

/// `((x − min) / range)^gamma · range + min` over the whole view.
pub(super) fn adjust_gamma(view: &mut [f32], gamma: f64) {
    let (min, max) = view
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &x| {
            (low.min(x), high.max(x))
        });
    let range = max - min;
    for value in view {
        *value = ((*value - min) / (range + 1e-7)).powf(gamma as f32) * range + min;
    }
}
