//! The clock, read at the edge and handed inwards as a value.

use std::time::{SystemTime, UNIX_EPOCH};

use protocol::Timestamp;

/// The time now; the epoch itself if the machine's clock is before it.
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
