//! Journal first, then act: the one way an event reaches a run.

use protocol::message::Reason;
use protocol::plan::Config;
use protocol::{RunId, SiteId, Timestamp};
use thiserror::Error;

use crate::journal::{Document, Journal, JournalError};
use crate::run::{Action, Event, MAX_REFUSALS, Phase, Run};

/// Where events become durable.
pub trait Log {
    /// Appends an event and the signed documents it refers to; durable when it returns.
    ///
    /// # Errors
    /// If it cannot; then nothing was appended, and the process must not go on as if it were.
    fn append(
        &mut self,
        at: Timestamp,
        event: &Event,
        documents: &[Document<'_>],
    ) -> Result<(), JournalError>;
}

/// One run's part of a journal.
pub struct RunLog<'a> {
    /// The journal.
    pub journal: &'a mut Journal,
    /// The run.
    pub run: &'a RunId,
}

impl Log for RunLog<'_> {
    fn append(
        &mut self,
        at: Timestamp,
        event: &Event,
        documents: &[Document<'_>],
    ) -> Result<(), JournalError> {
        self.journal
            .append(self.run, at, event, documents)
            .map(|_| ())
    }
}

/// Why an event did not enter the run.
#[derive(Debug, Error)]
pub enum SubmitError {
    /// It could not be made durable.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The site that sent it is told why.
    #[error("refused")]
    Refused(#[source] Reason),
}

/// A run whose every event is journalled before it is applied.
#[derive(Clone, Debug)]
pub struct Driver {
    run: Run,
}

impl Driver {
    /// Rebuilds a run from its journal. `None` if the first event is not `Launched`.
    ///
    /// Whatever was under way is not resumed by this, only known: see [`restart`](Self::restart).
    pub fn replay(
        config: Config,
        events: impl IntoIterator<Item = (Timestamp, Event)>,
    ) -> Option<Self> {
        let mut events = events.into_iter();
        let (at, Event::Launched { checkpoint }) = events.next()? else {
            return None;
        };
        let mut run = Run::launch(config, at, checkpoint);
        for (at, event) in events {
            run.apply(at, event);
            while run.poll().is_some() {}
        }
        Some(Self { run })
    }

    /// Notes that the process has started again, and takes up what was under way.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn restart(&mut self, log: &mut impl Log, now: Timestamp) -> Result<(), JournalError> {
        self.enter(log, now, Event::Restarted, &[])
    }

    /// Puts an event to the run: admitted, journalled, applied.
    ///
    /// # Errors
    /// If the run does not admit it, which is journalled too, or the journal cannot be written.
    pub fn submit(
        &mut self,
        log: &mut impl Log,
        now: Timestamp,
        event: Event,
        documents: &[Document<'_>],
    ) -> Result<(), SubmitError> {
        if let Err(reason) = self.run.admits(&event) {
            if let Some(site) = sender(&event) {
                self.refuse(log, now, site, reason.clone())?;
            }
            return Err(SubmitError::Refused(reason));
        }
        Ok(self.enter(log, now, event, documents)?)
    }

    /// Journals that something a site sent was turned down. A site that is refused over and over
    /// cannot fill the journal.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn refuse(
        &mut self,
        log: &mut impl Log,
        now: Timestamp,
        site: &SiteId,
        reason: Reason,
    ) -> Result<(), JournalError> {
        let key = (self.run.round(), site.clone());
        let known = self.run.refusals().get(&key);
        if known.is_some_and(|known| known.len() >= MAX_REFUSALS || known.contains(&reason)) {
            return Ok(());
        }
        let (round, site) = key;
        self.enter(
            log,
            now,
            Event::Refused {
                site,
                round,
                reason,
            },
            &[],
        )
    }

    /// Lets passed time act; call it when [`Run::poll_timeout`] is due.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn tick(&mut self, log: &mut impl Log, now: Timestamp) -> Result<(), JournalError> {
        while let Some(event) = self.run.due(now) {
            self.enter(log, now, event, &[])?;
        }
        Ok(())
    }

    /// Ends the run, if it is not over.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn stop(&mut self, log: &mut impl Log, now: Timestamp) -> Result<(), JournalError> {
        if self.run.phase() == &Phase::Finished {
            return Ok(());
        }
        self.enter(log, now, Event::Stopped, &[])
    }

    /// The next thing to do, if any.
    pub fn poll(&mut self) -> Option<Action> {
        self.run.poll()
    }

    /// The run.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The run, for what is not journalled: progress.
    pub fn run_mut(&mut self) -> &mut Run {
        &mut self.run
    }

    fn enter(
        &mut self,
        log: &mut impl Log,
        now: Timestamp,
        event: Event,
        documents: &[Document<'_>],
    ) -> Result<(), JournalError> {
        log.append(now, &event, documents)?;
        self.run.apply(now, event);
        Ok(())
    }
}

/// Who an event from outside is from.
fn sender(event: &Event) -> Option<&SiteId> {
    match event {
        Event::Dropped { site, .. }
        | Event::Evaluated { site, .. }
        | Event::Joined { site }
        | Event::Left { site }
        | Event::Staged { site, .. } => Some(site),
        _ => None,
    }
}
