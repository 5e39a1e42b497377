//! The service: runs in a directory, sites on connections, people who look.
//!
//! [`Coordinator`] decides and journals; it does no network and no long work. The shell around it
//! ([`Server`]) moves bytes, runs [`FoldJob`]s beside it, and tells it what happened.

mod areas;
mod card;
mod coordinator;
mod error;
mod export;
mod fold;
mod initial;
mod matrix;
mod overview;
mod record;
mod serve;
mod verify;

pub use areas::{Area, area};
pub use card::{model_card, with_interval};
pub use coordinator::{Coordinator, Halt, Options, Upload, blobs_path};
pub use error::ServiceError;
pub use export::{Network, export_model, export_transcript};
pub use fold::{FoldJob, Folded};
pub use initial::{Initial, launch};
pub use matrix::{MatrixRow, SiteArea, TaskAreas, matrix};
pub use overview::{Overview, RoundOverview, RunOverview, SiteOverview};
pub use record::record;
pub use serve::{Clock, Server};
pub use verify::{Verified, replay, trust, verify};
