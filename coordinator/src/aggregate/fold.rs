//! One column range of every update becomes one range of change.

use std::ops::Range;

use protocol::layout::{Part, Section};
use protocol::plan::Strategy;
use rayon::prelude::*;

use super::columns::{ReadAt, read_section};
use super::order::Network;
use super::weights::{self, TensorWeights};
use super::{AggregateError, Inputs, krum};

/// The same column range of every contribution, decoded.
pub(super) struct Columns<'a> {
    updates: Vec<&'a dyn ReadAt>,
    section: Option<Section>,
    values: Vec<Vec<f32>>,
}

impl<'a> Columns<'a> {
    pub(super) fn new(inputs: &Inputs<'a>, part: Part) -> Self {
        let updates: Vec<_> = inputs.contributions.iter().map(|one| one.update).collect();
        let values = vec![Vec::new(); updates.len()];
        Self {
            updates,
            section: inputs.layout.update_section(part),
            values,
        }
    }

    /// Ranges that cover the section, so short that one for each site fits the memory budget.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let elements = self.section.map_or(0, |section| section.elements);
        let each = MEMORY_BUDGET / BYTES_PER_VALUE / (self.updates.len() + FIXED_COLUMNS);
        let step = ((each / BLOCK).max(1) * BLOCK) as u64;
        (0..elements.div_ceil(step)).map(move |i| i * step..((i + 1) * step).min(elements))
    }

    /// Reads and decodes a range of every contribution.
    pub(super) fn read(&mut self, range: Range<u64>) -> Result<(), AggregateError> {
        let Some(section) = &self.section else {
            return Ok(());
        };
        self.values
            .par_iter_mut()
            .zip(&self.updates)
            .try_for_each(|(values, update)| {
                read_section(*update, section, range.clone(), values)
            })?;
        Ok(())
    }

    /// What was read last, one slice for each contribution.
    pub(super) fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    fn len(&self) -> usize {
        self.values.first().map_or(0, Vec::len)
    }
}

/// How a strategy folds columns.
pub(super) enum Fold {
    /// Weighted sum; weights may differ from tensor to tensor.
    Mean {
        weights: TensorWeights,
        statistics: Vec<f64>,
    },
    /// Mean of the values between `trim` smallest and `trim` largest, coordinate by coordinate;
    /// the median where only one or two are left. `scales` clip each contribution first.
    Order {
        network: Network,
        trim: usize,
        scales: Vec<f64>,
    },
}

impl Fold {
    pub(super) fn new(inputs: &Inputs<'_>) -> Result<Self, AggregateError> {
        let sites = inputs.contributions.len();
        let scales = weights::clip_scales(inputs);
        let order = |trim| Self::Order {
            network: Network::new(sites),
            trim,
            scales: scales.clone(),
        };
        Ok(match &inputs.config.strategy {
            Strategy::Median {} => order((sites - 1) / 2),
            &Strategy::TrimmedMean { trim } => {
                let trim = trim as usize;
                require(inputs, 2 * trim + 1)?;
                order(trim)
            }
            &Strategy::Krum { malicious } => Self::selected(inputs, malicious, 1)?,
            &Strategy::MultiKrum { malicious, keep } => Self::selected(inputs, malicious, keep)?,
            Strategy::LDawa {} => Self::Mean {
                weights: weights::layer_wise(inputs, &scales)?,
                statistics: weights::shares(inputs),
            },
            _ => Self::Mean {
                weights: TensorWeights::uniform(inputs, weights::update_weights(inputs, &scales)),
                statistics: weights::shares(inputs),
            },
        })
    }

    /// Mean of the updates Krum selects, each counting the same.
    fn selected(inputs: &Inputs<'_>, malicious: u32, keep: u32) -> Result<Self, AggregateError> {
        let malicious = malicious as usize;
        require(inputs, 2 * malicious + 3)?;
        let scales = weights::clip_scales(inputs);
        let selected = krum::select(inputs, &scales, malicious, keep as usize)?;
        let share = 1.0 / selected.len() as f64;
        let shares: Vec<f64> = (0..inputs.contributions.len())
            .map(|site| if selected.contains(&site) { share } else { 0.0 })
            .collect();
        let scaled = shares
            .iter()
            .zip(&scales)
            .map(|(share, scale)| share * scale)
            .collect();
        Ok(Self::Mean {
            weights: TensorWeights::uniform(inputs, scaled),
            statistics: shares,
        })
    }

    /// Weight of each contribution, meaned over tensors; empty where there are none.
    pub(super) fn mean_weights(&self) -> Vec<f64> {
        match self {
            Self::Mean { weights, .. } => weights.means(),
            Self::Order { .. } => Vec::new(),
        }
    }

    /// Folds a range of the weights, which starts at element `range.start`.
    pub(super) fn weights(&self, columns: &Columns<'_>, range: Range<u64>, delta: &mut Vec<f64>) {
        match self {
            Self::Mean { weights, .. } => {
                delta.clear();
                delta.resize(columns.len(), 0.0);
                for (part, shares) in weights.over(range.clone()) {
                    let local =
                        (part.start - range.start) as usize..(part.end - range.start) as usize;
                    let values: Vec<&[f32]> = columns
                        .values()
                        .iter()
                        .map(|values| &values[local.clone()])
                        .collect();
                    sum_into(&values, shares, &mut delta[local]);
                }
            }
            Self::Order {
                network,
                trim,
                scales,
            } => {
                network.trimmed_mean(columns.values(), scales, *trim, delta);
            }
        }
    }

    /// Folds a range of the statistics.
    pub(super) fn statistics(&self, columns: &Columns<'_>, delta: &mut Vec<f64>) {
        match self {
            Self::Mean { statistics, .. } => weighted_sum(columns, statistics, delta),
            Self::Order {
                network,
                trim,
                scales,
            } => {
                let unscaled = vec![1.0; scales.len()];
                network.trimmed_mean(columns.values(), &unscaled, *trim, delta);
            }
        }
    }
}

/// Σ shareₖ · columnₖ, in the order of contributions.
pub(super) fn weighted_sum(columns: &Columns<'_>, shares: &[f64], delta: &mut Vec<f64>) {
    delta.clear();
    delta.resize(columns.len(), 0.0);
    let values: Vec<&[f32]> = columns.values().iter().map(Vec::as_slice).collect();
    sum_into(&values, shares, delta);
}

fn sum_into(columns: &[&[f32]], shares: &[f64], delta: &mut [f64]) {
    delta
        .par_chunks_mut(BLOCK)
        .enumerate()
        .for_each(|(block, delta)| {
            let start = block * BLOCK;
            for (column, &share) in columns.iter().zip(shares) {
                // An update that does not count is not even multiplied by zero.
                if share != 0.0 {
                    for (sum, &value) in delta.iter_mut().zip(&column[start..]) {
                        *sum += share * f64::from(value);
                    }
                }
            }
        });
}

fn require(inputs: &Inputs<'_>, needed: usize) -> Result<(), AggregateError> {
    let found = inputs.contributions.len();
    let strategy = inputs.config.strategy.name();
    if found < needed {
        return Err(AggregateError::TooFew {
            strategy,
            needed,
            found,
        });
    }
    Ok(())
}

/// What the columns of all sites together may take.
const MEMORY_BUDGET: usize = 48 << 20;

/// A decoded value and its encoded bytes.
const BYTES_PER_VALUE: usize = 8;

/// Columns beside the sites': change (twice, being float64), weights, two moments, teacher.
const FIXED_COLUMNS: usize = 6;

/// Elements one thread folds at a time: they stay in its cache over all sites.
const BLOCK: usize = 4096;
