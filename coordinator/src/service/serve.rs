//! The shell: one task owns the state, links and folds run beside it and tell it what happened.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use protocol::message::{Rejection, Subject};
use protocol::{CloseCode, Message, SiteId};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, unconstrained};
use tokio::time::timeout;
use transport::logging::chain;
use transport::{BlobStore, Link, Listener};

use super::clock::Clock;
use super::coordinator::Coordinator;
use super::error::ServiceError;
use super::overview::Overview;
use super::reader::{Arrived, Reader, Told};
use super::renewal;
use crate::membership::Membership;

/// How long a drain waits for folds and for sites to hear of it.
const DRAIN: Duration = Duration::from_secs(30);

/// Everything that serves one coordinator directory.
pub struct Server {
    coordinator: Coordinator,
    store: BlobStore,
    membership: Arc<Membership>,
    clock: Clock,
    /// One of each identity, whatever its role, with its serial number.
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
        mut coordinator: Coordinator,
        store: BlobStore,
        membership: Arc<Membership>,
        clock: Clock,
        until_idle: bool,
    ) -> Self {
        coordinator.follow(membership.trust().clone());
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
        let (tell, mut renewed) = mpsc::channel(1);
        self.tasks.spawn(renewal::keep(
            Arc::clone(&self.membership),
            Arc::clone(&self.coordinator.identity),
            self.clock,
            tell,
        ));
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
                Some(told) = self.told.recv() => self.hear(told)?,
                Some(identity) = renewed.recv() => {
                    if let Err(error) = listener.set_identity(identity) {
                        let error = chain(&error);
                        tracing::error!(error, "renewed certificate cannot be shown");
                    }
                }
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
        self.post();
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
        if let Some(collection) = self.coordinator.poll_collection() {
            let store = self.store.clone();
            let collected =
                tokio::task::spawn_blocking(move || store.collect(collection.needed())).await;
            if let Ok(Err(error)) = collected {
                self.coordinator
                    .note_error(self.clock.now(), error.to_string());
            }
        }
        self.show();
        Ok(())
    }

    /// Queues what is to be sent.
    fn post(&mut self) {
        while let Some((site, message)) = self.coordinator.poll_message() {
            if let Some((_, link)) = self.links.get(&site) {
                queue(link, message);
            }
        }
    }

    fn show(&self) {
        self.overview
            .send_replace(Arc::new(self.coordinator.overview(self.clock.now())));
    }

    /// Reads a link in a task of its own, and ends the one that its peer had before.
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
            greeted: false,
        };
        tracing::info!(%site, path = %link.path(), "connected");
        if let Some((_, old)) = self.links.insert(site, (serial, link)) {
            old.close(CloseCode::Superseded);
        }
        self.tasks.spawn(reader.run());
        while self.tasks.try_join_next().is_some() {}
    }

    fn hear(&mut self, told: Told) -> Result<(), ServiceError> {
        let now = self.clock.now();
        match told {
            Told::Connected(site) => self.coordinator.connected(site),
            Told::Disconnected(site, serial) => {
                self.coordinator.link_ended(&site, serial);
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
            Told::Offered(site, serial, manifest, answer) => {
                let offered = self.coordinator.offered(now, &site, serial, &manifest)?;
                let _ = answer.send(offered);
            }
            Told::Cut(site, serial, blob) => self.coordinator.upload_cut(&site, serial, blob),
            Told::Uploaded(arrived) => {
                let Arrived {
                    site,
                    serial,
                    signed,
                    manifest,
                    inspected,
                    link,
                } = *arrived;
                let from = (&site, serial);
                let staged = self
                    .coordinator
                    .uploaded(now, from, &signed, &manifest, inspected)?;
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
                queue(&link, answer);
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
            self.hear(told)?;
            self.post();
        }
        // All at once, and not for ever: one that does not read holds up nobody.
        join_all(self.links.into_values().map(|(_, link)| async move {
            if timeout(FAREWELL, link.finish(CloseCode::Shutdown))
                .await
                .is_err()
            {
                link.close(CloseCode::Shutdown);
            }
        }))
        .await;
        self.tasks.shutdown().await;
        Ok(())
    }
}

/// Queues a message without ever waiting, for this task serves everybody. A peer that lets 64 frames
/// pile up does not read: its link is closed, and on its next it is told again what still counts. So
/// it is with a message for a link that is gone.
fn queue(link: &Link, message: impl Into<Message>) {
    // Unconstrained: there is room or not, however much this task has done since it last paused.
    let queued = unconstrained(link.send(message)).now_or_never();
    if queued.is_none() {
        if link.ended().now_or_never().is_none() {
            tracing::warn!(peer = %link.peer().id(), "does not read what it is sent; closed");
        }
        link.close(CloseCode::Busy);
    }
}

/// Things that may wait for the state's task.
const QUEUE: usize = 256;
/// How often launched runs are looked for and people see something new.
pub(super) const REFRESH: Duration = Duration::from_millis(500);
/// Pause after a fold that failed, for instance on a full disk.
const RETRY: Duration = Duration::from_secs(5);
/// Longest wait for the last words to a peer to arrive.
const FAREWELL: Duration = Duration::from_secs(6);
const FAR: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
