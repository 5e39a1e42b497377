//! What goes wrong with the journal.

use std::io;
use std::path::PathBuf;

use protocol::RunId;
use thiserror::Error;

/// What went wrong with the journal; never a site's fault.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A row does not follow from the one before.
    #[error("journal of run {run}: event {index} does not continue the hash chain")]
    Broken {
        /// The run.
        run: RunId,
        /// Index of the row.
        index: u64,
    },
    /// An event that this version does not know.
    #[error("journal of run {run}: event {index} is not one this version knows")]
    Event {
        /// The run.
        run: RunId,
        /// Index of the row.
        index: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The run exists already.
    #[error("run {run} exists already")]
    Exists {
        /// The run.
        run: RunId,
    },
    /// The directory or its lock could not be used.
    #[error("journal: cannot use {path}")]
    Io {
        /// What could not be used.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("journal: another coordinator is running on {path}")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Something in the database is not what was written there.
    #[error("journal: {column} holds a value that was never written there")]
    Malformed {
        /// Where.
        column: &'static str,
    },
    /// There is no journal where one is to be looked at.
    #[error("journal: there is none at {path}")]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// The database failed.
    #[error("journal: database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// Written by a later version.
    #[error("journal: schema version {found}, this program knows {known}")]
    Version {
        /// Version found.
        found: u32,
        /// Latest version known.
        known: u32,
    },
}
