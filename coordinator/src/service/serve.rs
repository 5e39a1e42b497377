//! The shell: one task owns the state, links and folds run beside it and tell it what happened.

use std::collections::HashMap;
use std::future::Future;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use protocol::bounded::{List, Text};
use protocol::message::{
    Consortium, Manifest, Overview as OverviewMessage, Reason, Receipt, Rejection, Subject, Welcome,
};
use protocol::{CloseCode, Digest, Message, Role, Signed, SiteId, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use transport::{BlobStore, Link, Listener, TransferError, receive_blob, send_blob};

use super::coordinator::{Coordinator, Upload};
use super::error::ServiceError;
use super::fold::Folded;
use super::overview::Overview;
use crate::aggregate::inspect;
use crate::membership::Membership;

/// How long a drain waits for folds and for sites to hear of it.
const DRAIN: Duration = Duration::from_secs(30);

/// What the tasks around the state tell it.
enum Told {
    Connected(SiteId, Link),
    Disconnected(SiteId, u64),
    Message(SiteId, Message),
    Offered(SiteId, Manifest, oneshot::Sender<Result<Upload, Reason>>),
    Uploaded(Box<Arrived>),
    Wanted(SiteId, Digest, oneshot::Sender<Option<Signed<Manifest>>>),
    Folded(Result<Folded, ServiceError>),
}

/// An upload that is on disk and was looked at.
struct Arrived {
    site: SiteId,
    signed: Signed<Manifest>,
    manifest: Manifest,
    receipt: Signed<Receipt>,
    inspected: Result<f64, Reason>,
    link: Link,
}

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

/// Wall time at the start, then only forward: a clock that is set does not move deadlines.
#[derive(Clone, Copy)]
pub struct Clock {
    wall: Timestamp,
    started: Instant,
}

impl Clock {
    /// Starts at the machine's time.
    pub fn start() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            wall: Timestamp::default() + since,
            started: Instant::now(),
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.wall + self.started.elapsed()
    }
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
            Told::Offered(site, manifest, answer) => {
                let offered = self.coordinator.offered(now, &site, &manifest)?;
                let _ = answer.send(offered);
            }
            Told::Uploaded(arrived) => {
                let Arrived {
                    site,
                    signed,
                    manifest,
                    receipt,
                    inspected,
                    link,
                } = *arrived;
                let staged = self
                    .coordinator
                    .uploaded(now, &site, &signed, &manifest, &receipt, inspected)?;
                match staged {
                    Ok(()) => tracing::info!(%site, round = %manifest.round, "update staged"),
                    Err(reason) => {
                        tracing::warn!(%site, round = %manifest.round, %reason, "update refused");
                        let subject = Subject::Blob(manifest.blob.digest);
                        let _ = link.send(Rejection { subject, reason }).await;
                    }
                }
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
                self.folding = false;
                let text = chain(&error);
                tracing::error!(error = text, "aggregation failed; trying again");
                self.coordinator.note_error(now, text);
                self.coordinator.fold_again();
                tokio::time::sleep(RETRY).await;
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

/// The task of one link.
struct Reader {
    site: SiteId,
    link: Link,
    serial: u64,
    tell: mpsc::Sender<Told>,
    store: BlobStore,
    membership: Arc<Membership>,
    clock: Clock,
    overview: watch::Receiver<Arc<Overview>>,
}

impl Reader {
    async fn run(self) {
        let mut transfers = JoinSet::new();
        while let Ok(message) = self.link.receive().await {
            if self.handle(message, &mut transfers).await.is_none() {
                break;
            }
            while transfers.try_join_next().is_some() {}
        }
        let _ = self
            .tell
            .send(Told::Disconnected(self.site, self.serial))
            .await;
    }

    /// `None` when there is nobody left to tell.
    async fn handle(&self, message: Message, transfers: &mut JoinSet<()>) -> Option<()> {
        match message {
            Message::Hello(hello) => {
                let consortium = self.membership.trust().consortium();
                let welcome = Welcome {
                    software: Text::lossy(concat!("fmct-coordinator ", env!("CARGO_PKG_VERSION"))),
                    consortium_version: consortium.version(),
                    time: self.clock.now(),
                };
                self.link.send(welcome).await.ok()?;
                if hello.consortium_version < consortium.version()
                    && let Ok(file) = List::new(consortium.as_bytes().to_vec())
                {
                    self.link.send(Consortium { file }).await.ok()?;
                }
                if self.link.peer().role() == Role::Site {
                    let told = Told::Connected(self.site.clone(), self.link.clone());
                    self.tell.send(told).await.ok()?;
                }
            }
            Message::Manifest(signed) => {
                let upload = receive_update(
                    self.site.clone(),
                    self.link.clone(),
                    self.store.clone(),
                    self.tell.clone(),
                    signed,
                );
                // Why there is none was told to the site, or there is nobody left to tell.
                transfers.spawn(async move { upload.await.unwrap_or_default() });
            }
            Message::Want(want) => {
                let (answer, manifest) = oneshot::channel();
                self.tell
                    .send(Told::Wanted(self.site.clone(), want.blob, answer))
                    .await
                    .ok()?;
                match manifest.await.ok()? {
                    Some(manifest) => {
                        transfers.spawn(send_model(
                            self.link.clone(),
                            self.store.clone(),
                            want.blob,
                            manifest,
                        ));
                    }
                    None => {
                        let subject = Subject::Blob(want.blob);
                        let reason = Reason::Unknown;
                        self.link.send(Rejection { subject, reason }).await.ok()?;
                    }
                }
            }
            Message::Renew(renew) => {
                let (membership, now) = (Arc::clone(&self.membership), self.clock.now());
                let peer = self.link.peer().clone();
                let answer =
                    tokio::task::spawn_blocking(move || membership.answer(&peer, &renew, now));
                self.link.send(answer.await.ok()?).await.ok()?;
            }
            Message::Watch(watch) => {
                transfers.spawn(show(self.link.clone(), self.overview.clone(), watch.follow));
            }
            message if self.link.peer().role() == Role::Site => {
                self.tell
                    .send(Told::Message(self.site.clone(), message))
                    .await
                    .ok()?;
            }
            _ => {}
        }
        Some(())
    }
}

/// Takes an upload if it is welcome, looks at it whole, and hands it over.
async fn receive_update(
    site: SiteId,
    link: Link,
    store: BlobStore,
    tell: mpsc::Sender<Told>,
    signed: Signed<Manifest>,
) -> Option<()> {
    let manifest = link.open(&signed).ok()?;
    let (answer, offered) = oneshot::channel();
    tell.send(Told::Offered(site.clone(), manifest.clone(), answer))
        .await
        .ok()?;
    let upload = match offered.await.ok()? {
        Ok(upload) => upload,
        Err(reason) => {
            let subject = Subject::Blob(manifest.blob.digest);
            return link.send(Rejection { subject, reason }).await.ok();
        }
    };
    let receipt = match receive_blob(&link, &store, manifest.blob, |_| {}).await {
        Ok(receipt) => receipt,
        // Somebody else brings the same blob; whoever is first tells of it.
        Err(TransferError::Busy) => return None,
        Err(error) => {
            tracing::warn!(%site, %error, "upload cut");
            return None;
        }
    };
    let path = store.path(manifest.blob.digest);
    let inspected = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open(path)?;
        inspect(&upload.config, &upload.layout, &file)
    });
    let inspected = match inspected.await.ok()? {
        Ok(inspected) => inspected.map_err(Reason::from),
        Err(error) if error.kind() == ErrorKind::StorageFull => Err(Reason::StorageFull),
        Err(_) => Err(Reason::Busy),
    };
    let arrived = Arrived {
        site,
        signed,
        manifest,
        receipt,
        inspected,
        link,
    };
    tell.send(Told::Uploaded(Box::new(arrived))).await.ok()
}

