//! The shell: one task owns the state, links and folds run beside it and tell it what happened.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use protocol::message::{Rejection, Subject};
use protocol::{CloseCode, Message, Role, SiteId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use transport::{BlobStore, Link, Listener};

use super::clock::Clock;
use super::coordinator::Coordinator;
use super::error::ServiceError;
use super::overview::Overview;
use super::reader::{Arrived, Reader, Told};
use crate::membership::Membership;

/// How long a drain waits for folds and for sites to hear of it.
const DRAIN: Duration = Duration::from_secs(30);

/// Everything that serves one coordinator directory.
pub struct Server {
    coordinator: Coordinator,
    store: BlobStore,
    membership: Arc<Membership>,
    clock: Clock,
    links: HashMap<SiteId, (u64, Link)>,
    tasks: JoinSet<()>,
    tell: mpsc::Sender<Told>,
    told: mpsc::Receiver<Told>,
    overview: watch::Sender<Arc<Overview>>,
    folding: bool,
    /// End when every launched run is finished; for tests and benchmarks.
    until_idle: bool,
}

impl Server {
    /// Prepares to serve.
    pub fn new(
        coordinator: Coordinator,
        store: BlobStore,
        membership: Arc<Membership>,
        clock: Clock,
        until_idle: bool,
    ) -> Self {
        let (tell, told) = mpsc::channel(QUEUE);
        let overview = watch::Sender::new(Arc::new(coordinator.overview(clock.now())));
        Self {
            coordinator,
            store,
            membership,
            clock,
            links: HashMap::new(),
            tasks: JoinSet::new(),
            tell,
            told,
            overview,
            folding: false,
            until_idle,
        }
    }

    /// What people see, whenever it changes.
    pub fn overview(&self) -> watch::Receiver<Arc<Overview>> {
        self.overview.subscribe()
    }

    /// Serves until `stop`, then drains: no new work, folds end, sites are told to come back.
    ///
    /// # Errors
    /// If the journal cannot be written: then nothing may go on.
    pub async fn run(
        mut self,
        mut listener: Listener,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ServiceError> {
        let mut stop = pin!(stop);
        let mut refresh = tokio::time::interval(REFRESH);
        let mut serial = 0;
        loop {
            self.settle().await?;
            if self.until_idle && self.coordinator.is_idle() && !self.folding {
                break;
            }
            let due = self.coordinator.poll_timeout();
            let wait = due.map(|at| at.since(self.clock.now()));
            tokio::select! {
                () = &mut stop => break,
                link = listener.accept() => {
                    serial += 1;
                    self.accept(link, serial);
                }
                Some(told) = self.told.recv() => self.hear(told).await?,
                () = tokio::time::sleep(wait.unwrap_or(FAR)), if wait.is_some() => {}
                _ = refresh.tick() => {
                    self.coordinator.activate(self.clock.now())?;
                    self.show();
                }
            }
            self.coordinator.tick(self.clock.now())?;
        }
        self.drain().await
    }

    /// Sends what is to be sent and starts what is to be started.
    async fn settle(&mut self) -> Result<(), ServiceError> {
        while let Some((site, message)) = self.coordinator.poll_message() {
            if let Some((_, link)) = self.links.get(&site) {
                // A link that is gone is heard of elsewhere; the site is told again on its next.
                let _ = tokio::time::timeout(SEND, link.send(message)).await;
            }
        }
        if !self.folding
            && let Some(job) = self.coordinator.poll_job()
        {
            self.folding = true;
            let tell = self.tell.clone();
            self.tasks.spawn(async move {
                let folded = tokio::task::spawn_blocking(move || job.run()).await;
                if let Ok(folded) = folded {
                    let _ = tell.send(Told::Folded(folded)).await;
                }
            });
        }
        if let Some(needed) = self.coordinator.poll_needed() {
            let store = self.store.clone();
            let collected = tokio::task::spawn_blocking(move || store.collect(&needed)).await;
            if let Ok(Err(error)) = collected {
                self.coordinator
                    .note_error(self.clock.now(), error.to_string());
            }
        }
        self.show();
        Ok(())
    }

    fn show(&self) {
        self.overview
            .send_replace(Arc::new(self.coordinator.overview(self.clock.now())));
    }

    /// Reads a link in a task of its own. Observers may look; sites take part.
    fn accept(&mut self, link: Link, serial: u64) {
        let site = link.peer().id().clone();
        let reader = Reader {
            site: site.clone(),
            link: link.clone(),
            serial,
            tell: self.tell.clone(),
            store: self.store.clone(),
            membership: Arc::clone(&self.membership),
            clock: self.clock,
            overview: self.overview.subscribe(),
        };
        tracing::info!(%site, path = %link.path(), "connected");
        if link.peer().role() == Role::Site
            && let Some((_, old)) = self.links.insert(site, (serial, link))
        {
            old.close(CloseCode::Done);
        }
        self.tasks.spawn(reader.run());
        while self.tasks.try_join_next().is_some() {}
    }

    async fn hear(&mut self, told: Told) -> Result<(), ServiceError> {
        let now = self.clock.now();
        match told {
            Told::Connected(site, link) => {
                drop(link);
                self.coordinator.connected(site);
            }
            Told::Disconnected(site, serial) => {
                // A newer link of the same site stays.
                if self
                    .links
                    .get(&site)
                    .is_some_and(|(current, _)| *current == serial)
                {
                    self.links.remove(&site);
                    self.coordinator.disconnected(now, &site)?;
                    tracing::info!(%site, "disconnected");
                }
            }
            Told::Message(site, message) => self.coordinator.message(now, &site, message)?,
            Told::Moved(site, progress) => self.coordinator.moved(now, &site, progress),
            Told::Offered(site, manifest, answer) => {
                let offered = self.coordinator.offered(now, &site, &manifest)?;
                let _ = answer.send(offered);
            }
            Told::Uploaded(arrived) => {
                let Arrived {
                    site,
                    signed,
                    manifest,
                    inspected,
                    link,
                } = *arrived;
                let staged = self
                    .coordinator
                    .uploaded(now, &site, &signed, &manifest, inspected)?;
                let answer: Message = match staged {
                    Ok(receipt) => {
                        tracing::info!(%site, round = %manifest.round, "update staged");
                        Message::Receipt(receipt)
                    }
                    Err(reason) => {
                        tracing::warn!(%site, round = %manifest.round, %reason, "update refused");
                        let subject = Subject::Blob(manifest.blob.digest);
                        Rejection { subject, reason }.into()
                    }
                };
                // If the link is gone, the site sends again and is answered then.
                let _ = tokio::time::timeout(SEND, link.send(answer)).await;
            }
            Told::Wanted(site, digest, answer) => {
                tracing::debug!(%site, "model wanted");
                let _ = answer.send(self.coordinator.model_manifest(digest)?);
            }
            Told::Folded(Ok(folded)) => {
                self.folding = false;
                self.coordinator.folded(now, folded)?;
            }
            Told::Folded(Err(error)) => {
                let text = chain(&error);
                tracing::error!(error = text, "aggregation failed; trying again");
                self.coordinator.note_error(now, text);
                let tell = self.tell.clone();
                self.tasks.spawn(async move {
                    tokio::time::sleep(RETRY).await;
                    let _ = tell.send(Told::FoldAgain).await;
                });
            }
            Told::FoldAgain => {
                self.folding = false;
                self.coordinator.fold_again();
            }
        }
        Ok(())
    }

    async fn drain(mut self) -> Result<(), ServiceError> {
        tracing::info!("draining");
        let deadline = tokio::time::Instant::now() + DRAIN;
        while self.folding
            && let Ok(Some(told)) = tokio::time::timeout_at(deadline, self.told.recv()).await
        {
            self.hear(told).await?;
            while let Some((site, message)) = self.coordinator.poll_message() {
                if let Some((_, link)) = self.links.get(&site) {
                    let _ = tokio::time::timeout(SEND, link.send(message)).await;
                }
            }
        }
        for (_, link) in self.links.into_values() {
            link.finish(CloseCode::Shutdown).await;
        }
        self.tasks.shutdown().await;
        Ok(())
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Things that may wait for the state's task.
const QUEUE: usize = 256;
/// How often launched runs are looked for and people see something new.
pub(super) const REFRESH: Duration = Duration::from_millis(500);
/// Pause after a fold that failed, for instance on a full disk.
const RETRY: Duration = Duration::from_secs(5);
/// Longest a full send queue of one site may hold up the others.
const SEND: Duration = Duration::from_secs(2);
const FAR: Duration = Duration::from_secs(3600);
