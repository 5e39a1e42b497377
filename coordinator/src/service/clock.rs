//! The one clock of the process.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use protocol::Timestamp;

/// Wall time at the start, then only forward: a clock that is set does not move deadlines.
#[derive(Clone, Copy)]
pub struct Clock {
    wall: Timestamp,
    started: Instant,
}

impl Clock {
    /// Starts at the machine's time.
    pub fn start() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            wall: Timestamp::default() + since,
            started: Instant::now(),
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.wall + self.started.elapsed()
    }
}
