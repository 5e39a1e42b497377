//! Every scheduled quantity of pre-training, as a function of the global step alone.

use core_model::schedule::{cosine, linear, warmup_cosine};

use crate::train::{Config, Objective, Span};

/// Smallest over peak learning rate, as released.
const MIN_LR_RATIO: f64 = 1e-3;

/// The schedules of one run; step 0 is the first.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Steps of the whole run.
    pub total: u64,
    /// Steps of the learning rate's linear warm-up.
    pub warmup: u64,
    /// Peak and last learning rate.
    pub lr: [f64; 2],
    /// First and last weight decay.
    pub weight_decay: [f64; 2],
    /// First and last teacher momentum (DINO).
    pub momentum: [f64; 2],
    /// First and last teacher temperature (DINO).
    pub temperature: [f64; 2],
    /// Steps from the first to the last teacher temperature.
    pub temperature_warmup: u64,
    /// Steps during which the prototypes stay fixed (DINO).
    pub frozen: u64,
}

/// What one step trains with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Learning rate.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Teacher momentum (DINO).
    pub momentum: f64,
    /// Teacher temperature (DINO).
    pub temperature: f64,
    /// Whether the prototypes stay fixed (DINO).
    pub frozen: bool,
}

impl Schedule {
    /// The schedules for a site with `scans` training scans; epochs are turned into steps here.
    #[must_use]
    pub fn new(config: &Config, objective: Objective, scans: usize) -> Self {
        let (dino, mae) = (&config.dino, &config.mae);
        let (length, warmup, batch, base_lr, weight_decay) = match objective {
            Objective::Dino => (
                dino.length,
                dino.warmup,
                dino.global_batch,
                dino.base_lr,
                [dino.weight_decay, dino.weight_decay_end],
            ),
            Objective::Mae => (
                mae.length,
                mae.warmup,
                mae.global_batch,
                mae.base_lr,
                [mae.weight_decay, mae.weight_decay_end],
            ),
        };
        let total = length.steps(0, scans, batch).max(1);
        let steps = |span: Span| span.steps(total, scans, batch).min(total);
        // Goyal et al. 2017, as published: the rate is given for a batch of 256.
        let lr = base_lr * batch as f64 / 256.0;
        Self {
            total,
            warmup: steps(warmup),
            lr: [lr, lr * MIN_LR_RATIO],
            weight_decay,
            momentum: [dino.momentum, 1.0],
            temperature: [dino.teacher_temperature_start, dino.teacher_temperature],
            temperature_warmup: steps(dino.teacher_temperature_warmup),
            frozen: steps(dino.freeze_last_layer),
        }
    }

    /// What step `step` trains with.
    #[must_use]
    pub fn rates(&self, step: u64) -> Rates {
        let [total, warmup, ramp, step_index] =
            [self.total, self.warmup, self.temperature_warmup, step].map(|steps| steps as usize);
        let [peak, last] = self.lr;
        let [decay, decay_end] = self.weight_decay;
        let [momentum, momentum_end] = self.momentum;
        let [cold, warm] = self.temperature;
        Rates {
            lr: warmup_cosine(peak, last, warmup, total, step_index),
            weight_decay: cosine(decay, decay_end, total, step_index),
            momentum: cosine(momentum, momentum_end, total, step_index),
            temperature: linear(cold, warm, ramp, step_index),
            frozen: step < self.frozen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Preset;

    #[test]
    fn the_published_rate_is_reached_at_the_published_batch() {
        let mut config = Config::preset(Preset::Paper);
        let at_peak = |config: &Config| {
            let schedule = Schedule::new(config, Objective::Dino, 361_663);
            schedule.rates(schedule.warmup).lr
        };
        assert_eq!(
            Schedule::new(&config, Objective::Dino, 361_663).total,
            1_412_746
        );
        assert!((at_peak(&config) - 3e-4).abs() < 1e-12);
        config.dino.global_batch = 64;
        assert!(
            (at_peak(&config) - 7.5e-5).abs() < 1e-12,
            "linear in the batch"
        );
    }

    #[test]
    fn schedules_run_from_their_first_to_their_last_value() {
        let config = Config::preset(Preset::Repo);
        let schedule = Schedule::new(&config, Objective::Dino, 2560);
        let (first, last) = (schedule.rates(0), schedule.rates(schedule.total));
        for (found, expected) in [
            (first.lr, 0.0),
            (first.weight_decay, 0.04),
            (first.momentum, 0.999),
            (last.lr, 5e-7),
            (last.weight_decay, 0.4),
            (last.momentum, 1.0),
        ] {
            assert!(
                (found - expected).abs() < 1e-12,
                "expected {expected}, found {found}"
            );
        }
        assert!(
            first.frozen && !schedule.rates(10).frozen,
            "one epoch is ten steps"
        );
    }
}
