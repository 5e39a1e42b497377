//! The journal: every event of every run, in order, hash-chained, durable before it is acted on.
//!
//! SQLite with a write-ahead log and `synchronous = FULL`: when [`Journal::append`] returns, the
//! event survives a power cut. Each row's hash covers the row and the hash before it, so a changed,
//! missing or inserted row is found by reading.
//!
//! One process at a time may hold a directory; [`Journal::open`] refuses a second one.

mod collections;
mod error;
mod schema;
mod stops;

use std::fs::{self, File, TryLockError};
use std::path::Path;

use protocol::{Digest, RunId, Timestamp};
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};
use transport::FileLock;

pub use error::JournalError;

use crate::run::{Checkpoint, Event};

/// The journal of one coordinator directory.
pub struct Journal {
    db: Connection,
    /// Held for the life of the process that serves; `None` for those that only look or launch.
    _lock: Option<FileLock>,
}

/// What a run was launched with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Launch {
    /// Its name.
    pub run: RunId,
    /// The plan's bytes.
    pub plan: Vec<u8>,
    /// The coordinator's signature over the plan.
    pub signature: Vec<u8>,
    /// The model's schema: the header of a canonical safetensors file.
    pub schema: Vec<u8>,
    /// When.
    pub at: Timestamp,
}

/// One journalled event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Place in the run's journal, from 0.
    pub index: u64,
    /// When it was journalled.
    pub at: Timestamp,
    /// The event as written: what the hash covers.
    pub body: String,
    /// Hash of this row and all before.
    pub hash: Digest,
}

/// Signed bytes that events refer to by digest: manifests and receipts.
pub struct Document<'a> {
    /// The bytes, as they were received or sent.
    pub bytes: &'a [u8],
}

