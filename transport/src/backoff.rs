//! Pauses between connections: growing, and random, so that sites do not return all at once.

use std::time::Duration;

/// Full jitter: each pause is uniform between nothing and a ceiling that doubles up to a cap.
///
/// Source: M. Brooker, "Exponential Backoff and Jitter", 2015.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// A first ceiling of `base`, and none above `cap`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self {
            base,
            cap,
            failures: 0,
        }
    }

    /// The next pause; `unit` is random, 0 to 1.
    pub fn next(&mut self, unit: f64) -> Duration {
        let doubled = self
            .base
            .saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.cap).mul_f64(unit.clamp(0.0, 1.0))
    }

    /// A connection was made: begin anew.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_cap_and_for_ever() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        let ceilings: Vec<_> = (0..6).map(|_| backoff.next(1.0).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 10, 10]);
        for _ in 0..100 {
            assert_eq!(backoff.next(0.5), Duration::from_secs(5));
        }
        backoff.reset();
        assert_eq!(backoff.next(1.0), Duration::from_secs(1));
    }

    #[test]
    fn a_pause_is_a_random_part_of_the_ceiling() {
        let mut backoff = Backoff::new(Duration::from_secs(8), Duration::from_secs(8));
        assert_eq!(backoff.next(0.0), Duration::ZERO);
        assert_eq!(backoff.next(0.25), Duration::from_secs(2));
    }
}
