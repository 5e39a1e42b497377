//! What the coordinator does with the folded change: add it, or take it for a gradient.

use std::io;
use std::ops::Range;

use protocol::encoding::Encoding;
use protocol::layout::{Part, Section};
use protocol::plan::Strategy;

use super::columns::{ReadAt, WriteAt, read_section, write_section};

/// The server's step, as the strategy defines it.
pub(super) enum ServerOptimizer {
    /// x ← x + η Δ.
    Add { learning_rate: f64 },
    /// m ← β m + Δ; x ← x + η m (Hsu et al. 2019).
    Momentum { learning_rate: f64, momentum: f64 },
    /// m ← β₁ m + (1 − β₁) Δ; v as the rule says; x ← x + η m / (√v + τ)
    /// (Reddi et al. 2021, algorithm 2). v starts at τ².
    Adaptive {
        learning_rate: f64,
        beta1: f64,
        tau: f64,
        rule: SecondMoment,
    },
}

/// How the second moment follows the squared change.
#[derive(Clone, Copy)]
pub(super) enum SecondMoment {
    /// v ← v + Δ².
    Adagrad,
    /// v ← β₂ v + (1 − β₂) Δ².
    Adam { beta2: f64 },
    /// v ← v − (1 − β₂) Δ² sign(v − Δ²).
    Yogi { beta2: f64 },
}

impl ServerOptimizer {
    pub(super) fn new(strategy: &Strategy) -> Self {
        match *strategy {
            Strategy::Fedavgm {
                server_learning_rate,
                momentum,
            } => Self::Momentum {
                learning_rate: server_learning_rate,
                momentum,
            },
            Strategy::Fedadam {
                server_learning_rate,
                beta1,
                beta2,
                tau,
            } => Self::Adaptive {
                learning_rate: server_learning_rate,
                beta1,
                tau,
                rule: SecondMoment::Adam { beta2 },
            },
            Strategy::Fedyogi {
                server_learning_rate,
                beta1,
                beta2,
                tau,
            } => Self::Adaptive {
                learning_rate: server_learning_rate,
                beta1,
                tau,
                rule: SecondMoment::Yogi { beta2 },
            },
            Strategy::Fedadagrad {
                server_learning_rate,
                beta1,
                tau,
            } => Self::Adaptive {
                learning_rate: server_learning_rate,
                beta1,
                tau,
                rule: SecondMoment::Adagrad,
            },
            Strategy::Scaffold {
                server_learning_rate,
            } => Self::Add {
                learning_rate: server_learning_rate,
            },
            _ => Self::Add { learning_rate: 1.0 },
        }
    }

    /// Vectors it keeps from round to round.
    pub(super) fn moments(&self) -> u64 {
        match self {
            Self::Add { .. } => 0,
            Self::Momentum { .. } => 1,
            Self::Adaptive { .. } => 2,
        }
    }

    /// Moves `weights`, and the moments where it has any.
    pub(super) fn step(
        &self,
        delta: &[f64],
        weights: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
    ) {
        match *self {
            Self::Add { learning_rate } => {
                for (weight, delta) in weights.iter_mut().zip(delta) {
                    *weight = (f64::from(*weight) + learning_rate * delta) as f32;
                }
            }
            Self::Momentum {
                learning_rate,
                momentum,
            } => {
                for ((weight, delta), first) in weights.iter_mut().zip(delta).zip(first) {
                    let velocity = momentum * f64::from(*first) + delta;
                    *first = velocity as f32;
                    *weight = (f64::from(*weight) + learning_rate * velocity) as f32;
                }
            }
            Self::Adaptive {
                learning_rate,
                beta1,
                tau,
                rule,
            } => {
                for (((weight, &delta), first), second) in
                    weights.iter_mut().zip(delta).zip(first).zip(second)
                {
                    let mean = beta1 * f64::from(*first) + (1.0 - beta1) * delta;
                    let square = rule.next(f64::from(*second), delta * delta);
                    *first = mean as f32;
                    *second = square as f32;
                    let step = learning_rate * mean / (square.sqrt() + tau);
                    *weight = (f64::from(*weight) + step) as f32;
                }
            }
        }
    }

    /// Reads a range of the moments; their first values where there are none yet.
    pub(super) fn read_moments(
        &self,
        moments: Option<&dyn ReadAt>,
        elements: u64,
        range: Range<u64>,
        first: &mut Vec<f32>,
        second: &mut Vec<f32>,
    ) -> io::Result<()> {
        let length = (range.end - range.start) as usize;
        for (index, values) in (0..self.moments()).zip([first, second]) {
            match moments {
                Some(moments) => {
                    read_section(moments, &section(index, elements), range.clone(), values)?;
                }
                None => {
                    values.clear();
                    values.resize(length, self.first_value(index));
                }
            }
        }
        Ok(())
    }

    /// Writes a range of the moments.
    pub(super) fn write_moments(
        &self,
        moments: &mut dyn WriteAt,
        elements: u64,
        start: u64,
        first: &[f32],
        second: &[f32],
    ) -> io::Result<()> {
        for (index, values) in (0..self.moments()).zip([first, second]) {
            write_section(moments, &section(index, elements), start, values)?;
        }
        Ok(())
    }

    fn first_value(&self, index: u64) -> f32 {
        match *self {
            Self::Adaptive { tau, .. } if index == 1 => (tau * tau) as f32,
            _ => 0.0,
        }
    }
}

impl SecondMoment {
    fn next(self, moment: f64, square: f64) -> f64 {
        match self {
            Self::Adagrad => moment + square,
            Self::Adam { beta2 } => beta2 * moment + (1.0 - beta2) * square,
            Self::Yogi { beta2 } => {
                let sign = match moment.partial_cmp(&square) {
                    Some(std::cmp::Ordering::Greater) => 1.0,
                    Some(std::cmp::Ordering::Less) => -1.0,
                    _ => 0.0,
                };
                moment - (1.0 - beta2) * square * sign
            }
        }
    }
}

/// The moments blob holds each moment as one exact vector, one after the other.
fn section(index: u64, elements: u64) -> Section {
    Section {
        part: Part::Weights,
        elements,
        encoding: Encoding::F32,
        offset: index * elements * 4,
    }
}
