//! The shell: links, transfers and the trainer around one [`Session`].

mod leaving;
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
use protocol::bounded::{List, Text};
use protocol::message::{Hello, Reason, Rejection, Renew, Status, Subject, Work};
use protocol::{Digest, Message};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use transport::{BlobStore, Connector, Link, TransferError};

use super::approval::Approval;
use super::egress::EgressLog;
use super::error::FederationError;
use super::mandate::foreseen;
use super::session::{Action, Event, Ready, Session, Task, Working};
use super::trainer::{TrainError, Trainer};
use super::work::Workplace;
use crate::clock;

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

/// Takes part in every run the site allows, until `stop`.
///
/// # Errors
/// If the site's own directory or identity cannot be used. What happens on the network, at the
/// coordinator or in training is logged, told to the coordinator, and gone on from.
pub async fn run(
    config: ClientConfig,
    identity: Arc<Identity>,
    trust: Trust,
    trainer: Box<dyn Trainer>,
    approval: Arc<dyn Approval>,
    stop: impl Future<Output = ()>,
) -> Result<(), FederationError> {
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
    let (tell, mut told) = mpsc::channel(QUEUE);
    let egress = EgressLog::new(&config.directory);
    let mut site = Site {
        connector: Arc::clone(&connector),
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
    let mut stop = pin!(stop);
    tokio::select! {
        () = &mut stop => return Ok(()),
        resumed = site.resume() => resumed?,
    }
    while !site.is_done() {
        let link = {
            let mut connecting = pin!(connector.connect_until_done());
            loop {
                tokio::select! {
                    () = &mut stop => return Ok(()),
                    link = &mut connecting => break link,
                    Some(told) = told.recv() => site.hear(told).await?,
                }
            }
        };
        tracing::info!(path = %link.path(), "connected");
        site.connected(link.clone()).await;
        loop {
            tokio::select! {
                () = &mut stop => {
                    link.finish(protocol::CloseCode::Done).await;
                    return Ok(());
                }
                message = link.receive() => match message {
                    Ok(message) => site.receive(&link, message).await?,
                    Err(error) => {
                        tracing::info!(%error, "connection ended");
                        break;
                    }
                },
                Some(told) = told.recv() => site.hear(told).await?,
            }
            if site.is_done() {
                link.finish(protocol::CloseCode::Done).await;
                break;
            }
        }
        site.disconnected();
    }
    Ok(())
}

/// What tasks beside the session tell it.
enum Told {
    Progress(Status),
    Worked(Task, Result<Ready, TrainError>),
    Fetched(u64, Digest, Result<(), TransferError>),
    Sent(u64, Digest, Result<(), TransferError>),
    /// Since this blob's transfer failed.
    Waited(u64, Digest),
}

struct Site {
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

impl Site {
    fn is_done(&self) -> bool {
        self.finished && self.config.until_finished
    }

    async fn connected(&mut self, link: Link) {
        self.serial += 1;
        let consortium = self.trust.consortium();
        let hello = Hello {
            software: Text::lossy(concat!("fmct-site ", env!("CARGO_PKG_VERSION"))),
            consortium: consortium.id().clone(),
            consortium_version: consortium.version(),
            time: clock::now(),
        };
        // If the link has ended already, its reader says so.
        let _ = link.send(hello).await;
        self.renew_if_due(&link).await;
        self.link = Some(link);
    }

    /// Asks for the next certificate when a third of this one's life is left.
    async fn renew_if_due(&self, link: &Link) {
        if !self.identity.renewal_due(clock::now()) {
            return;
        }
        let request = self.identity.renewal_request().ok().map(List::new);
        if let Some(Ok(request)) = request {
            let _ = link.send(Renew { request }).await;
        }
    }

    /// Shows the next certificate from the next connection on.
    fn renewed(&mut self, certificate: Vec<u8>) {
        let (home, now) = (&self.config.home, clock::now());
        match home.renew(&self.identity, &self.trust, certificate, now) {
            Ok(identity) => {
                let until = certs::utc(identity.expires());
                self.identity = Arc::new(identity);
                match self.connector.set_identity(Arc::clone(&self.identity)) {
                    Ok(()) => tracing::info!(until, "certificate renewed"),
                    Err(error) => tracing::warn!(%error, "renewed certificate not used"),
                }
            }
            Err(error) => tracing::warn!(%error, "renewed certificate refused"),
        }
    }

    fn disconnected(&mut self) {
        self.link = None;
        if let Some(active) = &mut self.active {
            active.fetching = None;
            active.sending = None;
            active.session.handle(Event::Disconnected);
        }
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
                if self
                    .active
                    .as_ref()
                    .is_some_and(|active| active.workplace.run == finish.run)
                {
                    self.finished = true;
                }
                Ok(())
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
            Told::Worked(_, Err(TrainError::Canceled)) => Ok(()),
            Told::Worked(task, Err(TrainError::Failed(reason))) => {
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
        let tell = self.tell.clone();
        self.tasks.spawn_blocking(move || {
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
