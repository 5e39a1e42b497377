//! Real connections on loopback (abuse of them is a binary of its own, for its memory):
//!
//! * `blobs`: both paths, both ways, resumed over connection kills
//! * `paths`: fallback, proxy, lossy links, a changing address
//! * `peers`: who is let in, cut off, or turned away
//! * `probes`: how fast a link is
//! * `versions`: ends that know different versions of the protocol

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod blobs;
mod harness;
mod pair;
mod paths;
mod peers;
mod probes;
mod versions;
