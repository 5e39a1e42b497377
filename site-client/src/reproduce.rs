//! The paper's single-site study as one plan: splits, pre-training with both objectives and three
//! shares of the data, fine-tuning, probes, few shots, baselines, external validation, the report.
//!
//! The way of the data: a TOML [`StudyConfig`] becomes a checked [`Study`] of [`Step`]s; each step
//! is one `fmct-site` command in a folder of its own, and a step whose digest is unchanged since it
//! was finished is skipped. A crash of a step leaves the study where it was.

mod config;
mod error;
mod planner;
mod runner;
mod study;

pub use config::{Ablation, Cohort, Estimate, StudyConfig};
pub use error::ReproduceError;
pub use runner::{Outcome, State, run, state};
pub use study::{Step, Study};
