//! What a site keeps on disk between rounds and across crashes.
//!
//! Every change is written to a temporary file, synced, and renamed; a crash leaves the old or the
//! new state, never a mixture. One directory for each run:
//!
//! ```text
//! RUN/state.json            the session, and which update was counted last
//! RUN/plan.toml             the plan, as approved
//! RUN/carried/DIGEST        what the round that made that update leaves for the next one
//! RUN/carried/DIGEST.kept   names and digests of the files that the trainer keeps with it
//! RUN/kept/DIGEST/          those files
//! RUN/reports/DIGEST        a finished evaluation until the next task
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use protocol::{Digest, RunId};
use serde::{Deserialize, Serialize};

use super::error::FederationError;
use super::session::{State, Working};
use super::trainer::Report;

mod carried;
mod kept;

pub use carried::Carried;

use kept::Inventory;

/// The site's directory of one run.
#[derive(Clone, Debug)]
pub struct SiteStore {
    directory: PathBuf,
    file: StateFile,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct StateFile {
    session: State,
    /// The update whose `carried` is the current one.
    counted: Option<Digest>,
}

impl SiteStore {
    /// Opens, or makes, the directory of a run under `root`.
    ///
    /// # Errors
    /// If it cannot be made or read, or its state is damaged.
    pub fn open(root: &Path, run: &RunId) -> Result<Self, FederationError> {
        let directory = root.join(run.as_str());
        for folder in [CARRIED, KEPT, REPORTS] {
            let path = directory.join(folder);
            fs::create_dir_all(&path).map_err(|source| FederationError::Io { path, source })?;
        }
        let path = directory.join(STATE);
        let file = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| FederationError::State {
                    path,
                    reason: error.to_string(),
                })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => StateFile::default(),
            Err(source) => return Err(FederationError::Io { path, source }),
        };
        Ok(Self { directory, file })
    }

    /// The run that was last worked on under `root`, if the end of the process interrupted it.
    ///
    /// # Errors
    /// If the run cannot be read, or its state is damaged.
    pub fn interrupted(root: &Path) -> Result<Option<(RunId, Self)>, FederationError> {
        let entries = match fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let path = root.to_owned();
                return Err(FederationError::Io { path, source });
            }
        };
        let written = |entry: fs::DirEntry| -> Option<(SystemTime, RunId)> {
            let run = entry.file_name().to_str()?.parse().ok()?;
            let state = fs::metadata(entry.path().join(STATE)).ok()?;
            Some((state.modified().ok()?, run))
        };
        let Some((_, run)) = entries.flatten().filter_map(written).max() else {
            return Ok(None);
        };
        let store = Self::open(root, &run)?;
        let working = matches!(store.state().current, Some((_, Working::Running)));
        Ok(working.then_some((run, store)))
    }

    /// The session as it was last made durable.
    pub fn state(&self) -> &State {
        &self.file.session
    }

    /// Makes the session durable. When another task follows a delivered update, what that update's
    /// round left becomes current, and everything older goes.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn persist(&mut self, state: &State) -> Result<(), FederationError> {
        if let (Some((old, Working::Delivered(ready))), Some((new, _))) =
            (&self.file.session.current, &state.current)
            && old != new
            && self
                .directory
                .join(CARRIED)
                .join(ready.blob.to_string())
                .exists()
        {
            self.file.counted = Some(ready.blob);
        }
        self.file.session = state.clone();
        let bytes = serde_json::to_vec(&self.file).expect("state is plain data with text keys");
        write_durably(&self.directory.join(STATE), &bytes)?;
        self.clean();
        Ok(())
    }

    /// Makes durable what goes with an update, files of the trainer included, before the session may
    /// call it ready.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn keep_carried(&self, update: Digest, carried: &Carried) -> Result<(), FederationError> {
        self.keep_files(update)?;
        // Last: an update counts with what it left only where this file is.
        write_durably(
            &self.directory.join(CARRIED).join(update.to_string()),
            &carried.write(),
        )
    }

    /// Gives the trainer's files the name of the update once they are on disk.
    fn keep_files(&self, update: Digest) -> Result<(), FederationError> {
        let (keep, kept) = (self.directory.join(KEEP), self.kept_path(update));
        let inventory = Inventory::make_durable(&keep)?;
        if inventory.is_empty() {
            return Ok(());
        }
        let rename = || {
            if kept.exists() {
                // Of a try that a crash ended.
                fs::remove_dir_all(&kept)?;
            }
            fs::rename(&keep, &kept)?;
            sync_folder(&self.directory.join(KEPT))?;
            sync_folder(&self.directory)
        };
        rename().map_err(|source| FederationError::Io {
            path: kept.clone(),
            source,
        })?;
        write_durably(&self.inventory_path(update), &inventory.write())
    }

    /// Makes an evaluation durable, before the session may call it ready.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep_report(&self, report: &Report) -> Result<(Digest, u64), FederationError> {
        let bytes = serde_json::to_vec(report).expect("a report is plain data with text keys");
        let digest = Digest::of(&bytes);
        write_durably(
            &self.directory.join(REPORTS).join(digest.to_string()),
            &bytes,
        )?;
        Ok((digest, bytes.len() as u64))
    }

    /// An evaluation that was kept.
    ///
    /// # Errors
    /// If it is missing or damaged.
    pub fn report(&self, digest: Digest) -> Result<Report, FederationError> {
        let path = self.directory.join(REPORTS).join(digest.to_string());
        let bytes = fs::read(&path).map_err(|source| FederationError::Io {
            path: path.clone(),
            source,
        })?;
        serde_json::from_slice(&bytes).map_err(|error| FederationError::State {
            path,
            reason: error.to_string(),
        })
    }

    /// What the last counted round left.
    ///
    /// # Errors
    /// If it cannot be read, is missing or damaged.
    pub fn carried(&self) -> Result<Carried, FederationError> {
        let Some(counted) = self.file.counted else {
            return Ok(Carried::default());
        };
        let path = self.directory.join(CARRIED).join(counted.to_string());
        match fs::read(&path) {
            Ok(bytes) => Carried::read(&bytes).map_err(|error| FederationError::Lost {
                path,
                found: format!("damaged ({error})"),
            }),
            Err(source) => Err(FederationError::lost_or_io(path, source)),
        }
    }

    /// What the trainer kept in its last counted round; empty before the first.
    ///
    /// # Errors
    /// If the directory cannot be made, or a file of the last counted round is missing or damaged.
    pub fn kept(&self) -> Result<PathBuf, FederationError> {
        let path = match self.file.counted {
            Some(counted) => {
                let path = self.kept_path(counted);
                Inventory::read(&self.inventory_path(counted))?.check(&path)?;
                path
            }
            None => self.directory.join(KEPT).join("none"),
        };
        fs::create_dir_all(&path).map_err(|source| FederationError::Io {
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }

    /// An empty directory for what the trainer keeps in this round.
    ///
    /// # Errors
    /// If it cannot be emptied or made.
    pub fn keep(&self) -> Result<PathBuf, FederationError> {
        let path = self.directory.join(KEEP);
        let io = |source| FederationError::Io {
            path: path.clone(),
            source,
        };
        if path.exists() {
            fs::remove_dir_all(&path).map_err(io)?;
        }
        fs::create_dir_all(&path).map_err(io)?;
        Ok(path)
    }

    /// Keeps the plan's bytes, so that interrupted work goes on before the coordinator is reached.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn keep_plan(&self, text: &[u8]) -> Result<(), FederationError> {
        write_durably(&self.directory.join(PLAN), text)
    }

    /// The plan kept, if any.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn plan(&self) -> Result<Option<Vec<u8>>, FederationError> {
        let path = self.directory.join(PLAN);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FederationError::Io { path, source }),
        }
    }

    fn inventory_path(&self, update: Digest) -> PathBuf {
        self.directory.join(CARRIED).join(format!("{update}.kept"))
    }

    fn kept_path(&self, digest: Digest) -> PathBuf {
        self.directory.join(KEPT).join(digest.to_string())
    }

    /// Removes what neither the session nor the last counted round refers to. What cannot be
    /// removed is tried again next time.
    fn clean(&self) {
        let mut needed: Vec<String> = Vec::new();
        needed.extend(self.file.counted.map(|digest| digest.to_string()));
        if let Some((_, Working::Ready(ready) | Working::Delivered(ready))) =
            &self.file.session.current
        {
            needed.push(ready.blob.to_string());
        }
        for folder in [CARRIED, KEPT, REPORTS] {
            let Ok(entries) = fs::read_dir(self.directory.join(folder)) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let of = name
                    .to_str()
                    .map(|name| name.strip_suffix(".kept").unwrap_or(name));
                if needed.iter().any(|needed| of == Some(needed)) {
                    continue;
                }
                let path = entry.path();
                let removed = if path.is_dir() {
                    fs::remove_dir_all(&path)
                } else {
                    fs::remove_file(&path)
                };
                if let Err(error) = removed {
                    tracing::debug!(%error, "an old file stays for now");
                }
            }
        }
    }
}

/// Writes a file so that a crash leaves all of it or none.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), FederationError> {
    let write = || {
        let temporary = path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), sync_folder)
    };
    write().map_err(|source| FederationError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

const STATE: &str = "state.json";
const PLAN: &str = "plan.toml";
const CARRIED: &str = "carried";
const KEPT: &str = "kept";
const REPORTS: &str = "reports";
const KEEP: &str = "keep";

#[cfg(test)]
mod tests;
