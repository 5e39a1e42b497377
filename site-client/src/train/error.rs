//! What can go wrong in training.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::cohort::CohortError;
use crate::scans::ScansError;

/// A fault of the configuration, the data or the machine; the message names file, field and rule.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A checkpoint that cannot be used.
    #[error("checkpoint {}: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A cohort's tables that cannot be read or do not fit together.
    #[error(transparent)]
    Cohort(#[from] CohortError),
    /// A configuration that cannot be read or makes no sense.
    #[error("configuration: {reason}")]
    Config {
        /// Which field breaks which rule.
        reason: String,
    },
    /// Scans or labels that cannot be trained on.
    #[error("{reason}")]
    Data {
        /// Which scan, label or part, and what is wrong.
        reason: String,
    },
    /// A device that does not exist or cannot do what is asked.
    #[error("device: {reason}")]
    Device {
        /// What is missing.
        reason: String,
    },
    /// A loss or a gradient that is no number.
    #[error(
        "step {step}: {figure} is {value}, expected a finite number; batch: {}; last good checkpoint: {}",
        scans.join(" "),
        checkpoint.as_ref().map_or_else(|| "none".into(), |path| path.display().to_string())
    )]
    Diverged {
        /// Step, counted from 1.
        step: u64,
        /// `loss` or `gradient norm`.
        figure: &'static str,
        /// What it is.
        value: f64,
        /// Scans of the step.
        scans: Vec<String>,
        /// Where to go on from.
        checkpoint: Option<PathBuf>,
    },
    /// A file that cannot be read or written.
    #[error("{}: cannot be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A table of scans that cannot be read.
    #[error(transparent)]
    Scans(#[from] ScansError),
    /// Too many scans that cannot be read.
    #[error(
        "{} of {total} scans cannot be read, at most 1 % may be skipped: {}",
        scans.len(),
        listed(scans)
    )]
    Unreadable {
        /// Their ids.
        scans: Vec<String>,
        /// Scans in the source.
        total: usize,
    },
    /// Results of a run whose last step is done.
    #[error(
        "all steps are done, but not written: {}; written: {}",
        failed.join("; "),
        if written.is_empty() { "nothing".into() } else { shown(written) }
    )]
    Unwritten {
        /// Each file that is not there, and why.
        failed: Vec<String>,
        /// The files that are.
        written: Vec<PathBuf>,
    },
}

fn shown(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    shown.join(", ")
}

/// Ids for a message: all of a few, the first of many.
fn listed(scans: &[String]) -> String {
    const MOST: usize = 20;
    match scans.get(..MOST) {
        Some(first) if scans.len() > MOST => format!("{} …", first.join(" ")),
        _ => scans.join(" "),
    }
}

impl TrainError {
    /// A fault of the file at `path`.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// A loss that is no number, in a batch and a run that the caller may know.
    pub(crate) fn loss(step: u64, value: f64) -> Self {
        Self::Diverged {
            step,
            figure: "loss",
            value,
            scans: Vec::new(),
            checkpoint: None,
        }
    }

    /// The same fault, with the ids of the scans of its batch.
    pub(crate) fn in_batch(mut self, ids: impl FnOnce() -> Vec<String>) -> Self {
        if let Self::Diverged { scans, .. } = &mut self {
            *scans = ids();
        }
        self
    }

    /// A broken rule of the configuration.
    pub(crate) fn config(reason: impl Into<String>) -> Self {
        Self::Config {
            reason: reason.into(),
        }
    }

    /// Unusable scans or labels.
    pub(crate) fn data(reason: impl Into<String>) -> Self {
        Self::Data {
            reason: reason.into(),
        }
    }
}
