//! The rounds: events in, a journalled state machine, actions out. Knows no model.

pub mod aggregate;
mod areas;
pub mod blobs;
pub mod driver;
pub mod journal;
pub mod membership;
pub mod run;
pub mod service;
pub mod web;
