//! Why predictions cannot be read or written.

use std::path::PathBuf;

/// A predictions table that is not one.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The file cannot be opened or written.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a table of comma-separated values.
    #[error("predictions: not a CSV table")]
    Csv(#[from] csv::Error),
    /// A column that all statistics need is not there.
    #[error("predictions: no column {column}, found {found}")]
    MissingColumn {
        /// The column.
        column: &'static str,
        /// The columns there are.
        found: String,
    },
    /// A column is there twice.
    #[error("predictions: column {column} appears twice")]
    RepeatedColumn {
        /// The column.
        column: &'static str,
    },
    /// A value that its column does not allow.
    #[error("predictions: line {line}, column {column}: expected {expected}, found {found:?}")]
    Value {
        /// Line in the file, from 1; the header is line 1.
        line: u64,
        /// The column.
        column: &'static str,
        /// What the column holds.
        expected: &'static str,
        /// The value.
        found: String,
    },
    /// There is nothing to evaluate.
    #[error("predictions: no rows")]
    Empty,
    /// Statistics need a column that these predictions leave empty.
    #[error("predictions: no row has a value in column {column}, cannot group by it")]
    NoGroups {
        /// The column.
        column: &'static str,
    },
    /// The table to compare with holds several models.
    #[error("comparison: {found} models, expected one")]
    SeveralModels {
        /// How many.
        found: usize,
    },
}
