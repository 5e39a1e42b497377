//! What the coordinator's process decides: which run is served, who is told what.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use certs::Identity;
use protocol::bounded::{List, Text};
use protocol::layout::Layout;
use protocol::message::{self, Content, Manifest, Message, Reason, Receipt, Rejection, Subject};
use protocol::plan::{Config, Plan};
use protocol::{BlobRef, Digest, Round, Signed, SiteId, Timestamp};

use super::error::ServiceError;
use super::fold::{FoldJob, Folded};
use super::initial::layout;
use super::record::{RECORD_CONTEXT, record};
use crate::blobs::Blobs;
use crate::driver::{Driver, Log, SubmitError};
use crate::journal::{Document, Journal, JournalError, Launch};
use crate::run::{
    Action, Checkpoint, Dropped, Event, Phase, Progress, Report, Signature, TaskReport, Update,
};

/// How a coordinator is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Rounds whose updates and models are kept for replay; all of them if `None`.
    pub keep_rounds: Option<u32>,
    /// For crash tests.
    pub halt: Option<Halt>,
}

/// Kills the process right after an event is journalled and before anything follows from it.
#[derive(Clone, Copy, Debug)]
pub struct Halt {
    /// Index of the event.
    pub after: u64,
    /// What kills it.
    pub kill: fn() -> !,
}

/// One coordinator directory, opened to serve. Sans-IO but for its own journal and blobs.
pub struct Coordinator {
    journal: Journal,
    blobs: Blobs,
    identity: Arc<Identity>,
    options: Options,
    active: Option<Active>,
    connected: BTreeSet<SiteId>,
    outgoing: VecDeque<(SiteId, Message)>,
    jobs: VecDeque<FoldJob>,
    needed: Option<BTreeSet<Digest>>,
    errors: VecDeque<(Timestamp, String)>,
}

/// The run that is served.
pub(super) struct Active {
    pub(super) launch: Launch,
    pub(super) plan: Plan,
    pub(super) config: Arc<Config>,
    pub(super) schema: Digest,
    pub(super) layout: Arc<Layout>,
    pub(super) driver: Driver,
}

/// An upload that would be welcome, and what its bytes must be.
#[derive(Clone)]
pub struct Upload {
    /// What the plan says.
    pub config: Arc<Config>,
    /// Where each number lies.
    pub layout: Arc<Layout>,
    /// What the manifest says.
    pub manifest: Manifest,
}

/// The journal of the active run, with the crash test's trap.
struct ServedLog<'a> {
    journal: &'a mut Journal,
    launch: &'a Launch,
    halt: Option<Halt>,
}

