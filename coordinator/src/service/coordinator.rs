//! What the coordinator's process decides: which run is served, who is told what.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use certs::{Identity, Trust};
use protocol::message::{Message, Reason, Rejection, Subject};
use protocol::{Round, RunId, Signed, SiteId, Statement, Timestamp};

use super::active::Active;
use super::arriving::Arriving;
use super::error::ServiceError;
use super::fold::FoldJob;
use super::garbage::Garbage;
use crate::blobs::Blobs;
use crate::driver::{Driver, RunLog, SubmitError};
use crate::journal::{Document, Journal, JournalError};
use crate::run::{Dropped, Event, Phase, Progress, Run};

/// How a coordinator is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Newest rounds of the run in work whose updates and models are kept for replay, and of other
    /// runs the last model and the result only; everything if `None`.
    pub keep_rounds: Option<u32>,
}

/// One coordinator directory, opened to serve. Sans-IO but for its own journal and blobs.
pub struct Coordinator {
    pub(super) journal: Journal,
    pub(super) blobs: Blobs,
    pub(super) identity: Arc<Identity>,
    /// Who is a member; nobody is turned down if it is not known.
    pub(super) trust: Option<Trust>,
    pub(super) options: Options,
    pub(super) active: Option<Active>,
    /// Runs that are known to be over.
    finished: BTreeSet<RunId>,
    pub(super) connected: BTreeSet<SiteId>,
    /// Sites that have joined the active run over the connection they have.
    pub(super) joined: BTreeSet<SiteId>,
    pub(super) outgoing: VecDeque<(SiteId, Message)>,
    pub(super) jobs: VecDeque<FoldJob>,
    pub(super) arriving: Arriving,
    pub(super) garbage: Garbage,
    errors: VecDeque<(Timestamp, String)>,
}

impl Coordinator {
    /// Opens a directory, holds it, and takes up the oldest run that is not finished.
    ///
    /// # Errors
    /// If another process holds it, or its journal is damaged.
    pub fn open(
        directory: &Path,
        identity: Arc<Identity>,
        options: Options,
        now: Timestamp,
    ) -> Result<Self, ServiceError> {
        let journal = Journal::open(directory)?;
        let path = blobs_path(directory);
        let blobs = Blobs::open(path.clone()).map_err(ServiceError::io(path))?;
        let mut coordinator = Self {
            journal,
            blobs,
            identity,
            trust: None,
            options,
            active: None,
            finished: BTreeSet::new(),
            connected: BTreeSet::new(),
            joined: BTreeSet::new(),
            outgoing: VecDeque::new(),
            jobs: VecDeque::new(),
            arriving: Arriving::default(),
            garbage: Garbage::default(),
            errors: VecDeque::new(),
        };
        coordinator.activate(now)?;
        Ok(coordinator)
    }

    /// Stops what was asked to be stopped, drops who was revoked, and takes up the oldest run that is
    /// not finished, if none is active. Where all are finished, the latest is served on: a site may
    /// not have heard of its end, or of its own last receipt.
    ///
    /// # Errors
    /// If the journal cannot be read or written.
    pub fn activate(&mut self, now: Timestamp) -> Result<(), ServiceError> {
        self.stop_asked(now)?;
        self.drop_shut_out(now)?;
        self.tidy()?;
        let is_over = |active: &Active| active.driver.run().phase() == &Phase::Finished;
        if self.active.as_ref().is_some_and(|active| !is_over(active)) {
            return Ok(());
        }
        let mut latest = None;
        for launch in self.journal.launches()? {
            if self.finished.contains(&launch.run) {
                continue;
            }
            let active = Active::load(&self.journal, launch)?;
            if !is_over(&active) {
                return self.serve(active, now);
            }
            self.finished.insert(active.launch.run.clone());
            latest = Some(active);
        }
        match latest {
            Some(latest) if self.active.is_none() => self.serve(latest, now),
            _ => Ok(()),
        }
    }

    fn serve(&mut self, active: Active, now: Timestamp) -> Result<(), ServiceError> {
        self.active = Some(active);
        self.joined.clear();
        self.garbage.forget_runs();
        self.with_log(|driver, log| driver.restart(log, now))?;
        for site in self.connected.clone() {
            self.announce(site);
        }
        self.act(now)
    }

