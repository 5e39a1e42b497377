//! Times as certificates (seconds), files (RFC 3339) and people read them.

use std::fmt;
use std::time::Duration;

use protocol::Timestamp;
use rustls_pki_types::UnixTime;

/// The rule on time that a certificate breaks, with both times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The time of the check.
    pub now: Timestamp,
    /// The bound in the certificate or the consortium file.
    pub bound: Timestamp,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (now {})", utc(self.bound), utc(self.now))
    }
}

/// The time in RFC 3339, to the second: `2026-11-23T20:00:00Z`.
pub fn utc(time: Timestamp) -> String {
    from_seconds(time.as_secs()).map_or_else(|| time.to_string(), |time| time.to_string())
}

/// The time that [`utc`] wrote.
pub(crate) fn parse_utc(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok().map(Timestamp)
}

pub(crate) fn unix_time(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(time.as_secs()))
}

pub(crate) fn from_unix_time(time: UnixTime) -> Timestamp {
    Timestamp(time.as_secs().saturating_mul(1000))
}

fn from_seconds(seconds: u64) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_in_rfc_3339() {
        let time = Timestamp(1_795_464_000_000);
        assert_eq!(utc(time), "2026-11-23T20:00:00Z");
        assert_eq!(parse_utc("2026-11-23T20:00:00Z"), Some(time));
        assert_eq!(parse_utc("1969-12-31T23:59:59Z"), None);
        assert_eq!(utc(Timestamp(u64::MAX)), Timestamp(u64::MAX).to_string());
    }
}
