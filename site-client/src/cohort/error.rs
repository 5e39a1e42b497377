//! What can be wrong with the tables of a cohort.

use std::fmt;
use std::path::{Path, PathBuf};

/// A cell of a table: the file, the line as an editor counts it, the column's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The table.
    pub path: PathBuf,
    /// Line, from 1.
    pub row: u64,
    /// Header of the column, or its number.
    pub column: String,
}

impl Place {
    pub(crate) fn new(path: &Path, row: u64, column: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            row,
            column: column.into(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} row {} column {}",
            self.path.display(),
            self.row,
            self.column
        )
    }
}

/// Why a cohort's tables cannot be read, joined or written.
#[derive(Debug, thiserror::Error)]
pub enum CohortError {
    /// A file that cannot be opened, read or written.
    #[error("{}: cannot be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line that is no CSV.
    #[error("{}: not a valid table", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: csv::Error,
    },
    /// A file without a header line.
    #[error("{}: row 1 column 1: the file is empty, expected a header line", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A text encoding other than UTF-8.
    #[error("{}: row 1 column 1: the file is UTF-16, expected UTF-8", path.display())]
    Utf16 {
        /// The file.
        path: PathBuf,
    },
    /// A column that is not there.
    #[error("{}: row 1: no column \"{column}\", found {found}", path.display())]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// The column sought.
        column: String,
        /// The header found.
        found: String,
    },
    /// Two columns of one name.
    #[error("{}: row 1: column \"{column}\" appears twice", path.display())]
    TwinColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
    },
    /// A cell that breaks a rule. What was found is shown only where it cannot name a patient.
    #[error("{place}: {found}, expected {expected}")]
    Cell {
        /// Where.
        place: Place,
        /// What was found.
        found: String,
        /// The rule.
        expected: String,
    },
    /// Dates of more than one form in one column.
    #[error(
        "{place}: a date of the form {found} after dates of the form {expected}; name one form in the mapping"
    )]
    MixedDates {
        /// Where.
        place: Place,
        /// Form of this date, digits shown as 9.
        found: String,
        /// Form of the dates before.
        expected: String,
    },
    /// A key that must be unique.
    #[error("{place}: \"{key}\" stands already in row {first}")]
    Twice {
        /// Where.
        place: Place,
        /// The key.
        key: String,
        /// Where it stood first.
        first: u64,
    },
    /// Labels that belong to other scans.
    #[error("{place}: scan \"{scan}\" is not in {}", scans.display())]
    OtherScan {
        /// Where.
        place: Place,
        /// The scan.
        scan: String,
        /// The table of scans.
        scans: PathBuf,
    },
    /// A patient in two parts of a split.
    #[error(
        "{place}: patient \"{patient}\" is in \"{part}\" here and in \"{other}\" in row {first}: a leak"
    )]
    Leak {
        /// Where.
        place: Place,
        /// The pseudonym.
        patient: String,
        /// The part here.
        part: &'static str,
        /// The part before.
        other: &'static str,
        /// The row before.
        first: u64,
    },
    /// A folder that holds no health records of a known form.
    #[error("{}: no health records: expected diagnoses.csv, condition_occurrence.csv or *.ndjson", path.display())]
    NoRecords {
        /// The folder.
        path: PathBuf,
    },
    /// A document that does not say what it should.
    #[error("{}: not valid", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A rule of definitions, mappings, splits or plans that is broken.
    #[error("{object}: {found}, expected {expected}")]
    Rule {
        /// What it is about.
        object: String,
        /// What was found.
        found: String,
        /// The rule.
        expected: String,
    },
    /// A scan of a phantom that cannot be written.
    #[error("phantom {scan}: cannot be written")]
    Phantom {
        /// The scan.
        scan: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The site profile of a phantom cohort.
    #[error(transparent)]
    Site(#[from] core_model::phantom::SiteError),
    /// The table of scans.
    #[error(transparent)]
    Scans(#[from] crate::scans::ScansError),
}

impl CohortError {
    pub(crate) fn io(path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn csv(path: &Path) -> impl Fn(csv::Error) -> Self {
        move |source| Self::Csv {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn document<E>(path: &Path) -> impl Fn(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Document {
            path: path.to_owned(),
            source: source.into(),
        }
    }

    pub(crate) fn rule(
        object: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Rule {
            object: object.into(),
            found: found.into(),
            expected: expected.into(),
        }
    }
}