    /// A message of a site, other than those about blobs.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn message(
        &mut self,
        now: Timestamp,
        site: &SiteId,
        message: Message,
    ) -> Result<(), ServiceError> {
        let (subject, outcome) = match message {
            Message::Join(join) => (Subject::Plan(join.plan), self.join(now, site, &join)?),
            Message::Leave(leave) if self.is_active(&leave.run) => {
                return self.left(now, site);
            }
            Message::Failed(failed) if self.is_in_round(&failed.run, failed.round) => {
                return self.drop_failed(now, site, failed.reason.to_string());
            }
            Message::Status(status) if self.is_active(&status.run) => {
                let progress = Progress {
                    doing: status.doing,
                    done: status.done,
                    total: status.total,
                };
                if let Some(active) = &mut self.active {
                    active.driver.run_mut().note_progress(now, site, progress);
                }
                return Ok(());
            }
            Message::Metrics(metrics) => {
                let Some(outcome) = self.measured(now, site, &metrics)? else {
                    return Ok(());
                };
                (Subject::Metrics(metrics.run, metrics.round), outcome)
            }
            Message::Rejection(rejection) => return self.declined(now, site, rejection),
            _ => return Ok(()),
        };
        if let Err(reason) = outcome {
            self.reject(site, subject, reason);
        }
        Ok(())
    }

    /// Bytes moved to or from a site: it is alive, and this is how far it is.
    pub fn moved(&mut self, now: Timestamp, site: &SiteId, progress: Progress) {
        if let Some(active) = &mut self.active {
            active.driver.run_mut().note_progress(now, site, progress);
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.active
            .as_ref()
            .and_then(|active| active.driver.run().poll_timeout())
    }

    /// Lets passed time act.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn tick(&mut self, now: Timestamp) -> Result<(), ServiceError> {
        if self.run().is_some_and(|run| run.due(now).is_some()) {
            // Time may start the fold.
            self.drop_shut_out(now)?;
            self.with_log(|driver, log| driver.tick(log, now))?;
        }
        self.act(now)
    }

    /// The next message to be sent to a site.
    pub fn poll_message(&mut self) -> Option<(SiteId, Message)> {
        self.outgoing.pop_front()
    }

    /// Notes an error for people who look.
    pub fn note_error(&mut self, now: Timestamp, error: String) {
        self.errors.push_back((now, error));
        if self.errors.len() > MAX_ERRORS {
            self.errors.pop_front();
        }
    }

    /// The run that is served, if any.
    pub fn run(&self) -> Option<&Run> {
        self.active.as_ref().map(|active| active.driver.run())
    }

    /// The blobs.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Whether every launched run is finished.
    pub fn is_idle(&self) -> bool {
        self.active
            .as_ref()
            .is_none_or(|active| active.driver.run().phase() == &Phase::Finished)
    }

    pub(super) fn active(&self) -> Option<&Active> {
        self.active.as_ref()
    }

    pub(super) fn errors(&self) -> &VecDeque<(Timestamp, String)> {
        &self.errors
    }

    /// Writes a consistent copy of the journal.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn backup(&self, to: &Path) -> Result<(), ServiceError> {
        Ok(self.journal.backup(to)?)
    }

    /// Goes on without a site that will not finish its task.
    pub(super) fn drop_failed(
        &mut self,
        now: Timestamp,
        site: &SiteId,
        reason: String,
    ) -> Result<(), ServiceError> {
        // What is left may be folded now.
        self.drop_shut_out(now)?;
        let site = site.clone();
        let reason = Dropped::Failed { reason };
        // A failure of a task that is over concerns nobody.
        self.submit(now, Event::Dropped { site, reason }, &[])
            .map(drop)
    }

    pub(super) fn submit(
        &mut self,
        now: Timestamp,
        event: Event,
        documents: &[Document<'_>],
    ) -> Result<Result<(), Reason>, ServiceError> {
        let outcome =
            self.with_log(
                |driver, log| match driver.submit(log, now, event, documents) {
                    Ok(()) => Ok(Ok(())),
                    Err(SubmitError::Refused(reason)) => Ok(Err(reason)),
                    Err(SubmitError::Journal(error)) => Err(error),
                },
            )?;
        self.act(now)?;
        Ok(outcome.unwrap_or(Err(Reason::Unknown)))
    }

    pub(super) fn refuse(
        &mut self,
        now: Timestamp,
        site: &SiteId,
        reason: Reason,
    ) -> Result<(), ServiceError> {
        self.with_log(|driver, log| driver.refuse(log, now, site, reason))
            .map(|_| ())
    }

    fn reject(&mut self, site: &SiteId, subject: Subject, reason: Reason) {
        self.outgoing
            .push_back((site.clone(), Rejection { subject, reason }.into()));
    }

    /// Gives the active run's driver its log; `None` if there is no active run.
    fn with_log<T>(
        &mut self,
        work: impl FnOnce(&mut Driver, &mut RunLog<'_>) -> Result<T, JournalError>,
    ) -> Result<Option<T>, ServiceError> {
        let Some(active) = &mut self.active else {
            return Ok(None);
        };
        let mut log = RunLog {
            journal: &mut self.journal,
            run: &active.launch.run,
        };
        Ok(Some(work(&mut active.driver, &mut log)?))
    }

    pub(super) fn is_active(&self, run: &RunId) -> bool {
        self.active
            .as_ref()
            .is_some_and(|active| active.launch.run == *run)
    }

    pub(super) fn is_in_round(&self, run: &RunId, round: Round) -> bool {
        self.is_active(run)
            && self
                .active
                .as_ref()
                .is_some_and(|active| active.driver.run().round() == round)
    }

    pub(super) fn sign<T: Statement>(&self, statement: &T) -> Result<Signed<T>, ServiceError> {
        Signed::new(statement, |context, bytes| {
            self.identity.sign(context, bytes)
        })
        .map_err(|_| ServiceError::Unsigned {
            what: T::CONTEXT,
            len: 0,
        })
    }
}

/// Where a directory keeps its blobs.
pub fn blobs_path(directory: &Path) -> PathBuf {
    directory.join("store")
}

/// Errors kept for people who look.
const MAX_ERRORS: usize = 20;
