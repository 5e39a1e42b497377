//! What is known of a site beyond its part in the round: shown to people, and when it was heard.

use protocol::Timestamp;
use protocol::message::Doing;
use serde::{Deserialize, Serialize};

/// A site that has joined at least once.
#[derive(Clone, Debug, PartialEq)]
pub struct Presence {
    connected: bool,
    since: Timestamp,
    heard: Timestamp,
    progress: Progress,
}

/// Where a site is in its task.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What it is doing.
    pub doing: Doing,
    /// Steps or bytes done.
    pub done: u64,
    /// Steps or bytes in all.
    pub total: u64,
}

impl Presence {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            connected: true,
            since: now,
            heard: now,
            progress: Progress::default(),
        }
    }

    /// Whether it is connected now.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Since when it has been connected, or not.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// When it was last heard.
    pub fn heard(&self) -> Timestamp {
        self.heard
    }

    /// What it was doing then.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    pub(super) fn join(&mut self, now: Timestamp) {
        (self.connected, self.since, self.heard) = (true, now, now);
    }

    /// It is there, whatever it is doing.
    pub(super) fn hear(&mut self, now: Timestamp) {
        self.heard = now;
    }

    pub(super) fn leave(&mut self, now: Timestamp) {
        if self.connected {
            (self.connected, self.since) = (false, now);
        }
    }

    /// Saying the same thing again is not progress.
    pub(super) fn note(&mut self, now: Timestamp, progress: Progress) {
        if self.progress != progress {
            (self.progress, self.heard) = (progress, now);
        }
    }

    pub(super) fn finish(&mut self, now: Timestamp) {
        (self.progress, self.heard) = (Progress::default(), now);
    }
}
