//! What the coordinator refuses of an update.

use serde::{Deserialize, Serialize};

use super::Config;

/// What the coordinator refuses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest Euclidean norm of an update's change of weights; unbounded if absent. Under
    /// `scaffold` it bounds the change of the control variate as well, by twice this norm over the
    /// schedule's smallest learning rate above 0 (see [`Config::max_control_norm`]).
    pub max_update_norm: Option<f64>,
    /// Most examples one update may count for.
    pub max_examples: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_update_norm: None,
            max_examples: 1_000_000_000,
        }
    }
}

impl Config {
    /// Most optimizer steps that an update made of so many examples can say it took in a round: the
    /// plan's; where the plan counts in epochs, one for each example in each epoch, for a batch holds
    /// at least one.
    pub fn max_local_steps(&self, examples: u64) -> u64 {
        self.local.as_ref().map_or(0, |local| match local.steps {
            Some(steps) => u64::from(steps),
            None => u64::from(local.epochs.unwrap_or(1)).saturating_mul(examples),
        })
    }

    /// Largest Euclidean norm of the change of SCAFFOLD's control variate in an update; `None`
    /// where updates are unbounded.
    ///
    /// The change is (x − y) / Σ η − c (Karimireddy et al. 2020, option II). The first term is at
    /// most the update's norm over the smallest learning rate, however few steps a site took; c is
    /// a mean of such terms. So no honest site is refused.
    pub fn max_control_norm(&self) -> Option<f64> {
        let norm = self.limits.max_update_norm?;
        let rate = self.schedule.as_ref()?.learning_rate;
        Some(2.0 * norm / rate.smallest(self.total_steps())?)
    }
}
