//! Random masking of patches (MAE §3, "Masking"): which are seen, and how to put them back.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::{Rng, RngExt};

/// Which patches of a batch are visible.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    batch: usize,
    tokens: usize,
    keep: usize,
    /// Patch indices of each sample in shuffled order; the first `keep` are visible.
    shuffle: Vec<usize>,
    /// Position in `shuffle` of each patch.
    restore: Vec<usize>,
}

impl Mask {
    /// A uniform draw: exactly `⌊tokens · (1 − ratio)⌋` patches of each sample stay visible.
    ///
    /// # Panics
    /// When `ratio` is not in [0, 1).
    pub fn random(batch: usize, tokens: usize, ratio: f64, rng: &mut impl Rng) -> Self {
        let noise: Vec<f32> = (0..batch * tokens).map(|_| rng.random()).collect();
        Self::from_noise(&noise, tokens, ratio)
    }

    /// The patches with the least noise stay visible; equal noise keeps the order of the patches.
    ///
    /// `noise` holds `tokens` values for each sample.
    ///
    /// # Panics
    /// When `ratio` is not in [0, 1), or `noise` is not a whole number of samples.
    pub fn from_noise(noise: &[f32], tokens: usize, ratio: f64) -> Self {
        assert!(
            (0.0..1.0).contains(&ratio),
            "mask ratio {ratio} is outside [0, 1)"
        );
        assert!(
            noise.len().is_multiple_of(tokens),
            "noise of {} for {tokens} tokens",
            noise.len()
        );
        let keep = (tokens as f64 * (1.0 - ratio)) as usize;
        let mut shuffle = Vec::with_capacity(noise.len());
        let mut restore = vec![0; noise.len()];
        for (noise, restore) in noise.chunks(tokens).zip(restore.chunks_mut(tokens)) {
            let mut order: Vec<usize> = (0..tokens).collect();
            order.sort_by(|&a, &b| noise[a].total_cmp(&noise[b]));
            for (position, &patch) in order.iter().enumerate() {
                restore[patch] = position;
            }
            shuffle.extend(order);
        }
        Self {
            batch: noise.len() / tokens,
            tokens,
            keep,
            shuffle,
            restore,
        }
    }

    /// Visible patches per sample.
    pub fn keep(&self) -> usize {
        self.keep
    }

    /// Samples in the batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Patches per sample.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// For each patch of each sample, its position among the shuffled ones.
    pub fn restore(&self) -> &[usize] {
        &self.restore
    }

    /// Visible patches of each sample, in shuffled order.
    pub fn visible(&self) -> impl Iterator<Item = &[usize]> {
        self.shuffle
            .chunks(self.tokens)
            .map(|order| &order[..self.keep])
    }

    /// 1 where a patch is hidden, 0 where it is visible, `[B, N]`.
    pub fn hidden(&self, device: &Device) -> Tensor<2> {
        let hidden: Vec<f32> = self
            .restore
            .iter()
            .map(|&at| if at < self.keep { 0.0 } else { 1.0 })
            .collect();
        Tensor::from_data(TensorData::new(hidden, [self.batch, self.tokens]), device)
    }

    /// The visible tokens of each sample.
    ///
    /// # Shapes
    /// `[B, N, E]` → `[B, keep, E]`
    pub(crate) fn select(&self, tokens: Tensor<3>) -> Tensor<3> {
        let [batch, count, dim] = tokens.dims();
        assert_eq!(
            [batch, count],
            [self.batch, self.tokens],
            "tokens and mask differ in shape"
        );
        let rows = self.visible().enumerate().flat_map(|(sample, visible)| {
            visible
                .iter()
                .map(move |patch| (sample * count + patch) as i64)
        });
        let rows = indices(rows.collect(), &tokens.device());
        tokens
            .reshape([batch * count, dim])
            .select(0, rows)
            .reshape([batch, self.keep, dim])
    }

    /// Puts shuffled tokens (visible first) back in the order of the patches.
    ///
    /// # Shapes
    /// `[B, N, E]` → `[B, N, E]`
    pub(crate) fn unshuffle(&self, tokens: Tensor<3>) -> Tensor<3> {
        let [batch, count, dim] = tokens.dims();
        assert_eq!(
            [batch, count],
            [self.batch, self.tokens],
            "tokens and mask differ in shape"
        );
        let rows = self
            .restore
            .chunks(count)
            .enumerate()
            .flat_map(|(sample, restore)| {
                restore
                    .iter()
                    .map(move |position| (sample * count + position) as i64)
            });
        let rows = indices(rows.collect(), &tokens.device());
        tokens
            .reshape([batch * count, dim])
            .select(0, rows)
            .reshape([batch, count, dim])
    }
}

fn indices(rows: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}
