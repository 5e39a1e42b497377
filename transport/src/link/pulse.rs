use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certs::{Trust, VerifiedPeer};
use protocol::message::Heartbeat;
use protocol::{CloseCode, Version, codec};
use tokio::sync::watch;

use crate::clock;
use crate::pipe::{Heard, Pipe};

/// Beats, listens for beats, and checks that the peer is still a member.
pub(super) struct Pulse {
    pub(super) peer: VerifiedPeer,
    pub(super) version: Version,
    pub(super) trust: Trust,
    pub(super) pipe: Arc<Pipe>,
    pub(super) heard: Heard,
    pub(super) heard_sequence: watch::Receiver<u64>,
    pub(super) interval: Duration,
    pub(super) idle_timeout: Duration,
}

impl Pulse {
    pub(super) async fn run(self) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for sequence in 1.. {
            ticks.tick().await;
            if !self.is_still_member() {
                return;
            }
            if self.heard.silence() > self.idle_timeout {
                return self.pipe.close(CloseCode::Idle);
            }
            let heard = *self.heard_sequence.borrow();
            let beat = Heartbeat { sequence, heard }.into();
            if let Ok(frame) = codec::encode(&beat, self.version) {
                self.pipe.try_send(Bytes::from(frame));
            }
            // A second check between two beats: with a file that is read twice a heartbeat as
            // well, a revoked peer is cut off within one.
            tokio::time::sleep(self.interval / 2).await;
            if !self.is_still_member() {
                return;
            }
        }
    }

    /// Whether the peer may stay; if not, it is cut off.
    fn is_still_member(&self) -> bool {
        let checked = self.trust.check(&self.peer, clock::now());
        if let Err(refusal) = &checked {
            tracing::warn!(peer = %self.peer.id(), %refusal, "no longer let in");
            self.pipe.close(CloseCode::NotMember);
        }
        checked.is_ok()
    }
}
