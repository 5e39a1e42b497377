//! Ending a run before its last round, beside a process that serves or without one.

use std::path::Path;

use protocol::{RunId, Timestamp};

use super::active::Active;
use super::coordinator::Coordinator;
use super::error::ServiceError;
use super::verify::load;
use crate::driver::RunLog;
use crate::journal::{Journal, JournalError};
use crate::run::{Checkpoint, Phase};

/// What became of the wish to stop a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// Another process holds the directory: it stops the run as soon as it looks, or at its next
    /// start.
    Asked,
    /// It was over already; this is its result.
    Over(Checkpoint),
    /// It is over now; this is its result.
    Stopped(Checkpoint),
}

/// Ends a run: its last published model is its result, updates of the round in work are not folded,
/// and the run that was launched next begins. Sites are told by the process that serves.
///
/// # Errors
/// If there is no such run, or the journal cannot be read or written.
pub fn stop(directory: &Path, run: &RunId, now: Timestamp) -> Result<Stop, ServiceError> {
    let mut beside = Journal::open_existing(directory)?;
    let active = load(&beside, run)?;
    if is_over(&active) {
        return Ok(Stop::Over(active.driver.run().result()));
    }
    let mut journal = match Journal::open(directory) {
        Ok(journal) => journal,
        Err(JournalError::Locked { .. }) => {
            beside.ask_stop(run, now)?;
            return Ok(Stop::Asked);
        }
        Err(error) => return Err(error.into()),
    };
    // Read again: what was read before may have been served on meanwhile.
    let mut active = load(&journal, run)?;
    end(&mut journal, &mut active, now)?;
    Ok(Stop::Stopped(active.driver.run().result()))
}

impl Coordinator {
    /// Stops runs that another process asked to be stopped.
    pub(super) fn stop_asked(&mut self, now: Timestamp) -> Result<(), ServiceError> {
        for run in self.journal.stops()? {
            tracing::info!(%run, "stopped");
            match &mut self.active {
                Some(active) if active.launch.run == run => {
                    end(&mut self.journal, active, now)?;
                    // A fold that has begun goes on, and nobody wants its result.
                    self.jobs.clear();
                    self.act(now)?;
                }
                _ => {
                    let mut waiting = load(&self.journal, &run)?;
                    end(&mut self.journal, &mut waiting, now)?;
                }
            }
            self.journal.forget_stop(&run)?;
        }
        Ok(())
    }
}

fn end(journal: &mut Journal, active: &mut Active, now: Timestamp) -> Result<(), ServiceError> {
    let run = &active.launch.run;
    Ok(active.driver.stop(&mut RunLog { journal, run }, now)?)
}

fn is_over(active: &Active) -> bool {
    active.driver.run().phase() == &Phase::Finished
}
