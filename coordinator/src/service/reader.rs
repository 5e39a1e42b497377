//! One link: reads it, moves blobs, and tells the task that owns the state.

use std::io::ErrorKind;
use std::sync::Arc;

use protocol::bounded::{List, Text};
use protocol::message::{
    Consortium, Doing, MAX_CONSORTIUM_LEN, Manifest, Overview as OverviewMessage, Reason,
    Rejection, Subject, Welcome,
};
use protocol::{Digest, Message, Role, Signed, SiteId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use transport::{BlobStore, Link, send_blob, take_blob};

use super::clock::Clock;
use super::error::ServiceError;
use super::fold::Folded;
use super::overview::Overview;
use super::serve::REFRESH;
use super::uploads::Offer;
use crate::aggregate::inspect;
use crate::membership::Membership;
use crate::run::Progress;

/// What the tasks around the state tell it.
pub(super) enum Told {
    Connected(SiteId),
    Disconnected(SiteId, u64),
    Message(SiteId, Message),
    Moved(SiteId, Progress),
    Offered(SiteId, u64, Manifest, oneshot::Sender<Offer>),
    Cut(SiteId, u64, Digest),
    Uploaded(Box<Arrived>),
    Wanted(SiteId, Digest, oneshot::Sender<Option<Signed<Manifest>>>),
    Folded(Result<Folded, ServiceError>),
    FoldAgain,
}

/// An upload that is on disk and was looked at.
pub(super) struct Arrived {
    pub(super) site: SiteId,
    /// Number of the link it came over.
    pub(super) serial: u64,
    pub(super) signed: Signed<Manifest>,
    pub(super) manifest: Manifest,
    pub(super) inspected: Result<f64, Reason>,
    pub(super) link: Link,
}

/// The task of one link.
pub(super) struct Reader {
    pub(super) site: SiteId,
    pub(super) link: Link,
    pub(super) serial: u64,
    pub(super) tell: mpsc::Sender<Told>,
    pub(super) store: BlobStore,
    pub(super) membership: Arc<Membership>,
    pub(super) clock: Clock,
    pub(super) overview: watch::Receiver<Arc<Overview>>,
    /// Whether the peer has introduced itself.
    pub(super) greeted: bool,
}

impl Reader {
    /// Reads until the link ends.
    pub(super) async fn run(mut self) {
        let (mut transfers, mut overview) = (JoinSet::new(), JoinSet::new());
        while let Ok(message) = self.link.receive().await {
            if let Message::Watch(watch) = message {
                // One at a time, whatever is asked for: the latest wish holds.
                overview.shutdown().await;
                let (link, shown) = (self.link.clone(), self.overview.clone());
                overview.spawn(show(link, shown, watch.follow));
            } else if self.handle(message, &mut transfers).await.is_none() {
                break;
            }
            while transfers.try_join_next().is_some() {}
        }
        transfers.shutdown().await;
        let _ = self
            .tell
            .send(Told::Disconnected(self.site, self.serial))
            .await;
    }

    /// `None` when there is nobody left to tell.
    async fn handle(&mut self, message: Message, transfers: &mut JoinSet<()>) -> Option<()> {
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
                // Once for each link: whoever joins after it is back is one row in the journal.
                if self.link.peer().role() == Role::Site && !self.greeted {
                    self.greeted = true;
                    let told = Told::Connected(self.site.clone());
                    self.tell.send(told).await.ok()?;
                }
            }
            Message::Manifest(signed) => {
                let upload = receive_update(
                    (self.site.clone(), self.serial),
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
                            self.tell.clone(),
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
    (site, serial): (SiteId, u64),
    link: Link,
    store: BlobStore,
    tell: mpsc::Sender<Told>,
    signed: Signed<Manifest>,
) -> Option<()> {
    let manifest = link.open(&signed).ok()?;
    let (answer, offered) = oneshot::channel();
    let offer = Told::Offered(site.clone(), serial, manifest.clone(), answer);
    tell.send(offer).await.ok()?;
    let upload = match offered.await.ok()? {
        Offer::Welcome(upload) => upload,
        Offer::Counted(receipt) => return link.send(Message::Receipt(receipt)).await.ok(),
        Offer::Refused(reason) => {
            let subject = Subject::Blob(manifest.blob.digest);
            return link.send(Rejection { subject, reason }).await.ok();
        }
    };
    let progress = moved(&tell, &site, Doing::Uploading, manifest.blob.len);
    if let Err(error) = take_blob(&link, &store, manifest.blob, progress).await {
        tracing::warn!(%site, %error, "upload cut");
        let cut = Told::Cut(site, serial, manifest.blob.digest);
        return tell.send(cut).await.ok();
    }
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
        serial,
        signed,
        manifest,
        inspected,
        link,
    };
    tell.send(Told::Uploaded(Box::new(arrived))).await.ok()
}

/// Tells how many bytes have moved, every few chunks. What nobody has time to hear is not told.
fn moved(
    tell: &mpsc::Sender<Told>,
    site: &SiteId,
    doing: Doing,
    total: u64,
) -> impl FnMut(u64) + Send + 'static {
    let (tell, site, mut told) = (tell.clone(), site.clone(), 0);
    move |done| {
        if done >= told + MOVED_BYTES || done == total {
            told = done;
            let progress = Progress { doing, done, total };
            let _ = tell.try_send(Told::Moved(site.clone(), progress));
        }
    }
}

async fn send_model(
    link: Link,
    store: BlobStore,
    tell: mpsc::Sender<Told>,
    digest: Digest,
    manifest: Signed<Manifest>,
) {
    let blob = match tokio::task::spawn_blocking(move || store.blob(digest)).await {
        Ok(Ok(blob)) => blob,
        Ok(Err(error)) => return tracing::error!(%error, "a published model cannot be read"),
        Err(_) => return,
    };
    let progress = moved(&tell, link.peer().id(), Doing::Fetching, blob.blob().len);
    if let Err(error) = send_blob(&link, &blob, &manifest, progress).await {
        tracing::debug!(site = %link.peer().id(), %error, "model not delivered on this link");
    }
}

/// Sends overviews to an observer.
async fn show(link: Link, mut overview: watch::Receiver<Arc<Overview>>, follow: bool) {
    loop {
        let shown = Arc::clone(&overview.borrow_and_update());
        let Some(Ok(json)) = shown.json_within(MAX_CONSORTIUM_LEN).map(List::new) else {
            tracing::warn!(observer = %link.peer().id(), "overview not sent: too long without any round");
            return;
        };
        if link.send(OverviewMessage { json }).await.is_err() || !follow {
            return;
        }
        tokio::time::sleep(REFRESH).await;
        if overview.changed().await.is_err() {
            return;
        }
    }
}

/// Bytes between two words about a transfer.
const MOVED_BYTES: u64 = 4 << 20;
