//! Tables, and how older databases become this version's.

use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::JournalError;

/// Sets the connection up and brings the database to the latest version.
pub(super) fn prepare(db: &mut Connection) -> Result<(), JournalError> {
    db.busy_timeout(BUSY_TIMEOUT)?;
    write_ahead(db)?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", true)?;
    if check(db)? as usize == MIGRATIONS.len() {
        return Ok(());
    }
    // Looked at again once nobody else can write: a process beside this one may be as far.
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = check(&transaction)?;
    for (version, migration) in (1..).zip(MIGRATIONS).skip(found as usize) {
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", version)?;
    }
    Ok(transaction.commit()?)
}

/// Turns the write-ahead log on. SQLite calls no busy handler here: whoever makes the same journal at
/// the same moment is waited for by trying again.
fn write_ahead(db: &Connection) -> Result<(), JournalError> {
    let started = Instant::now();
    loop {
        match db.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && started.elapsed() < BUSY_TIMEOUT =>
            {
                thread::sleep(PAUSE);
            }
            done => return Ok(done?),
        }
    }
}

/// The database's version, if this program knows it.
pub(super) fn check(db: &Connection) -> Result<u32, JournalError> {
    let found: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = MIGRATIONS.len() as u32;
    if found > known {
        return Err(JournalError::Version { found, known });
    }
    Ok(found)
}

/// From version n to n + 1; a database keeps the number of the last one in `user_version`.
const MIGRATIONS: [&str; 3] = [
    "
    CREATE TABLE runs (
        run         TEXT PRIMARY KEY,
        plan        BLOB NOT NULL,
        signature   BLOB NOT NULL,
        schema      BLOB NOT NULL,
        launched_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE events (
        run  TEXT NOT NULL REFERENCES runs (run),
        seq  INTEGER NOT NULL,
        at   INTEGER NOT NULL,
        body TEXT NOT NULL,
        hash BLOB NOT NULL,
        PRIMARY KEY (run, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE documents (
        digest BLOB PRIMARY KEY,
        run    TEXT NOT NULL REFERENCES runs (run),
        bytes  BLOB NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE stops (
        run      TEXT PRIMARY KEY REFERENCES runs (run),
        asked_at INTEGER NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE collections (
        run     TEXT PRIMARY KEY REFERENCES runs (run),
        through INTEGER NOT NULL
    ) STRICT;
",
];

/// The first version with `collections`.
pub(super) const COLLECTIONS: u32 = 3;

/// How long a launch beside a busy coordinator waits for its turn.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);
