//! The wire between sites and coordinator. Pure: no IO, no clock.
//!
//! **Participants.** One coordinator, which never connects to anybody; sites and observers, which
//! connect to it and stay connected. Who is who comes from certificates alone.
//!
//! **Goals.** A message means the same in ten years: the format is specified byte by byte
//! ([`codec`]), and changes are versions ([`version`]). Nothing a peer sends makes this crate panic
//! or take more memory than a frame's bound. Tensors never pass through the message codec; they
//! move as [blobs](transfer) that prove themselves, and resuming is asking for what is missing.
//!
//! **Non-goals.** Secrecy and authenticity, which TLS gives; running anything a peer sends.
//!
//! # A connection
//!
//! ```text
//! site                                    coordinator
//!  │ ── Hello ────────────────────────────▶ │
//!  │ ◀─────── Welcome, Consortium (if newer) │
//!  │ ◀──────────────────────────────── Plan │   of each run that names the site
//!  │ ── Join ─────────────────────────────▶ │   once the site approved the plan's digest
//!  │ ◀──────────────────────────────── Task │
//!  │ ── Want ─────────────────────────────▶ │   the model, as in `transfer`
//!  │ ── Status … ─────────────────────────▶ │   while it trains
//!  │ ── Manifest, chunks ─────────────────▶ │   the update, as in `transfer`
//!  │ ◀───────────────────────────── Receipt │
//!  │ ◀────────────────────────────── Finish │
//! ```
//!
//! Heartbeats go both ways all the time. Every message may come twice and is then ignored the
//! second time; after a new connection both ends say again what still holds.

pub mod bounded;
pub mod codec;
pub mod encoding;
pub mod ids;
pub mod layout;
pub mod message;
pub mod params;
pub mod plan;
pub mod record;
pub mod signed;
pub mod time;
pub mod transfer;
pub mod version;

pub use ids::{ConsortiumId, Digest, Role, Round, RunId, SiteId};
pub use message::Message;
pub use params::{Params, Schema, TensorSpec};
pub use signed::{Signed, Statement};
pub use time::Timestamp;
pub use transfer::BlobRef;
pub use version::{CloseCode, Spoken, Version};
