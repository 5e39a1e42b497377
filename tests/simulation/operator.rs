//! What the coordinator's operator does while a run goes on.

use protocol::plan::CohortRule;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Acts, each at a virtual time in ms.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Operator {
    /// Shuts the last site out, for good.
    pub(super) revokes: Option<u64>,
    /// Stops the run.
    pub(super) stops: Option<u64>,
}

impl Operator {
    /// Revokes in half of the worlds, stops in half; and stops in each world where nothing else would
    /// end the run: under the full rule a round waits for every site of its plan.
    pub(super) fn draw(seed: u64, rule: CohortRule) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x0b05);
        let revokes = rng.random_bool(0.5).then(|| rng.random_range(0..MOST_LATE));
        let must_stop = revokes.is_some() && rule == CohortRule::Full;
        let stops = (must_stop || rng.random_bool(0.5)).then(|| rng.random_range(0..MOST_LATE));
        Self { revokes, stops }
    }
}

/// An undisturbed run takes about two minutes.
const MOST_LATE: u64 = 300_000;
