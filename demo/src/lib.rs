//! Federated training in one process, for studies and for tests of what federation computes.

mod rehearsal;
mod schedules;

pub use rehearsal::{Member, Rehearsal, RehearsalError, RoundFacts};
pub use schedules::schedules;
