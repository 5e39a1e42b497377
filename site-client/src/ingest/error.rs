//! What can go wrong between a file and model input.

use std::io;
use std::path::{Path, PathBuf};

use core_model::ct::CtError;
use thiserror::Error;

use super::nifti::NiftiError;
use crate::scans::ScansError;

/// Why a scan or a cohort cannot be prepared. Messages name the file; logs must not repeat them.
#[derive(Debug, Error)]
pub enum IngestError {
    /// A cache entry is not what was written.
    #[error("{}: corrupt cache entry, {rule}; delete it and preprocess again", path.display())]
    Corrupt {
        /// The entry.
        path: PathBuf,
        /// What is wrong with it.
        rule: &'static str,
    },
    /// Reading or writing failed.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Not a NIfTI scan that can be used.
    #[error("{}: not a usable NIfTI scan", path.display())]
    Nifti {
        /// The file.
        path: PathBuf,
        /// The rule it breaks.
        source: Box<NiftiError>,
    },
    /// The table of scans.
    #[error("the table of scans cannot be used")]
    Scans(#[from] ScansError),
    /// The volume cannot be processed.
    #[error("{}: cannot be preprocessed", path.display())]
    Volume {
        /// The file.
        path: PathBuf,
        /// The rule it breaks.
        source: Box<CtError>,
    },
}

impl IngestError {
    /// What is wrong, without the file's path: for logs and tables, whose reader knows the scan.
    #[must_use]
    pub fn reason(&self) -> String {
        let chain = |error: &dyn std::error::Error| {
            let parts = std::iter::successors(Some(error), |&error| error.source());
            parts
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(": ")
        };
        match self {
            Self::Corrupt { rule, .. } => format!("corrupt cache entry, {rule}"),
            Self::Io { action, source, .. } => format!("cannot {action}: {source}"),
            Self::Nifti { source, .. } => chain(&**source),
            Self::Scans(source) => chain(source),
            Self::Volume { source, .. } => chain(&**source),
        }
    }

    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    pub(crate) fn nifti(path: &Path, source: NiftiError) -> Self {
        Self::Nifti {
            path: path.to_owned(),
            source: Box::new(source),
        }
    }

    pub(crate) fn volume(path: &Path, source: CtError) -> Self {
        Self::Volume {
            path: path.to_owned(),
            source: Box::new(source),
        }
    }
}
