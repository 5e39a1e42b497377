//! How learning rate, weight decay, teacher momentum and temperature move with the global step.
//!
//! Every schedule is a pure function of the step since the start of the run, so that a resumed run
//! and a federated round continue where the last one stopped.

use std::f64::consts::PI;

/// Linear from 0 to `base` over `warmup` steps, then cosine to `last` at `total`.
///
/// The first step has value 0 when there is a warm-up, as published. Steps at or after `total` get
/// `last`.
pub fn warmup_cosine(base: f64, last: f64, warmup: usize, total: usize, step: usize) -> f64 {
    if step < warmup {
        return base * step as f64 / warmup as f64;
    }
    cosine(base, last, total.saturating_sub(warmup), step - warmup)
}

/// Half a cosine from `start` at step 0 to `end` at `total`; `end` from there on.
pub fn cosine(start: f64, end: f64, total: usize, step: usize) -> f64 {
    if step >= total {
        return end;
    }
    end + 0.5 * (start - end) * (1.0 + (PI * step as f64 / total as f64).cos())
}

/// Linear from `start` to `end` over `steps`; `end` from there on (DINO's teacher temperature).
pub fn linear(start: f64, end: f64, steps: usize, step: usize) -> f64 {
    if step + 1 >= steps {
        return end;
    }
    start + (end - start) * step as f64 / (steps - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperature_reaches_its_end_on_the_last_warmup_step() {
        assert_eq!(linear(0.04, 0.07, 30, 0), 0.04);
        assert_eq!(linear(0.04, 0.07, 30, 29), 0.07);
        assert_eq!(linear(0.04, 0.07, 30, 300), 0.07);
        assert_eq!(linear(0.04, 0.07, 0, 0), 0.07);
    }

    #[test]
    fn schedules_hold_their_last_value_after_the_end() {
        assert_eq!(cosine(0.996, 1.0, 10, 10), 1.0);
        assert_eq!(warmup_cosine(1.0, 0.1, 2, 10, 99), 0.1);
    }
}
