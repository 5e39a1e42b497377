//! Settings of the pump, as they stand in a configuration file: units are in the names.

use std::time::Duration;

use protocol::Spoken;
use serde::{Deserialize, Serialize};

/// Settings of both ends. Every value has a default that suits an ordinary network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Time between heartbeats, and between checks that the peer is still a member.
    pub heartbeat_seconds: u64,
    /// Silence after which a connection is given up.
    pub idle_timeout_seconds: u64,
    /// Time a handshake may take, over either path.
    pub handshake_timeout_seconds: u64,
    /// Kernel buffers of the UDP socket, each way; capped by the system's limit.
    pub udp_buffer_mib: u32,
    /// Data one QUIC stream may hold unread.
    pub stream_window_mib: u32,
    /// Data one QUIC connection may hold unread: the memory a peer can take.
    pub connection_window_mib: u32,
    /// Data one QUIC connection may hold unacknowledged.
    pub send_window_mib: u32,
    /// Chunks of 1 MiB under way at once on a connection: what this end takes, and over TCP also the
    /// most that it sends. The two ends may differ.
    pub chunks_in_flight: u32,
    /// Congestion control of QUIC.
    pub congestion: Congestion,
    /// Whether the kernel cuts large sends into packets; off where a middlebox drops bursts.
    pub segmentation_offload: bool,
    /// Coordinator: connections at once; more are turned away.
    pub max_connections: u32,
    /// Coordinator: handshakes at once. From a quarter of it on, QUIC peers must first prove their
    /// address (stateless retry); no IPv4 address and no IPv6 /64 takes more than a quarter.
    pub max_handshakes: u32,
    /// Site: which path to take.
    pub path: PathChoice,
    /// Site: silence over UDP after which TCP is tried.
    pub fallback_after_seconds: u64,
    /// Site: after a fallback, time until UDP is tried again.
    pub udp_retry_minutes: u64,
    /// Site: HTTP proxy for the TCP path, as `host:port`.
    pub proxy: Option<String>,
    /// Site: first step of the growing, random pause between connections.
    pub reconnect_base_seconds: f64,
    /// Site: longest pause between connections. A connection that lasted as long lets the pauses
    /// begin anew.
    pub reconnect_cap_seconds: f64,
    /// Versions of the protocol to speak. No setting of a file: it is what the program knows.
    #[serde(skip)]
    pub versions: Spoken,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat_seconds: 5,
            idle_timeout_seconds: 60,
            handshake_timeout_seconds: 10,
            udp_buffer_mib: 4,
            stream_window_mib: 32,
            connection_window_mib: 64,
            send_window_mib: 64,
            chunks_in_flight: 10,
            congestion: Congestion::Cubic,
            segmentation_offload: true,
            max_connections: 1024,
            max_handshakes: 64,
            path: PathChoice::Auto,
            fallback_after_seconds: 5,
            udp_retry_minutes: 10,
            proxy: None,
            reconnect_base_seconds: 1.0,
            reconnect_cap_seconds: 60.0,
            versions: Spoken::default(),
        }
    }
}

/// Congestion control of QUIC.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Congestion {
    /// RFC 9438. Fair to others; slow where a link loses packets.
    #[default]
    Cubic,
    /// BBR. Keeps its rate on links that lose packets, and takes it from others.
    Bbr,
}

/// Which path a site takes to the coordinator.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathChoice {
    /// QUIC over UDP; TLS over TCP where UDP is blocked.
    #[default]
    Auto,
    /// QUIC only.
    Quic,
    /// TLS over TCP only.
    Tcp,
}

/// A value out of bounds.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("transport {field}: {rule}, found {found}")]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// The rule it breaks.
    pub rule: &'static str,
    /// Its value.
    pub found: String,
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// The first field out of bounds.
    pub fn check(&self) -> Result<(), ConfigError> {
        let between = |field, found: u64, low: u64, high: u64, rule| {
            if (low..=high).contains(&found) {
                Ok(())
            } else {
                Err(ConfigError {
                    field,
                    rule,
                    found: found.to_string(),
                })
            }
        };
        let hour = "must be 1 to 3600";
        between("heartbeat_seconds", self.heartbeat_seconds, 1, 3600, hour)?;
        between(
            "handshake_timeout_seconds",
            self.handshake_timeout_seconds,
            1,
            3600,
            hour,
        )?;
        between(
            "fallback_after_seconds",
            self.fallback_after_seconds,
            1,
            3600,
            hour,
        )?;
        between(
            "idle_timeout_seconds",
            self.idle_timeout_seconds,
            1,
            3600,
            hour,
        )?;
        between(
            "idle_timeout_seconds",
            self.idle_timeout_seconds,
            2 * self.heartbeat_seconds,
            3600,
            "must be at least two heartbeats",
        )?;
        let mib = "must be 1 to 1024 MiB";
        between("udp_buffer_mib", self.udp_buffer_mib.into(), 1, 1024, mib)?;
        between(
            "stream_window_mib",
            self.stream_window_mib.into(),
            1,
            1024,
            mib,
        )?;
        between(
            "connection_window_mib",
            self.connection_window_mib.into(),
            1,
            1024,
            mib,
        )?;
        between("send_window_mib", self.send_window_mib.into(), 1, 1024, mib)?;
        let chunks = "must be 1 to 255";
        between(
            "chunks_in_flight",
            self.chunks_in_flight.into(),
            1,
            255,
            chunks,
        )?;
        let count = "must be 1 to 65536";
        between(
            "max_connections",
            self.max_connections.into(),
            1,
            65_536,
            count,
        )?;
        between(
            "max_handshakes",
            self.max_handshakes.into(),
            1,
            65_536,
            count,
        )?;
        for (field, value) in [
            ("reconnect_base_seconds", self.reconnect_base_seconds),
            ("reconnect_cap_seconds", self.reconnect_cap_seconds),
        ] {
            if !(value > 0.0 && value <= 3600.0) {
                let rule = "must be above 0 and at most 3600";
                return Err(ConfigError {
                    field,
                    rule,
                    found: value.to_string(),
                });
            }
        }
        Ok(())
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.heartbeat_seconds)
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_seconds)
    }

    pub(crate) fn handshake_timeout(&self) -> Duration {
        Duration::from_secs(self.handshake_timeout_seconds)
    }

    pub(crate) fn fallback_after(&self) -> Duration {
        Duration::from_secs(self.fallback_after_seconds)
    }

    pub(crate) fn udp_retry(&self) -> Duration {
        Duration::from_secs(self.udp_retry_minutes.saturating_mul(60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_bounds() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn a_value_out_of_bounds_is_named() {
        let config = Config {
            chunks_in_flight: 0,
            ..Config::default()
        };
        let error = config.check().unwrap_err().to_string();
        assert_eq!(
            error,
            "transport chunks_in_flight: must be 1 to 255, found 0"
        );
        let config = Config {
            idle_timeout_seconds: 9,
            ..Config::default()
        };
        let error = config.check().unwrap_err();
        assert_eq!(error.rule, "must be at least two heartbeats");
        let config = Config {
            reconnect_cap_seconds: f64::NAN,
            ..Config::default()
        };
        assert_eq!(config.check().unwrap_err().field, "reconnect_cap_seconds");
    }
}
