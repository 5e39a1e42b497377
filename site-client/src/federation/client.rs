//! The shell: links, transfers and the trainer around one [`Session`].

mod connection;
mod leaving;
mod lock;
mod plans;
mod resuming;
mod transfers;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use certs::{Home, Identity, Trust};
use protocol::bounded::Text;
use protocol::message::{Reason, Rejection, Status, Subject, Work};
use protocol::{Digest, Message};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use transport::{BlobStore, Connector, FileLock, Link, TransferError};

use super::approval::Approval;
use super::egress::EgressLog;
use super::error::FederationError;
use super::mandate::foreseen;
use super::session::{Action, Event, Ready, Session, Task, Working};
use super::trainer::{TrainError, Trainer};
use super::work::{WorkError, Workplace};

/// How a site takes part.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The coordinator, as `host:port`.
    pub coordinator: String,
    /// Settings of the connection.
    pub transport: transport::Config,
    /// Where the site keeps runs, blobs and its egress log.
    pub directory: PathBuf,
    /// Where newer consortium files are kept.
    pub home: Home,
    /// Ends after the first run that finishes.
    pub until_finished: bool,
}

/// Takes part in every run the site allows, until `stop`. Then the work under way is told to stop, as
/// if the process had crashed: the next one goes on with it. It may last longer than this, until the
/// end of its step.
///
/// # Errors
/// If the site's own directory or identity cannot be used, or another process uses the directory. What
/// happens on the network, at the coordinator or in training is logged, told to the coordinator, and
/// gone on from.
pub async fn run(
    config: ClientConfig,
    identity: Arc<Identity>,
    trust: Trust,
    trainer: Box<dyn Trainer>,
    approval: Arc<dyn Approval>,
    stop: impl Future<Output = ()>,
) -> Result<(), FederationError> {
    let held = Arc::new(lock::hold(&config.directory)?);
    let connector = Connector::new(
        config.coordinator.clone(),
        config.transport.clone(),
        Arc::clone(&identity),
        trust.clone(),
    )
    .map(Arc::new)
    .map_err(|error| FederationError::Trainer(error.to_string()))?;
    let blobs = BlobStore::open(config.directory.join("store"))
        .map_err(|error| FederationError::Trainer(error.to_string()))?;
    let (tell, told) = mpsc::channel(QUEUE);
    let egress = EgressLog::new(&config.directory);
    let mut site = Site {
        held,
        connector,
        identity,
        trust,
        trainer: Arc::new(Mutex::new(trainer)),
        approval,
        egress,
        blobs,
        tell,
        tasks: JoinSet::new(),
        active: None,
        link: None,
        serial: 0,
        finished: false,
        config,
    };
    // Wherever it is: what matters is on disk, as for a crash.
    tokio::select! {
        () = stop => {}
        ended = site.take_part(told) => ended?,
    }
    site.leave();
    if let Some(link) = site.link.take() {
        link.finish(protocol::CloseCode::Done).await;
    }
    Ok(())
}

/// What tasks beside the session tell it.
enum Told {
    Progress(Status),
    Worked(Task, Result<Ready, WorkError>),
    Fetched(u64, Digest, Result<(), TransferError>),
    Sent(u64, Digest, Result<(), TransferError>),
    /// Since this blob's transfer failed.
    Waited(u64, Digest),
}

struct Site {
    /// Work holds it too: it may outlast the site by a step.
    held: Arc<FileLock>,
    config: ClientConfig,
    connector: Arc<Connector>,
    identity: Arc<Identity>,
    trust: Trust,
    trainer: Arc<Mutex<Box<dyn Trainer>>>,
    approval: Arc<dyn Approval>,
    egress: EgressLog,
    blobs: BlobStore,
    tell: mpsc::Sender<Told>,
    tasks: JoinSet<()>,
    active: Option<Active>,
    link: Option<Link>,
    /// Counts links, so that transfers of an old one are not taken for the new one's.
    serial: u64,
    finished: bool,
}

