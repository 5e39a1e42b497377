//! The service: runs in a directory, sites on connections, people who look.
//!
//! [`Coordinator`] decides and journals; it does no network and no long work. The shell around it
//! ([`Server`]) moves bytes, runs [`FoldJob`]s beside it, and tells it what happened.

mod actions;
mod active;
mod arriving;
mod card;
mod clock;
mod coordinator;
mod declined;
mod error;
mod export;
mod fold;
mod garbage;
mod initial;
mod joining;
mod lineage;
mod matrix;
mod overview;
mod reader;
mod record;
mod renewal;
mod reports;
mod revoked;
mod serve;
mod stop;
mod uploads;
mod verify;
mod witness;

pub use crate::areas::{Area, area};
pub use card::model_card;
pub use clock::Clock;
pub use coordinator::{Coordinator, Options, blobs_path};
pub use error::ServiceError;
pub use export::{Network, export_model, export_transcript};
pub use fold::{FoldJob, Folded};
pub use garbage::Collection;
pub use initial::{Initial, launch};
pub use matrix::{MatrixRow, Part, Side, SiteArea, TaskAreas, Together, matrix};
pub use overview::{Overview, RoundOverview, RunOverview, SiteOverview};
pub use record::record;
pub use serve::Server;
pub use stop::{Stop, stop};
pub use uploads::{Offer, Upload};
pub use verify::{Replayed, Verified, replay, trust, verify};
