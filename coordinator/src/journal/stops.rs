//! Runs that somebody wants stopped: asked for beside the process that serves, which alone appends to
//! a run that it serves.

use protocol::{RunId, Timestamp};
use rusqlite::params;

use super::{Journal, JournalError, to_sql};

impl Journal {
    /// Asks whoever serves the directory to stop a run; durable when this returns. Asking twice is
    /// asking once.
    ///
    /// # Errors
    /// If there is no such run, or the database fails.
    pub fn ask_stop(&mut self, run: &RunId, now: Timestamp) -> Result<(), JournalError> {
        self.db.execute(
            "INSERT INTO stops (run, asked_at) VALUES (?1, ?2) ON CONFLICT (run) DO NOTHING",
            params![run.as_str(), to_sql(now.0)],
        )?;
        Ok(())
    }

    /// Runs that were asked to be stopped and are not known to be.
    ///
    /// # Errors
    /// If the database fails.
    pub fn stops(&self) -> Result<Vec<RunId>, JournalError> {
        let mut statement = self.db.prepare("SELECT run FROM stops ORDER BY run")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        rows.map(|run| {
            let malformed = JournalError::Malformed {
                column: "stops.run",
            };
            run?.parse().map_err(|_| malformed)
        })
        .collect()
    }

    /// Forgets that a run was asked to be stopped, once it is.
    ///
    /// # Errors
    /// If the database fails.
    pub fn forget_stop(&mut self, run: &RunId) -> Result<(), JournalError> {
        self.db
            .execute("DELETE FROM stops WHERE run = ?1", [run.as_str()])?;
        Ok(())
    }
}