/// The run the site takes part in.
struct Active {
    workplace: Workplace,
    session: Session,
    cancel: Arc<AtomicBool>,
    fetching: Option<Digest>,
    sending: Option<Digest>,
}

impl Drop for Active {
    /// Nobody waits for its work any more.
    fn drop(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

impl Site {
    /// Goes on with what was interrupted, and takes part over one link after the other.
    async fn take_part(&mut self, mut told: mpsc::Receiver<Told>) -> Result<(), FederationError> {
        self.resume().await?;
        let connector = Arc::clone(&self.connector);
        while !self.is_done() {
            let link = {
                let mut connecting = pin!(connector.connect_until_done());
                loop {
                    tokio::select! {
                        link = &mut connecting => break link,
                        Some(told) = told.recv() => self.hear(told).await?,
                    }
                }
            };
            tracing::info!(path = %link.path(), "connected");
            self.connected(link.clone()).await;
            while !self.is_done() {
                tokio::select! {
                    message = link.receive() => match message {
                        Ok(message) => self.receive(&link, message).await?,
                        Err(error) => {
                            tracing::info!(%error, "connection ended");
                            break;
                        }
                    },
                    Some(told) = told.recv() => self.hear(told).await?,
                }
            }
            if self.is_done() {
                break;
            }
            self.disconnected();
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.finished && self.config.until_finished
    }

    async fn receive(&mut self, link: &Link, message: Message) -> Result<(), FederationError> {
        match message {
            Message::Consortium(consortium) => {
                match self.trust.update(&consortium.file) {
                    Ok(true) => {
                        if let Err(error) =
                            self.config.home.store_consortium(&self.trust.consortium())
                        {
                            tracing::warn!(%error, "newer consortium file not kept");
                        }
                    }
                    Ok(false) => {}
                    Err(error) => tracing::warn!(%error, "consortium file refused"),
                }
                Ok(())
            }
            Message::Renewed(renewed) => {
                self.renewed(renewed.certificate.into_vec());
                Ok(())
            }
            Message::Plan(plan) => self.plan(link, plan).await,
            Message::Task(task) => {
                // A connection may last longer than a certificate.
                self.renew_if_due(link).await;
                let Some(active) = &mut self.active else {
                    return Ok(());
                };
                if active.workplace.run != task.run || active.workplace.plan.digest() != task.plan {
                    return Ok(());
                }
                let task = Task {
                    run: task.run,
                    round: task.round,
                    model: task.model.digest,
                    first_step: task.step,
                    work: task.work,
                };
                let Workplace { plan, site, .. } = &active.workplace;
                if let Err(rule) = foreseen(plan, site, &task) {
                    tracing::warn!(round = %task.round, work = ?task.work, rule, "task refused");
                    let rejection = Rejection {
                        subject: Subject::Task(task.run, task.round),
                        reason: Reason::Policy {
                            rule: Text::lossy(&rule),
                        },
                    };
                    let _ = link.send(rejection).await;
                    return Ok(());
                }
                active.session.handle(Event::Asked(task));
                self.act().await
            }
            Message::Withdraw(withdraw) => {
                tracing::info!(round = %withdraw.round, reason = ?withdraw.reason, "withdrawn");
                self.handle(Event::Withdrawn).await
            }
            Message::Finish(finish) => {
                tracing::info!(run = %finish.run, model = %finish.model.digest, "run finished");
                let active = self.active.as_ref();
                if active.is_none_or(|active| active.workplace.run != finish.run) {
                    return Ok(());
                }
                self.finished = true;
                // Of a run that was stopped in the midst of a round: what is not done by now counts
                // nowhere.
                self.handle(Event::Withdrawn).await
            }
            Message::Rejection(rejection) => {
                tracing::warn!(subject = %rejection.subject, reason = %rejection.reason, "refused");
                if let Subject::Blob(blob) = rejection.subject {
                    return self
                        .handle(Event::Refused(blob, rejection.reason.to_string()))
                        .await;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn hear(&mut self, told: Told) -> Result<(), FederationError> {
        match told {
            Told::Progress(status) => {
                if let Some(link) = &self.link {
                    let _ = link.send(status).await;
                }
                Ok(())
            }
            Told::Worked(task, Ok(ready)) => {
                tracing::info!(round = %task.round, work = ?task.work, "done");
                self.handle(Event::Done(task, ready)).await
            }
            Told::Worked(_, Err(WorkError::ModelLost(model))) => {
                self.handle(Event::Lost(model)).await
            }
            Told::Worked(_, Err(WorkError::Train(TrainError::Canceled))) => Ok(()),
            Told::Worked(task, Err(WorkError::Train(TrainError::Failed(reason)))) => {
                tracing::error!(round = %task.round, reason, "task failed");
                self.handle(Event::Failed(task, reason)).await
            }
            Told::Fetched(serial, digest, result) => self.fetched(serial, digest, result).await,
            Told::Sent(serial, digest, result) => self.sent(serial, digest, result).await,
            Told::Waited(serial, digest) if serial == self.serial => {
                self.handle(Event::TryAgain(digest)).await
            }
            Told::Waited(..) => Ok(()),
        }
    }

    async fn handle(&mut self, event: Event) -> Result<(), FederationError> {
        if let Some(active) = &mut self.active {
            active.session.handle(event);
        }
        self.act().await
    }

    /// Does everything the session wants done.
    async fn act(&mut self) -> Result<(), FederationError> {
        while let Some(action) = self
            .active
            .as_mut()
            .and_then(|active| active.session.poll())
        {
            match action {
                Action::Cancel => {
                    if let Some(active) = &mut self.active {
                        active.cancel.store(true, Ordering::Relaxed);
                        active.cancel = Arc::default();
                    }
                }
                Action::Fetch(digest) => self.fetch(digest),
                Action::Persist(state) => self.persist(&state)?,
                Action::ReportFailure(task, reason) => self.send_failure(&task, reason).await?,
                Action::Start(task) => self.start(task),
                Action::Send(task, ready) if task.work == Work::Evaluate => {
                    self.send_report(&task, &ready).await?;
                }
                Action::Send(task, ready) => self.send_update(&task, &ready)?,
            }
        }
        while self.tasks.try_join_next().is_some() {}
        Ok(())
    }

    /// Makes the state durable, and lets go of models and updates it does not speak of.
    fn persist(&mut self, state: &super::session::State) -> Result<(), FederationError> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        active.workplace.store.persist(state)?;
        let Some((task, working)) = &state.current else {
            return Ok(());
        };
        let mut keep = BTreeSet::from([task.model]);
        if let Working::Ready(ready) | Working::Delivered(ready) = working {
            keep.insert(ready.blob);
        }
        // A finished transfer of the old round may still be closing its file.
        if *working == Working::Fetching
            && let Err(error) = self.blobs.collect(&keep)
        {
            tracing::warn!(%error, "old blobs stay for now");
        }
        Ok(())
    }

    fn start(&mut self, task: Task) {
        let Some(active) = &self.active else { return };
        tracing::info!(run = %task.run, round = %task.round, work = ?task.work, "starting");
        let (workplace, canceled) = (active.workplace.clone(), Arc::clone(&active.cancel));
        let (tell, held) = (self.tell.clone(), Arc::clone(&self.held));
        self.tasks.spawn_blocking(move || {
            let _held = held;
            let told = tell.clone();
            let (run, round) = (task.run.clone(), task.round);
            let product = workplace.work(&task, &canceled, move |doing, done, total| {
                let status = Status {
                    run: run.clone(),
                    round,
                    doing,
                    done,
                    total,
                };
                // Progress may be missed; training never waits for the network.
                let _ = told.try_send(Told::Progress(status));
            });
            let _ = tell.blocking_send(Told::Worked(task, product));
        });
    }
}

/// Things that may wait for the session.
const QUEUE: usize = 64;

#[cfg(test)]
mod tests;
