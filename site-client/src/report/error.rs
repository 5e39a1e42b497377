//! Why a report cannot be made.

use std::path::PathBuf;

use core_model::ct::CtError;

use crate::evaluate::EvaluateError;
use crate::ingest::IngestError;
use crate::weights::WeightsError;

/// A run that cannot be read, or a report that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder has no configuration.
    #[error("run {}: neither run.toml nor config.toml", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// A `run.toml` that is not one.
    #[error("{}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// A line or row of a run's file.
    #[error("{}: line {line}: {rule}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// The rule broken, and what was found.
        rule: String,
    },
    /// The predictions.
    #[error("{}", path.display())]
    Predictions {
        /// The file.
        path: PathBuf,
        /// Why.
        source: EvaluateError,
    },
    /// The embeddings.
    #[error("{}: {rule}", path.display())]
    Embeddings {
        /// The file.
        path: PathBuf,
        /// The rule broken, and what was found.
        rule: String,
    },
    /// There is nothing to report.
    #[error("report: no runs")]
    NoRuns,
    /// A picture could not be drawn.
    #[error("picture: {0}")]
    Svg(String),
    /// The page could not be filled in.
    #[error("page cannot be filled in")]
    Page(#[from] askama::Error),
    /// A scan that cannot be read, or a map that cannot be written.
    #[error(transparent)]
    Scan(#[from] IngestError),
    /// A scan that cannot become model input.
    #[error(transparent)]
    Volume(#[from] CtError),
    /// Weights that cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}
