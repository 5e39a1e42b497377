//! Schedules over the global step of a run: they never restart with a round.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// Half a cosine from `start` at step 0 to `end` at the last step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cosine {
    /// Value at global step 0.
    pub start: f64,
    /// Value at the last global step.
    pub end: f64,
}

/// Linear warm-up from 0 to `peak`, then half a cosine to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warmup {
    /// Largest value, reached after the warm-up.
    pub peak: f64,
    /// Value at the last global step.
    #[serde(default)]
    pub end: f64,
    /// Global steps of the warm-up.
    #[serde(default)]
    pub warmup_steps: u64,
}

impl Cosine {
    /// Value at `step` of `total`.
    pub fn at(&self, step: u64, total: u64) -> f64 {
        let last = total.saturating_sub(1).max(1);
        let progress = step.min(last) as f64 / last as f64;
        self.end + (self.start - self.end) * 0.5 * (1.0 + (PI * progress).cos())
    }

    /// Product of the values over `steps` steps from `first`: the momentum of a whole round, equal
    /// to m^steps where m is constant.
    pub fn product(&self, first: u64, steps: u64, total: u64) -> f64 {
        (first..first + steps)
            .map(|step| self.at(step, total))
            .product()
    }
}

impl Warmup {
    /// Value at `step` of `total`.
    pub fn at(&self, step: u64, total: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * step as f64 / self.warmup_steps as f64;
        }
        Cosine {
            start: self.peak,
            end: self.end,
        }
        .at(
            step - self.warmup_steps,
            total.saturating_sub(self.warmup_steps),
        )
    }

    /// Smallest value above 0 that any step of `total` has; `None` if there is none.
    pub fn smallest(&self, total: u64) -> Option<f64> {
        // It rises and then falls, so the ends are lowest, or their neighbours where these are 0.
        let last = total.saturating_sub(1);
        [0, 1, last.saturating_sub(1), last]
            .into_iter()
            .filter(|step| *step <= last)
            .map(|step| self.at(step, total))
            .filter(|value| *value > 0.0)
            .min_by(f64::total_cmp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_meets_its_ends() {
        let momentum = Cosine {
            start: 0.996,
            end: 1.0,
        };
        assert_eq!(momentum.at(0, 100), 0.996);
        assert_eq!(momentum.at(99, 100), 1.0);
        assert_eq!(momentum.at(500, 100), 1.0);
    }

    #[test]
    fn warmup_is_linear_and_then_falls() {
        let rate = Warmup {
            peak: 1.0,
            end: 0.1,
            warmup_steps: 10,
        };
        assert_eq!(rate.at(0, 100), 0.0);
        assert_eq!(rate.at(5, 100), 0.5);
        assert_eq!(rate.at(10, 100), 1.0);
        assert!((rate.at(99, 100) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn smallest_value_above_zero_is_that_of_any_step() {
        for (end, warmup_steps, total) in [
            (0.0, 0, 1),
            (0.0, 0, 2),
            (0.0, 0, 50),
            (0.0, 10, 50),
            (0.1, 0, 50),
            (0.1, 10, 50),
            (1e-3, 1, 50),
            (0.5, 49, 50),
            (1.0, 0, 50),
        ] {
            let rate = Warmup {
                peak: 1.0,
                end,
                warmup_steps,
            };
            let values = (0..total).map(|step| rate.at(step, total));
            let expected = values.filter(|value| *value > 0.0).min_by(f64::total_cmp);
            assert_eq!(rate.smallest(total), expected, "{rate:?} over {total}");
        }
    }

    #[test]
    fn product_of_a_constant_is_its_power() {
        let momentum = Cosine {
            start: 0.99,
            end: 0.99,
        };
        assert!((momentum.product(40, 20, 100) - 0.99_f64.powi(20)).abs() < 1e-12);
    }
}