async fn send_model(link: Link, store: BlobStore, digest: Digest, manifest: Signed<Manifest>) {
    let blob = match tokio::task::spawn_blocking(move || store.blob(digest)).await {
        Ok(Ok(blob)) => blob,
        Ok(Err(error)) => return tracing::error!(%error, "a published model cannot be read"),
        Err(_) => return,
    };
    if let Err(error) = send_blob(&link, &blob, &manifest, |_| {}).await {
        tracing::debug!(site = %link.peer().id(), %error, "model not delivered on this link");
    }
}

/// Sends overviews to an observer.
async fn show(link: Link, mut overview: watch::Receiver<Arc<Overview>>, follow: bool) {
    loop {
        let json = serde_json::to_vec(&**overview.borrow_and_update()).unwrap_or_default();
        let Ok(json) = List::new(json) else { return };
        if link.send(OverviewMessage { json }).await.is_err() || !follow {
            return;
        }
        tokio::time::sleep(REFRESH).await;
        if overview.changed().await.is_err() {
            return;
        }
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
const REFRESH: Duration = Duration::from_millis(500);
/// Pause after a fold that failed, for instance on a full disk.
const RETRY: Duration = Duration::from_secs(5);
/// Longest a full send queue of one site may hold up the others.
const SEND: Duration = Duration::from_secs(2);
const FAR: Duration = Duration::from_secs(3600);
