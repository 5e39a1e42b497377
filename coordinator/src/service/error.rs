//! What goes wrong in the service; never a site's fault.

use std::io;
use std::path::PathBuf;

use protocol::params::FileError;
use protocol::plan::PlanError;
use protocol::{Digest, Round, RunId, SiteId};
use thiserror::Error;

use crate::aggregate::AggregateError;
use crate::journal::JournalError;

/// An error of the service.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// An aggregation stopped.
    #[error(transparent)]
    Aggregate(#[from] AggregateError),
    /// A blob is not what its name says.
    #[error("blob {digest}: its bytes have another digest")]
    Blob {
        /// Its name.
        digest: Digest,
    },
    /// Replaying a round gave another model, or other moments of the server's optimizer.
    #[error(
        "run {run}, round {round}: replay gives {what} {}, the journal says {}",
        shown(*.found),
        shown(*.expected)
    )]
    Differs {
        /// The run.
        run: RunId,
        /// The first round that differs.
        round: Round,
        /// Model or moments.
        what: &'static str,
        /// What the journal says.
        expected: Option<Digest>,
        /// What was computed.
        found: Option<Digest>,
    },
    /// The initial checkpoint is not a file of float32 tensors.
    #[error("initial checkpoint")]
    Initial(#[from] FileError),
    /// The initial checkpoint is not the plan's.
    #[error("initial checkpoint: digest is {found}, the plan says {expected}")]
    InitialDigest {
        /// The plan's.
        expected: Digest,
        /// The file's.
        found: Digest,
    },
    /// A file could not be used.
    #[error("cannot use {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A run of this name does not exist.
    #[error("there is no run {run}")]
    NoRun {
        /// The name.
        run: RunId,
    },
    /// A plan was refused.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Something in the transcript is not signed as it must be.
    #[error("run {run}, event {index}: {defect}")]
    Transcript {
        /// The run.
        run: RunId,
        /// Index in the journal.
        index: u64,
        /// What is wrong.
        defect: String,
    },
    /// A signature could not be made.
    #[error("cannot sign a {what} of {len} bytes")]
    Unsigned {
        /// What was to be signed.
        what: &'static str,
        /// How long it is.
        len: usize,
    },
    /// A member that signed something is not in the consortium file.
    #[error("{site} is not in the consortium file")]
    UnknownMember {
        /// The member.
        site: SiteId,
    },
}

impl ServiceError {
    /// Names the file an IO error is about.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

fn shown(digest: Option<Digest>) -> String {
    digest.map_or_else(|| "none".to_owned(), |digest| digest.to_string())
}