impl Journal {
    /// Opens the journal of a directory and holds the directory until dropped.
    ///
    /// # Errors
    /// If another process holds it, or the database cannot be used.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        let io = |source| JournalError::Io {
            path: directory.to_owned(),
            source,
        };
        fs::create_dir_all(directory).map_err(io)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(LOCK_FILE))
            .map_err(io)?;
        let lock = FileLock::take(lock).map_err(|error| match error {
            TryLockError::WouldBlock => JournalError::Locked {
                path: directory.to_owned(),
            },
            TryLockError::Error(source) => io(source),
        })?;
        let mut journal = Self::open_shared(directory)?;
        journal._lock = Some(lock);
        Ok(journal)
    }

    /// Opens the journal beside a process that may hold the directory, to launch a run; makes it
    /// where there is none.
    ///
    /// # Errors
    /// If the database cannot be used.
    pub fn open_shared(directory: &Path) -> Result<Self, JournalError> {
        let mut db = Connection::open(directory.join(DATABASE_FILE))?;
        schema::prepare(&mut db)?;
        Ok(Self { db, _lock: None })
    }

    /// Opens the journal that a directory has, beside a process that may hold it: to look. Makes
    /// nothing in a directory without one.
    ///
    /// # Errors
    /// If there is none, or the database cannot be used.
    pub fn open_existing(directory: &Path) -> Result<Self, JournalError> {
        let path = directory.join(DATABASE_FILE);
        let mut db = existing(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        schema::prepare(&mut db)?;
        Ok(Self { db, _lock: None })
    }

    /// Opens a copy, for instance a backup, without writing to it.
    ///
    /// # Errors
    /// If there is no such file, or it is not a journal this version knows.
    pub fn open_read_only(database: &Path) -> Result<Self, JournalError> {
        let db = existing(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        Ok(Self { db, _lock: None })
    }

    /// Records a new run with its first event.
    ///
    /// # Errors
    /// If a run of that name exists, or the database fails.
    pub fn launch(&mut self, launch: &Launch, start: Checkpoint) -> Result<(), JournalError> {
        let transaction = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let run = launch.run.as_str();
        let exists = transaction
            .query_row("SELECT 1 FROM runs WHERE run = ?1", [run], |_| Ok(()))
            .optional()?;
        if exists.is_some() {
            return Err(JournalError::Exists {
                run: launch.run.clone(),
            });
        }
        transaction.execute(
            "INSERT INTO runs (run, plan, signature, schema, launched_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![run, launch.plan, launch.signature, launch.schema, to_sql(launch.at.0)],
        )?;
        insert(
            &transaction,
            &launch.run,
            launch.at,
            &Event::Launched { checkpoint: start },
        )?;
        transaction.commit()?;
        Ok(())
    }

    /// Every run, in the order they were launched.
    ///
    /// # Errors
    /// If the database fails.
    pub fn launches(&self) -> Result<Vec<Launch>, JournalError> {
        let mut statement = self
            .db
            .prepare("SELECT run, plan, signature, schema, launched_at FROM runs ORDER BY rowid")?;
        let rows = statement.query_map([], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get::<_, i64>(4)?,
            ))
        })?;
        rows.map(|row| {
            let (run, plan, signature, schema, at) = row?;
            let run = run
                .parse()
                .map_err(|_| JournalError::Malformed { column: "runs.run" })?;
            let at = Timestamp(at.cast_unsigned());
            Ok(Launch {
                run,
                plan,
                signature,
                schema,
                at,
            })
        })
        .collect()
    }

    /// Appends an event and the signed documents it refers to; both are durable when this returns.
    ///
    /// # Errors
    /// If the database fails; then nothing was appended.
    pub fn append(
        &mut self,
        run: &RunId,
        at: Timestamp,
        event: &Event,
        documents: &[Document<'_>],
    ) -> Result<u64, JournalError> {
        let transaction = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for document in documents {
            transaction.execute(
                "INSERT OR IGNORE INTO documents (digest, run, bytes) VALUES (?1, ?2, ?3)",
                params![
                    Digest::of(document.bytes).as_bytes(),
                    run.as_str(),
                    document.bytes
                ],
            )?;
        }
        let index = insert(&transaction, run, at, event)?;
        transaction.commit()?;
        Ok(index)
    }

    /// A run's entries in order, the hash chain checked.
    ///
    /// # Errors
    /// If the chain is broken or the database fails.
    pub fn entries(&self, run: &RunId) -> Result<Vec<Entry>, JournalError> {
        let mut statement = self
            .db
            .prepare("SELECT seq, at, body, hash FROM events WHERE run = ?1 ORDER BY seq")?;
        let rows = statement.query_map([run.as_str()], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get(2)?,
                row.get(3)?,
            ))
        })?;
        let mut entries = Vec::new();
        let mut head = chain_start(run);
        for (expected, row) in (0..).zip(rows) {
            let (index, at, body, hash): (_, _, String, [u8; Digest::LEN]) = row?;
            let (index, at) = (index.cast_unsigned(), Timestamp(at.cast_unsigned()));
            let entry = Entry {
                index,
                at,
                body,
                hash: Digest::from(hash),
            };
            if index != expected || entry.hash != chain(head, index, at, &entry.body) {
                return Err(JournalError::Broken {
                    run: run.clone(),
                    index: expected,
                });
            }
            head = entry.hash;
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Number of entries a run has.
    ///
    /// # Errors
    /// If the database fails.
    pub fn len(&self, run: &RunId) -> Result<u64, JournalError> {
        let count: i64 = self.db.query_row(
            "SELECT count(*) FROM events WHERE run = ?1",
            [run.as_str()],
            |row| row.get(0),
        )?;
        Ok(count.cast_unsigned())
    }

    /// Signed bytes by digest.
    ///
    /// # Errors
    /// If the database fails.
    pub fn document(&self, digest: Digest) -> Result<Option<Vec<u8>>, JournalError> {
        Ok(self
            .db
            .query_row(
                "SELECT bytes FROM documents WHERE digest = ?1",
                [digest.as_bytes()],
                |row| row.get(0),
            )
            .optional()?)
    }

    /// Every signed document of a run.
    ///
    /// # Errors
    /// If the database fails.
    pub fn documents(&self, run: &RunId) -> Result<Vec<Vec<u8>>, JournalError> {
        let mut statement = self
            .db
            .prepare("SELECT bytes FROM documents WHERE run = ?1 ORDER BY rowid")?;
        let rows = statement.query_map([run.as_str()], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Writes a consistent copy of the database while it is in use.
    ///
    /// # Errors
    /// If the copy cannot be written.
    pub fn backup(&self, to: &Path) -> Result<(), JournalError> {
        let mut copy = Connection::open(to)?;
        let backup = rusqlite::backup::Backup::new(&self.db, &mut copy)?;
        backup.run_to_completion(BACKUP_PAGES, std::time::Duration::ZERO, None)?;
        Ok(())
    }
}

impl Entry {
    /// The event.
    ///
    /// # Errors
    /// If this version does not know it.
    pub fn event(&self, run: &RunId) -> Result<Event, JournalError> {
        serde_json::from_str(&self.body).map_err(|source| JournalError::Event {
            run: run.clone(),
            index: self.index,
            source,
        })
    }
}

/// Opens a database that is a journal already.
fn existing(path: &Path, access: OpenFlags) -> Result<Connection, JournalError> {
    let missing = || JournalError::Missing {
        path: path.to_owned(),
    };
    if !path.is_file() {
        return Err(missing());
    }
    let db = Connection::open_with_flags(path, access)?;
    // An empty file is a database without tables, for SQLite.
    if schema::check(&db)? == 0 {
        return Err(missing());
    }
    Ok(db)
}

/// Hash before the first entry.
pub fn chain_start(run: &RunId) -> Digest {
    Digest::derived(CHAIN_CONTEXT, run.as_str().as_bytes())
}

/// Hash of an entry that follows `head`.
pub fn chain(head: Digest, index: u64, at: Timestamp, body: &str) -> Digest {
    let mut bytes = head.as_bytes().to_vec();
    bytes.extend(index.to_le_bytes());
    bytes.extend(at.0.to_le_bytes());
    bytes.extend(body.as_bytes());
    Digest::derived(CHAIN_CONTEXT, &bytes)
}

fn insert(
    transaction: &Transaction<'_>,
    run: &RunId,
    at: Timestamp,
    event: &Event,
) -> Result<u64, JournalError> {
    let last: Option<(i64, [u8; Digest::LEN])> = transaction
        .query_row(
            "SELECT seq, hash FROM events WHERE run = ?1 ORDER BY seq DESC LIMIT 1",
            [run.as_str()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let (index, head) = match last {
        Some((seq, hash)) => (seq.cast_unsigned() + 1, Digest::from(hash)),
        None => (0, chain_start(run)),
    };
    let body = serde_json::to_string(event).expect("events are plain data with text keys");
    let hash = chain(head, index, at, &body);
    transaction.execute(
        "INSERT INTO events (run, seq, at, body, hash) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            run.as_str(),
            to_sql(index),
            to_sql(at.0),
            body,
            hash.as_bytes()
        ],
    )?;
    Ok(index)
}

/// SQLite has no unsigned integers; none of ours comes near the sign bit.
fn to_sql(value: u64) -> i64 {
    value.cast_signed()
}

const CHAIN_CONTEXT: &str = "fmct 2026-11 journal chain v1";
const DATABASE_FILE: &str = "journal.sqlite";
const LOCK_FILE: &str = "coordinator.lock";

/// Pages copied at a time.
const BACKUP_PAGES: i32 = 256;

#[cfg(test)]
mod tests;
