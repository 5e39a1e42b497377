//! What each contribution counts in a mean.

use std::ops::Range;

use protocol::layout::Part;
use protocol::plan::Weighting;

use super::columns::{dot, read_section};
use super::fold::Columns;
use super::{AggregateError, Inputs};

/// Weights of the contributions, tensor by tensor.
pub(super) struct TensorWeights {
    /// Where each tensor ends in the section, and its weights.
    tensors: Vec<(u64, Vec<f64>)>,
}

impl TensorWeights {
    /// The same weights for every tensor.
    pub(super) fn uniform(inputs: &Inputs<'_>, weights: Vec<f64>) -> Self {
        Self {
            tensors: vec![(inputs.layout.elements(Part::Weights), weights)],
        }
    }

    /// The parts of `range` with their weights.
    pub(super) fn over(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, &[f64])> {
        let mut start = range.start;
        let first = self.tensors.partition_point(|&(end, _)| end <= range.start);
        self.tensors[first..]
            .iter()
            .map_while(move |(end, weights)| {
                let part = start..range.end.min(*end);
                start = part.end;
                (part.start < part.end).then_some((part, weights.as_slice()))
            })
    }

    /// Each contribution's weight, meaned over tensors.
    pub(super) fn means(&self) -> Vec<f64> {
        let tensors = self.tensors.len() as f64;
        let sites = self.tensors.first().map_or(0, |(_, weights)| weights.len());
        (0..sites)
            .map(|site| {
                self.tensors
                    .iter()
                    .map(|(_, weights)| weights[site])
                    .sum::<f64>()
                    / tensors
            })
            .collect()
    }
}

/// Each contribution's share: by examples, or the same for all; they add up to one.
pub(super) fn shares(inputs: &Inputs<'_>) -> Vec<f64> {
    let examples: u64 = inputs.contributions.iter().map(|one| one.examples).sum();
    let count = inputs.contributions.len() as f64;
    inputs
        .contributions
        .iter()
        .map(|one| match inputs.config.aggregation.weighting {
            Weighting::Examples => one.examples as f64 / examples as f64,
            Weighting::Uniform => 1.0 / count,
        })
        .collect()
}

/// What each update is multiplied by to respect the plan's clipping norm.
pub(super) fn clip_scales(inputs: &Inputs<'_>) -> Vec<f64> {
    let bound = inputs.config.aggregation.clip_norm.unwrap_or(f64::INFINITY);
    inputs
        .contributions
        .iter()
        .map(|one| {
            if one.norm > bound {
                bound / one.norm
            } else {
                1.0
            }
        })
        .collect()
}

/// Share, clipping and, where the plan says so, FedNova's normalization by local steps
/// (Wang et al. 2020, eq. 6): weight pₖ becomes pₖ · τ_eff / τₖ with τ_eff = Σ pₖ τₖ.
pub(super) fn update_weights(inputs: &Inputs<'_>, scales: &[f64]) -> Vec<f64> {
    let shares = shares(inputs);
    let steps = || {
        inputs
            .contributions
            .iter()
            .map(|one| one.steps.max(1) as f64)
    };
    let effective: f64 = shares
        .iter()
        .zip(steps())
        .map(|(share, steps)| share * steps)
        .sum();
    let normalize = inputs.config.aggregation.normalize_steps;
    shares
        .iter()
        .zip(scales)
        .zip(steps())
        .map(|((share, scale), steps)| {
            share * scale * if normalize { effective / steps } else { 1.0 }
        })
        .collect()
}

/// L-DAWA (Rehman et al. 2023): each tensor of each site counts by the cosine between it and the
/// global tensor.
///
/// Deviation: weights are normalized to add up to one in each tensor, so that sites in perfect
/// agreement are not shrunk by their common angle, and a negative cosine counts as zero.
pub(super) fn layer_wise(
    inputs: &Inputs<'_>,
    scales: &[f64],
) -> Result<TensorWeights, AggregateError> {
    let section = inputs
        .layout
        .model_section(Part::Weights)
        .expect("every model has weights");
    let shares = shares(inputs);
    let ends: Vec<u64> = inputs
        .layout
        .slots()
        .iter()
        .filter(|slot| slot.part == Part::Weights)
        .map(|slot| slot.elements.end)
        .collect();
    let sites = inputs.contributions.len();
    let mut products = vec![
        Products {
            global: 0.0,
            mixed: vec![[0.0; 2]; sites]
        };
        ends.len()
    ];
    let mut columns = Columns::new(inputs, Part::Weights);
    let (mut global, mut tensor) = (Vec::new(), 0);
    for range in columns.ranges() {
        columns.read(range.clone())?;
        read_section(inputs.model, &section, range.clone(), &mut global)?;
        let mut start = range.start;
        while start < range.end {
            while ends[tensor] <= start {
                tensor += 1;
            }
            let end = range.end.min(ends[tensor]);
            let part = (start - range.start) as usize..(end - range.start) as usize;
            let sums = &mut products[tensor];
            sums.global += dot(&global[part.clone()], &global[part.clone()]);
            for (sums, values) in sums.mixed.iter_mut().zip(columns.values()) {
                sums[0] += dot(&global[part.clone()], &values[part.clone()]);
                sums[1] += dot(&values[part.clone()], &values[part.clone()]);
            }
            start = end;
        }
    }
    let tensors = ends.into_iter().zip(&products);
    Ok(TensorWeights {
        tensors: tensors
            .map(|(end, sums)| (end, sums.weights(&shares, scales)))
            .collect(),
    })
}

/// Dot products over one tensor: global with itself; for each site global with change, and change
/// with itself.
#[derive(Clone)]
struct Products {
    global: f64,
    mixed: Vec<[f64; 2]>,
}

impl Products {
    fn weights(&self, shares: &[f64], scales: &[f64]) -> Vec<f64> {
        let mut weights: Vec<f64> = self
            .mixed
            .iter()
            .zip(shares.iter().zip(scales))
            .map(|(&[global_change, change], (share, scale))| {
                let local_global = self.global + scale * global_change;
                let local = self.global + 2.0 * scale * global_change + scale * scale * change;
                let lengths = (self.global * local.max(0.0)).sqrt();
                // A tensor of zeros has no direction to diverge from.
                let cosine = if lengths > 0.0 {
                    local_global / lengths
                } else {
                    1.0
                };
                share * cosine.clamp(0.0, 1.0)
            })
            .collect();
        let total: f64 = weights.iter().sum();
        for (weight, scale) in weights.iter_mut().zip(scales) {
            *weight = if total > 0.0 {
                *weight / total * scale
            } else {
                0.0
            };
        }
        weights
    }
}