impl Log for ServedLog<'_> {
    fn append(
        &mut self,
        at: Timestamp,
        event: &Event,
        documents: &[Document<'_>],
    ) -> Result<(), JournalError> {
        let index = self
            .journal
            .append(&self.launch.run, at, event, documents)?;
        match self.halt {
            Some(halt) if halt.after == index => (halt.kill)(),
            _ => Ok(()),
        }
    }
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
            options,
            active: None,
            connected: BTreeSet::new(),
            outgoing: VecDeque::new(),
            jobs: VecDeque::new(),
            needed: None,
            errors: VecDeque::new(),
        };
        coordinator.activate(now)?;
        Ok(coordinator)
    }

    /// Takes up the oldest run that is not finished, if none is active.
    ///
    /// # Errors
    /// If the journal cannot be read or written.
    pub fn activate(&mut self, now: Timestamp) -> Result<(), ServiceError> {
        let over = |active: &Active| active.driver.run().phase() == &Phase::Finished;
        if self.active.as_ref().is_some_and(|active| !over(active)) {
            return Ok(());
        }
        for launch in self.journal.launches()? {
            if self
                .active
                .as_ref()
                .is_some_and(|active| active.launch.run == launch.run)
            {
                continue;
            }
            let active = Active::load(&self.journal, launch)?;
            if over(&active) {
                continue;
            }
            self.active = Some(active);
            self.with_log(|driver, log| driver.restart(log, now))?;
            for site in self.connected.clone() {
                self.announce(site);
            }
            return self.act(now);
        }
        Ok(())
    }

    /// A member is connected; what it is told.
    pub fn connected(&mut self, site: SiteId) {
        self.connected.insert(site.clone());
        self.announce(site);
    }

    /// A member's connection ended.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn disconnected(&mut self, now: Timestamp, site: &SiteId) -> Result<(), ServiceError> {
        self.connected.remove(site);
        let present = |active: &Active| {
            active
                .driver
                .run()
                .presence()
                .get(site)
                .is_some_and(|site| site.is_connected())
        };
        if self.active.as_ref().is_some_and(present) {
            // It is named in the plan, or it would not be present: it is admitted.
            let _ = self.submit(now, Event::Left { site: site.clone() }, &[])?;
        }
        Ok(())
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
            Message::Join(join) => {
                let known = |active: &Active| {
                    active.launch.run == join.run && active.plan.digest() == join.plan
                };
                let outcome = if self.active.as_ref().is_some_and(known) {
                    self.submit(now, Event::Joined { site: site.clone() }, &[])?
                } else {
                    Err(Reason::Unknown)
                };
                (Subject::Plan(join.plan), outcome)
            }
            Message::Leave(leave) if self.is_active(&leave.run) => {
                return self.disconnected(now, site).map(|()| {
                    self.connected.insert(site.clone());
                });
            }
            Message::Failed(failed) if self.is_in_round(&failed.run, failed.round) => {
                let reason = Dropped::Failed {
                    reason: failed.reason.to_string(),
                };
                // A failure of a task that is over concerns nobody.
                let _ = self.submit(
                    now,
                    Event::Dropped {
                        site: site.clone(),
                        reason,
                    },
                    &[],
                )?;
                return Ok(());
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
                let run = metrics.run.clone();
                if !self.is_active(&run) {
                    return Ok(());
                }
                let round = metrics.round;
                let event = Event::Evaluated {
                    site: site.clone(),
                    round,
                    report: report(&metrics),
                };
                (Subject::Metrics(run, round), self.submit(now, event, &[])?)
            }
            _ => return Ok(()),
        };
        if let Err(reason) = outcome {
            self.reject(site, subject, reason);
        }
        Ok(())
    }

    /// Whether an upload would be welcome. `Err` with a receipt if its bytes are here already.
    ///
    /// # Errors
    /// The reason, journalled; or that the journal cannot be written.
    pub fn offered(
        &mut self,
        now: Timestamp,
        site: &SiteId,
        manifest: &Manifest,
    ) -> Result<Result<Upload, Reason>, ServiceError> {
        let Some(active) = &self.active else {
            return Ok(Err(Reason::Unknown));
        };
        let run = active.driver.run();
        let Content::Update(facts) = &manifest.content else {
            return Ok(Err(Reason::Manifest {
                defect: Text::lossy("not of an update"),
            }));
        };
        let outcome = if manifest.run != active.launch.run {
            Err(Reason::Unknown)
        } else if manifest.schema != active.schema {
            Err(Reason::WrongSchema {
                expected: active.schema,
                found: manifest.schema,
            })
        } else if facts.encoding != active.config.encoding.update {
            Err(Reason::Manifest {
                defect: Text::lossy("another encoding than the plan's"),
            })
        } else if manifest.blob.len != active.layout.update_bytes() {
            let (expected, found) = (active.layout.update_bytes(), manifest.blob.len);
            let defect = format!("update: expected {expected} bytes, found {found}");
            Err(Reason::Invalid {
                defect: Text::lossy(&defect),
            })
        } else if run
            .staged(site)
            .is_some_and(|staged| staged.blob == manifest.blob.digest)
        {
            Ok(())
        } else {
            let update = update(manifest, facts, [manifest.blob.digest; 2], 0.0);
            run.admits_update(site, &update)
        };
        let upload = Upload {
            config: Arc::clone(&active.config),
            layout: Arc::clone(&active.layout),
            manifest: manifest.clone(),
        };
        if let Err(reason) = outcome {
            self.refuse(now, site, reason.clone())?;
            return Ok(Err(reason));
        }
        Ok(Ok(upload))
    }

    /// An upload is complete, verified and durable under its digest, receipted by `receipt`, and
    /// was inspected: its norm, or what is wrong with it.
    ///
    /// # Errors
    /// The reason, journalled; or that the journal cannot be written.
    pub fn uploaded(
        &mut self,
        now: Timestamp,
        site: &SiteId,
        signed: &Signed<Manifest>,
        manifest: &Manifest,
        receipt: &Signed<Receipt>,
        inspected: Result<f64, Reason>,
    ) -> Result<Result<(), Reason>, ServiceError> {
        let norm = match inspected {
            Ok(norm) => norm,
            Err(reason) => {
                self.refuse(now, site, reason.clone())?;
                return Ok(Err(reason));
            }
        };
        let Content::Update(facts) = &manifest.content else {
            return Ok(Err(Reason::Manifest {
                defect: Text::lossy("not of an update"),
            }));
        };
        let staged = self
            .active
            .as_ref()
            .and_then(|active| active.driver.run().staged(site));
        if staged.is_some_and(|staged| staged.blob == manifest.blob.digest) {
            return Ok(Ok(()));
        }
        let (manifest_bytes, receipt_bytes) = (signed.to_bytes(), receipt.to_bytes());
        let update = update(manifest, facts, [signed.digest(), receipt.digest()], norm);
        let documents = [
            Document {
                bytes: &manifest_bytes,
            },
            Document {
                bytes: &receipt_bytes,
            },
        ];
        self.submit(
            now,
            Event::Staged {
                site: site.clone(),
                update,
            },
            &documents,
        )
    }

    /// Whether a site may fetch a blob: published models, nothing else.
    pub fn may_fetch(&self, digest: Digest) -> bool {
        self.active.as_ref().is_some_and(|active| {
            let run = active.driver.run();
            [run.checkpoint().model, run.result().model].contains(&digest)
        })
    }

    /// The manifest of a published model, signed.
    ///
    /// # Errors
    /// If there is no such model, or it cannot be signed.
    pub fn model_manifest(&self, digest: Digest) -> Result<Option<Signed<Manifest>>, ServiceError> {
        let Some(active) = self.active.as_ref().filter(|_| self.may_fetch(digest)) else {
            return Ok(None);
        };
        let run = active.driver.run();
        let of = [run.checkpoint(), run.result()];
        let Some(checkpoint) = of.into_iter().find(|one| one.model == digest) else {
            return Ok(None);
        };
        let manifest = Manifest {
            blob: BlobRef {
                digest,
                len: active.layout.model_bytes(),
            },
            run: active.launch.run.clone(),
            round: checkpoint.round,
            schema: active.schema,
            content: Content::Model {
                step: checkpoint.step,
            },
        };
        self.sign(&manifest).map(Some)
    }

    /// Work to be done beside this; its result goes to [`folded`](Self::folded).
    pub fn poll_job(&mut self) -> Option<FoldJob> {
        self.jobs.pop_front()
    }

    /// A fold is done.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn folded(&mut self, now: Timestamp, folded: Folded) -> Result<(), ServiceError> {
        let Folded {
            checkpoint,
            delta_norm,
        } = folded;
        let expected = self.active.as_ref().map(|active| active.driver.run());
        if expected.is_none_or(|run| !matches!(run.phase(), Phase::Aggregating { .. })) {
            return Ok(());
        }
        let event = Event::Aggregated {
            checkpoint,
            delta_norm: delta_norm.into(),
        };
        // The run is aggregating, so it is admitted.
        let _ = self.submit(now, event, &[])?;
        Ok(())
    }

    /// Asks for the fold under way once more, after it failed.
    pub fn fold_again(&mut self) {
        let aggregating =
            |active: &&Active| matches!(active.driver.run().phase(), Phase::Aggregating { .. });
        let Some(active) = self.active.as_ref().filter(aggregating) else {
            return;
        };
        if let Phase::Aggregating { updates, .. } = active.driver.run().phase() {
            self.jobs.push_back(FoldJob {
                config: Arc::clone(&active.config),
                layout: Arc::clone(&active.layout),
                blobs: self.blobs.clone(),
                round: active.driver.run().round(),
                base: active.driver.run().checkpoint(),
                updates: updates.clone(),
            });
        }
    }

    /// Blobs to keep, once after each round where the options let any go; all others may go.
    pub fn poll_needed(&mut self) -> Option<BTreeSet<Digest>> {
        self.needed.take()
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
        if self.active.is_some() {
            self.with_log(|driver, log| driver.tick(log, now))?;
            self.act(now)?;
        }
        Ok(())
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

    /// Tells a site of the run, if the plan names it.
    fn announce(&mut self, site: SiteId) {
        let Some(active) = &self.active else { return };
        let cohort = &active.config.cohort;
        if !cohort.sites.contains(&site) && !cohort.evaluators.contains(&site) {
            return;
        }
        let signed = Signed::from_bytes(&active.launch.signature);
        let text = List::new(active.launch.plan.clone());
        if let (Ok(launch), Ok(text)) = (signed, text) {
            self.outgoing
                .push_back((site, message::Plan { launch, text }.into()));
        }
    }

    fn submit(
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

    fn refuse(
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
        work: impl FnOnce(&mut Driver, &mut ServedLog<'_>) -> Result<T, JournalError>,
    ) -> Result<Option<T>, ServiceError> {
        let Some(active) = &mut self.active else {
            return Ok(None);
        };
        let mut log = ServedLog {
            journal: &mut self.journal,
            launch: &active.launch,
            halt: self.options.halt,
        };
        Ok(Some(work(&mut active.driver, &mut log)?))
    }

    /// Does everything the run wants done.
    fn act(&mut self, now: Timestamp) -> Result<(), ServiceError> {
        while let Some(action) = self.active.as_mut().and_then(|active| active.driver.poll()) {
            self.perform(now, action)?;
        }
        Ok(())
    }

    fn perform(&mut self, now: Timestamp, action: Action) -> Result<(), ServiceError> {
        let Some(active) = &self.active else {
            return Ok(());
        };
        match action {
            Action::Aggregate {
                round,
                base,
                updates,
            } => {
                tracing::info!(%round, updates = updates.len(), "aggregating");
                self.jobs.push_back(FoldJob {
                    config: Arc::clone(&active.config),
                    layout: Arc::clone(&active.layout),
                    blobs: self.blobs.clone(),
                    round,
                    base,
                    updates,
                });
            }
            Action::Evaluate { site, checkpoint } => {
                let task = active.task(checkpoint.round, checkpoint, message::Work::Evaluate);
                self.outgoing.push_back((site, task.into()));
            }
            Action::Finish { checkpoint } => {
                tracing::info!(round = %checkpoint.round, model = %checkpoint.model, "run finished");
                let finish = message::Finish {
                    run: active.launch.run.clone(),
                    round: checkpoint.round,
                    model: active.model(checkpoint),
                };
                for site in &self.connected {
                    self.outgoing
                        .push_back((site.clone(), finish.clone().into()));
                }
            }
            Action::Publish { checkpoint } => {
                tracing::info!(round = %checkpoint.round, model = %checkpoint.model, "publishing");
                let Phase::Publishing { record: round } = active.driver.run().phase() else {
                    return Ok(());
                };
                let bytes = record(&active.launch.run, active.plan.digest(), round);
                let signature = Signature::from(self.identity.sign(RECORD_CONTEXT, &bytes));
                // The run asked for it, so it is admitted; and its own actions are done inside.
                let _ = self.submit(now, Event::Published { signature }, &[])?;
                self.collect()?;
            }
            Action::Train { site, round, base } => {
                let task = active.task(round, base, message::Work::Train);
                self.outgoing.push_back((site, task.into()));
            }
            Action::Withdraw { site, reason } => {
                let reason = match reason {
                    Dropped::Deadline => message::Withdrawal::Deadline,
                    Dropped::Idle => message::Withdrawal::Idle,
                    // It said so itself.
                    Dropped::Failed { .. } => return Ok(()),
                };
                let run = active.launch.run.clone();
                let round = active.driver.run().round();
                self.outgoing
                    .push_back((site, message::Withdraw { run, round, reason }.into()));
            }
        }
        Ok(())
    }

    /// Lets go of blobs that neither the run nor the rounds to be kept need.
    fn collect(&mut self) -> Result<(), ServiceError> {
        let (Some(keep), Some(active)) = (self.options.keep_rounds, &self.active) else {
            return Ok(());
        };
        let run = active.driver.run();
        let mut needed = run.needed_blobs();
        let history = run.history();
        for round in &history[history.len().saturating_sub(keep as usize)..] {
            needed.extend(round.updates.values().map(|update| update.blob));
            for checkpoint in [round.base, round.checkpoint] {
                needed.extend(
                    [Some(checkpoint.model), checkpoint.moments]
                        .into_iter()
                        .flatten(),
                );
            }
        }
        // Other runs' first and last models stay.
        for launch in self.journal.launches()? {
            if launch.run != active.launch.run {
                let other = Active::load(&self.journal, launch)?;
                needed.extend(other.driver.run().needed_blobs());
            }
        }
        self.needed = Some(needed);
        Ok(())
    }

    fn is_active(&self, run: &protocol::RunId) -> bool {
        self.active
            .as_ref()
            .is_some_and(|active| active.launch.run == *run)
    }

    fn is_in_round(&self, run: &protocol::RunId, round: Round) -> bool {
        self.is_active(run)
            && self
                .active
                .as_ref()
                .is_some_and(|active| active.driver.run().round() == round)
    }

    fn sign<T: protocol::Statement>(&self, statement: &T) -> Result<Signed<T>, ServiceError> {
        Signed::new(statement, |context, bytes| {
            self.identity.sign(context, bytes)
        })
        .map_err(|_| ServiceError::Unsigned {
            what: T::CONTEXT,
            len: 0,
        })
    }
}

impl Active {
    /// Rebuilds a run from the journal.
    pub(super) fn load(journal: &Journal, launch: Launch) -> Result<Self, ServiceError> {
        let plan = Plan::parse(&launch.plan)?;
        let header = protocol::params::Header::parse(&launch.schema)?;
        let layout = Arc::new(layout(header.schema(), &plan));
        let config = Arc::new(plan.config().clone());
        let events: Vec<(Timestamp, Event)> = journal
            .entries(&launch.run)?
            .iter()
            .map(|entry| Ok((entry.at, entry.event(&launch.run)?)))
            .collect::<Result<_, JournalError>>()?;
        let driver =
            Driver::replay(plan.config().clone(), events).ok_or_else(|| JournalError::Broken {
                run: launch.run.clone(),
                index: 0,
            })?;
        let schema = header.schema().digest();
        Ok(Self {
            launch,
            plan,
            config,
            schema,
            layout,
            driver,
        })
    }

    pub(super) fn fold_job(&self, blobs: &Blobs, record: &crate::run::RoundRecord) -> FoldJob {
        FoldJob {
            config: Arc::clone(&self.config),
            layout: Arc::clone(&self.layout),
            blobs: blobs.clone(),
            round: record.checkpoint.round,
            base: record.base,
            updates: record.updates.clone(),
        }
    }

    fn task(&self, round: Round, base: Checkpoint, work: message::Work) -> message::Task {
        let deadline = self.driver.run().poll_timeout().unwrap_or_default();
        message::Task {
            run: self.launch.run.clone(),
            round,
            plan: self.plan.digest(),
            work,
            model: self.model(base),
            step: base.step,
            deadline,
        }
    }

    fn model(&self, checkpoint: Checkpoint) -> BlobRef {
        BlobRef {
            digest: checkpoint.model,
            len: self.layout.model_bytes(),
        }
    }
}

/// Where a directory keeps its blobs.
pub fn blobs_path(directory: &Path) -> PathBuf {
    directory.join("store")
}

fn update(
    manifest: &Manifest,
    facts: &message::UpdateFacts,
    [signed, receipt]: [Digest; 2],
    norm: f64,
) -> Update {
    Update {
        round: manifest.round,
        base: facts.base,
        blob: manifest.blob.digest,
        manifest: signed,
        receipt,
        bytes: manifest.blob.len,
        examples: facts.examples,
        steps: facts.steps,
        norm: norm.into(),
    }
}

fn report(metrics: &message::Metrics) -> Report {
    let tasks = metrics.tasks.iter().map(|task| TaskReport {
        task: task.task.to_string(),
        positive: task.positive.to_vec(),
        negative: task.negative.to_vec(),
        auc: task.auc.map(Into::into),
    });
    Report {
        tasks: tasks.collect(),
    }
}

/// Errors kept for people who look.
const MAX_ERRORS: usize = 20;
