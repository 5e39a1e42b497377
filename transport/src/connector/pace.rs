//! When a site tries again: after a try that failed, and after a link that ended.

use std::time::{Duration, Instant};

use protocol::CloseCode;

use crate::backoff::Backoff;
use crate::error::LinkError;

/// Pauses of one site. They outlive its links: a link that is closed soon after it was made is a
/// failure like any other, or both ends would shake hands without a pause for ever.
#[derive(Debug)]
pub(super) struct Pace {
    backoff: Backoff,
    longest: Duration,
}

/// The pause before the first try after a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Rest {
    pub(super) pause: Duration,
    /// Whether another process with this identity took the link's place.
    pub(super) is_superseded: bool,
}

impl Pace {
    /// Pauses with a first ceiling of `base`, and none above `longest`.
    pub(super) fn new(base: Duration, longest: Duration) -> Self {
        Self {
            backoff: Backoff::new(base, longest),
            longest,
        }
    }

    /// The pause after a try that failed; `unit` is random, 0 to 1.
    pub(super) fn after_failure(&mut self, unit: f64) -> Duration {
        self.backoff.next(unit)
    }

    /// The pause after a link that was made at `start`, and may have ended.
    ///
    /// None after a link that lived for the longest pause: the pauses begin anew. After a shorter one
    /// the next pause, counted from when the link was made. The longest, and all of it, after one that
    /// was superseded, so that two processes do not take it from each other in turns.
    pub(super) fn after_link(
        &mut self,
        start: Instant,
        end: Option<&LinkError>,
        now: Instant,
        unit: f64,
    ) -> Rest {
        let lived = now.saturating_duration_since(start);
        let superseded = LinkError::closed_by_peer(CloseCode::Superseded);
        if end == Some(&superseded) {
            return Rest {
                pause: self.longest,
                is_superseded: true,
            };
        }
        let pause = if lived >= self.longest {
            self.backoff.reset();
            Duration::ZERO
        } else {
            self.backoff.next(unit).saturating_sub(lived)
        };
        Rest {
            pause,
            is_superseded: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Pauses in seconds after links that lived so long, with the highest of random numbers.
    fn pauses<const N: usize>(pace: &mut Pace, lives: [Duration; N], end: &LinkError) -> [u64; N] {
        let start = Instant::now();
        lives.map(|lived| {
            let rest = pace.after_link(start, Some(end), start + lived, 1.0);
            rest.pause.as_secs()
        })
    }

    #[test]
    fn links_that_are_closed_at_once_are_followed_by_growing_pauses() {
        let mut pace = Pace::new(SECOND, 60 * SECOND);
        let end = LinkError::closed_by_peer(CloseCode::Done);
        let pauses = pauses(&mut pace, [Duration::ZERO; 8], &end);
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_pause_after_a_link_is_random_and_grows_with_failures_before_it() {
        let mut pace = Pace::new(SECOND, 60 * SECOND);
        for _ in 0..4 {
            pace.after_failure(0.5);
        }
        let start = Instant::now();
        let rest = pace.after_link(start, None, start, 0.25);
        assert_eq!(rest.pause, 4 * SECOND, "a quarter of 16 s");
    }

    #[test]
    fn a_pause_is_counted_from_when_the_link_was_made() {
        let mut pace = Pace::new(SECOND, 60 * SECOND);
        let end = LinkError::Lost("cut".to_owned());
        let lives = [0, 0, 3, 3, 59].map(|seconds| seconds * SECOND);
        assert_eq!(pauses(&mut pace, lives, &end), [1, 2, 1, 5, 0]);
    }

    #[test]
    fn only_a_link_that_lived_for_the_longest_pause_lets_them_begin_anew() {
        let mut pace = Pace::new(SECOND, 60 * SECOND);
        let end = LinkError::Lost("cut".to_owned());
        let lives = [0, 0, 0, 60, 0].map(|seconds| seconds * SECOND);
        assert_eq!(pauses(&mut pace, lives, &end), [1, 2, 4, 0, 1]);
    }

    #[test]
    fn a_superseded_link_is_followed_by_the_longest_pause_however_long_it_lived() {
        let mut pace = Pace::new(SECOND, 60 * SECOND);
        let end = LinkError::closed_by_peer(CloseCode::Superseded);
        let start = Instant::now();
        for lived in [Duration::ZERO, 3600 * SECOND] {
            let rest = pace.after_link(start, Some(&end), start + lived, 0.0);
            let pause = 60 * SECOND;
            assert_eq!(
                rest,
                Rest {
                    pause,
                    is_superseded: true
                }
            );
        }
    }
}
