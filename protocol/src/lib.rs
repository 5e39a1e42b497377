//! The wire between sites and coordinator: identifiers, plans, messages, codec, parameter schema,
//! manifests and transfer. Pure: no IO, no clock.

pub mod encoding;
pub mod ids;
pub mod layout;
pub mod params;
pub mod plan;
pub mod time;

pub use ids::{ConsortiumId, Digest, Role, Round, RunId, SiteId};
pub use params::{Params, Schema, TensorSpec};
pub use time::Timestamp;
