//! Rounds whose blobs nobody keeps any longer: written down before the first of them goes, so that a
//! blob that was collected is told from one that was lost.

use protocol::{Round, RunId};
use rusqlite::{OptionalExtension, params};

use super::{Journal, JournalError, schema};

impl Journal {
    /// Notes that blobs which only rounds up to `through` need may be gone; durable when this
    /// returns. It never becomes fewer rounds.
    ///
    /// # Errors
    /// If there is no such run, or the database fails.
    pub fn note_collected(&mut self, run: &RunId, through: Round) -> Result<(), JournalError> {
        if self.collected(run)?.is_some_and(|known| known >= through) {
            return Ok(());
        }
        self.db.execute(
            "INSERT INTO collections (run, through) VALUES (?1, ?2)
             ON CONFLICT (run) DO UPDATE SET through = excluded.through",
            params![run.as_str(), through.0],
        )?;
        Ok(())
    }

    /// The last round of a run whose blobs may be gone; `None` if all are kept.
    ///
    /// # Errors
    /// If the database fails.
    pub fn collected(&self, run: &RunId) -> Result<Option<Round>, JournalError> {
        // One that was only ever opened to be read may be older.
        if schema::check(&self.db)? < schema::COLLECTIONS {
            return Ok(None);
        }
        let query = "SELECT through FROM collections WHERE run = ?1";
        let through = self.db.query_row(query, [run.as_str()], |row| row.get(0));
        Ok(through.optional()?.map(Round))
    }
}
