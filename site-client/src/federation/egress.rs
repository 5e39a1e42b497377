//! The site's own record of what left it: one JSON line for each thing, before its first byte goes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use protocol::{Digest, Round, RunId, Timestamp};
use serde::{Deserialize, Serialize};

use super::error::FederationError;
use super::session::Task;
use super::store::sync_folder;
use super::trainer::Report;

/// One thing that left, or was about to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EgressRow {
    /// When, in milliseconds since 1970.
    pub at: Timestamp,
    /// Run it belongs to.
    pub run: RunId,
    /// Round it belongs to.
    pub round: Round,
    /// What it is.
    pub kind: Kind,
    /// Digest of its bytes as they are sent.
    pub digest: Digest,
    /// How many bytes.
    pub bytes: u64,
    /// Tensors whose change it holds, of an update.
    pub tensors: Vec<String>,
    /// Euclidean norm of the change of weights.
    pub norm: Option<f64>,
    /// Examples it tells of.
    pub examples: u64,
    /// The metrics themselves, of an evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Report>,
    /// The words themselves, of a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What left. Beside these three a site says hello, joins, and tells its progress in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Counts and histograms on held-out patients: one message.
    Evaluation,
    /// Why a task could not be done: one message.
    Failure,
    /// The change of the weights: a blob.
    Update,
}

impl Kind {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Evaluation => "evaluation",
            Self::Failure => "failure",
            Self::Update => "update",
        }
    }
}

impl EgressRow {
    /// A row of a task with nothing told about the content yet.
    pub(super) fn new(at: Timestamp, task: &Task, kind: Kind, digest: Digest, bytes: u64) -> Self {
        Self {
            at,
            run: task.run.clone(),
            round: task.round,
            kind,
            digest,
            bytes,
            tensors: Vec::new(),
            norm: None,
            examples: 0,
            metrics: None,
            text: None,
        }
    }
}

/// The log of a site's directory.
#[derive(Clone, Debug)]
pub struct EgressLog {
    path: PathBuf,
}

impl EgressLog {
    /// The log of a site's directory; the file is made by the first row.
    pub fn new(directory: &Path) -> Self {
        Self {
            path: directory.join(FILE),
        }
    }

    /// Appends a row; it is on disk when this returns.
    ///
    /// # Errors
    /// If it cannot be written: then nothing may leave.
    pub fn append(&self, row: &EgressRow) -> Result<(), FederationError> {
        let mut line = serde_json::to_vec(row).expect("a row is plain data with text keys");
        line.push(b'\n');
        let append = || {
            let mut options = File::options();
            let mut file = options
                .create(true)
                .read(true)
                .append(true)
                .open(&self.path)?;
            let is_first = cut_torn_row(&file)? == 0;
            file.write_all(&line)?;
            file.sync_data()?;
            match self.path.parent() {
                Some(folder) if is_first => sync_folder(folder),
                _ => Ok(()),
            }
        };
        append().map_err(|source| FederationError::Io {
            path: self.path.clone(),
            source,
        })
    }

    /// Every row, oldest first.
    ///
    /// # Errors
    /// If the log cannot be read, or a line other than a torn last one is damaged.
    pub fn rows(&self) -> Result<Vec<EgressRow>, FederationError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(FederationError::Io {
                    path: self.path.clone(),
                    source,
                });
            }
        };
        let lines = bytes.split_inclusive(|&byte| byte == b'\n');
        // A crash can leave half a line at the end, and half a letter; what it was about did not leave.
        let whole = lines.filter_map(|line| line.strip_suffix(b"\n"));
        whole
            .map(|line| {
                serde_json::from_slice(line).map_err(|error| FederationError::State {
                    path: self.path.clone(),
                    reason: error.to_string(),
                })
            })
            .collect()
    }
}

/// Cuts off the half row that a crash or a full disk left at the end: a row is synced before the first
/// byte of what it is about goes, so that never left. Gives the length of what stays.
fn cut_torn_row(file: &File) -> io::Result<u64> {
    let found = file.metadata()?.len();
    let (mut end, mut last) = (found, [0]);
    while end > 0 {
        file.read_exact_at(&mut last, end - 1)?;
        if last == *b"\n" {
            break;
        }
        end -= 1;
    }
    if end < found {
        file.set_len(end)?;
    }
    Ok(end)
}

const FILE: &str = "egress.jsonl";

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> EgressRow {
        EgressRow {
            at: Timestamp(5),
            run: "run-1".parse().unwrap(),
            round: Round(1),
            kind: Kind::Update,
            digest: Digest::of(b"update"),
            bytes: 6,
            tensors: vec!["head".to_owned()],
            norm: Some(0.5),
            examples: 9,
            metrics: None,
            text: Some("für".to_owned()),
        }
    }

    #[test]
    fn a_row_torn_anywhere_is_cut_off_before_the_next_is_appended() {
        let directory = tempfile::tempdir().unwrap();
        let log = EgressLog::new(directory.path());
        let file = directory.path().join(FILE);
        log.append(&row()).unwrap();
        let whole = fs::read(&file).unwrap();
        for first in [&b""[..], &whole] {
            let rows = vec![row(); 1 + usize::from(!first.is_empty())];
            for torn in 0..whole.len() {
                fs::write(&file, [first, &whole[..torn]].concat()).unwrap();
                assert_eq!(log.rows().unwrap(), rows[1..], "{torn} bytes");
                log.append(&row()).unwrap();
                assert_eq!(log.rows().unwrap(), rows, "{torn} bytes");
            }
        }
    }

    #[test]
    fn rows_come_back_and_a_torn_last_line_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let log = EgressLog::new(directory.path());
        assert_eq!(log.rows().unwrap(), []);
        let row = row();
        log.append(&row).unwrap();
        log.append(&row).unwrap();
        let mut file = File::options()
            .append(true)
            .open(directory.path().join(FILE))
            .unwrap();
        file.write_all(b"{\"at\":").unwrap();
        assert_eq!(log.rows().unwrap(), [row.clone(), row]);
    }
}
