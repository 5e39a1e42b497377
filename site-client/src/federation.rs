//! The site's part of a round: approve, fetch, train, keep, send.
//!
//! [`Session`] decides and does nothing; [`SiteStore`] keeps what must survive a crash; a
//! [`Trainer`] does the science; [`start`] and [`finish`] turn a global model into a site's start
//! and its result into an update.

mod approval;
mod client;
mod egress;
mod error;
mod local;
mod mandate;
mod policy;
mod round;
mod session;
mod stand_in;
mod store;
mod trainer;
mod work;

pub use approval::{Approval, Approvals};
pub use client::{ClientConfig, run};
pub use egress::{EgressLog, EgressRow, Kind};
pub use error::FederationError;
pub use local::{CENTER, LocalTraining, first_checkpoint, local_plan, site_seed};
pub use policy::{Metrics, Policy, PolicyApproval, PolicyError};
pub use round::{Finished, Started, finish, start};
pub use session::{Action, Event, Ready, Session, State, Task, Working};
pub use stand_in::{Everything, StandIn};
pub use store::{Carried, SiteStore};
pub use trainer::{EvaluateJob, Flow, Report, TaskReport, TrainError, TrainJob, Trained, Trainer};
pub use work::{WorkError, Workplace};
