//! Blobs over a link: the transfer state machines of `protocol`, joined to disk and network.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::message::{Have, Manifest, Reason, Receipt, Rejection, Resend, Subject, Want};
use protocol::transfer::{Accepted, BlobRef, ChunkHeader, Receiver, Sender};
use protocol::{Message, Signed};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, spawn_blocking};

use crate::clock;
use crate::error::TransferError;
use crate::link::{Link, Routed, Way};
use crate::pipe::Chunk;
use crate::store::{Blob, BlobStore, Partial, StoreError};

/// What moved, and the word of whoever holds it now.
#[derive(Clone, Debug)]
pub struct Transferred {
    /// The receiver's receipt.
    pub receipt: Signed<Receipt>,
    /// Bytes of chunks that were sent, those sent twice included.
    pub bytes: u64,
}

/// Sends a blob to the peer, and waits for its receipt: then it is durable there.
///
/// Announces the blob by its manifest, signed by us; or answers the peer's `Want` with it, which is
/// the same. Whatever the peer holds already is not sent. `progress` is told the bytes that need
/// not be sent any more.
///
/// # Errors
/// If the link ends (call again on the next link), the peer refuses, or the blob is damaged here: the
/// peer is told that it comes no more.
pub async fn send_blob(
    link: &Link,
    blob: &Blob,
    manifest: &Signed<Manifest>,
    progress: impl FnMut(u64) + Send,
) -> Result<Transferred, TransferError> {
    let result = send_from_store(link, blob, manifest, progress).await;
    if let Err(error @ TransferError::Store(_)) = &result
        && let Some(reason) = reason(error)
    {
        let subject = Subject::Blob(blob.blob().digest);
        // Else it would wait for the rest as long as this link lives on.
        let _ = link.send(Rejection { subject, reason }).await;
    }
    result
}

async fn send_from_store(
    link: &Link,
    blob: &Blob,
    manifest: &Signed<Manifest>,
    mut progress: impl FnMut(u64) + Send,
) -> Result<Transferred, TransferError> {
    let total = blob.blob().len;
    let Routed {
        mut messages,
        guard: _guard,
        ..
    } = link.route(Way::Out, blob.blob().digest)?;
    let mut sender = Sender::new(Arc::clone(blob.outline()));
    link.send(Message::Manifest(manifest.clone())).await?;
    let mut bytes = 0;
    let mut prefetched: Option<(u64, Vec<u8>)> = None;
    loop {
        let next = match &prefetched {
            Some(_) => messages.try_recv().ok(),
            None => Some(receive(link, &mut messages).await?),
        };
        match next {
            Some(Message::Want(_)) => {
                for page in blob.outline().pages() {
                    link.send(page).await?;
                }
            }
            Some(Message::Have(have)) => {
                sender
                    .have(&have.chunks)
                    .map_err(|error| TransferError::Peer(error.to_string()))?;
                prefetched = None;
            }
            Some(Message::Resend(resend)) => {
                sender
                    .resend(resend.chunk)
                    .map_err(|error| TransferError::Peer(error.to_string()))?;
            }
            Some(Message::Receipt(receipt)) => {
                let stored = link
                    .open(&receipt)
                    .map_err(|error| TransferError::Peer(error.to_string()))?;
                sender
                    .receipt(stored.blob)
                    .map_err(|error| TransferError::Peer(error.to_string()))?;
                progress(total);
                return Ok(Transferred { receipt, bytes });
            }
            Some(Message::Rejection(rejection)) => {
                return Err(TransferError::Rejected(rejection.reason));
            }
            Some(_) => {}
            None => {
                let Some((chunk, payload)) = prefetched.take() else {
                    continue;
                };
                let len = payload.len() as u64;
                let header = ChunkHeader {
                    blob: blob.blob().digest,
                    chunk,
                    len: payload.len() as u32,
                };
                let following = sender.next_chunk();
                let (sent, read) = tokio::join!(
                    link.send_chunk(header, Bytes::from(payload)),
                    read_chunk(blob, following)
                );
                sent?;
                bytes += len;
                prefetched = read?;
                let unread = prefetched
                    .as_ref()
                    .map_or(0, |(_, payload)| payload.len() as u64);
                progress(total - sender.bytes_queued() - unread);
                continue;
            }
        }
        if prefetched.is_none() {
            let following = sender.next_chunk();
            prefetched = read_chunk(blob, following).await?;
        }
    }
}

/// Receives a blob from the peer into the store, and gives it our receipt.
///
/// # Errors
/// As [`take_blob`].
pub async fn receive_blob(
    link: &Link,
    store: &BlobStore,
    blob: BlobRef,
    progress: impl FnMut(u64) + Send + 'static,
) -> Result<Signed<Receipt>, TransferError> {
    take_blob(link, store, blob, progress).await?;
    let receipt = Receipt {
        blob,
        stored: clock::now(),
    };
    let receipt = Signed::new(&receipt, |context, bytes| {
        link.identity().sign(context, bytes)
    })
    .map_err(crate::error::LinkError::from)?;
    link.send(Message::Receipt(receipt.clone())).await?;
    Ok(receipt)
}

/// Receives a blob from the peer into the store. The receipt, or a rejection, is the caller's to
/// give: until then the peer goes on holding the blob for us.
///
/// Answers the peer's manifest, once it was found in order; or asks for a blob that was named
/// otherwise, for instance in a task. What was received before, over whatever link, is kept.
/// `progress` is told the bytes that are on disk.
///
/// # Errors
/// If the link ends (call again on the next link), the peer's chunks are damaged again and again,
/// or our disk fails. The peer is told why.
pub async fn take_blob(
    link: &Link,
    store: &BlobStore,
    blob: BlobRef,
    progress: impl FnMut(u64) + Send + 'static,
) -> Result<(), TransferError> {
    let result = receive_to_store(link, store, blob, progress).await;
    if let Err(error) = &result
        && let Some(reason) = reason(error)
    {
        let subject = Subject::Blob(blob.digest);
        // If the link has ended, the peer knows already.
        let _ = link.send(Rejection { subject, reason }).await;
    }
    result
}

async fn receive_to_store(
    link: &Link,
    store: &BlobStore,
    blob: BlobRef,
    progress: impl FnMut(u64) + Send + 'static,
) -> Result<(), TransferError> {
    // Two links may bring the same blob; the second waits, and finds it complete.
    let _turn = store.turn(blob.digest).await;
    if store.contains(blob.digest) {
        return Ok(());
    }
    let peer = |error: protocol::transfer::ReceiveError| TransferError::Peer(error.to_string());
    let mut receiver = Receiver::new(blob, u64::MAX).map_err(peer)?;
    let Routed {
        mut messages,
        chunks,
        guard,
    } = link.route(Way::In, blob.digest)?;
    let want = Want { blob: blob.digest };
    link.send(want).await?;
    while receiver.outline().is_none() {
        match receive(link, &mut messages).await? {
            Message::OutlinePage(page) => receiver.page(&page).map_err(peer)?,
            // The answer to our first `Want`; the second says that we are waiting.
            Message::Manifest(_) => link.send(want).await?,
            Message::Rejection(rejection) => return Err(TransferError::Rejected(rejection.reason)),
            _ => {}
        }
    }
    let (replies, mut to_send) = mpsc::channel(REPLIES);
    let (beat, mut beats) = watch::channel(());
    let partial = store.partial(blob)?;
    let intake = Intake {
        receiver,
        partial,
        replies,
        beat,
        progress,
    };
    let intake = spawn_blocking(move || intake.run(chunks));
    let forward = async {
        loop {
            tokio::select! {
                Some(reply) = to_send.recv() => link.send(reply).await?,
                Some(message) = messages.recv() => {
                    if let Message::Rejection(rejection) = message {
                        return Err(TransferError::Rejected(rejection.reason));
                    }
                }
                Ok(()) = beats.changed() => {}
                () = tokio::time::sleep(stall_timeout(link)) => {
                    return Err(TransferError::Peer("transfer stalled".to_owned()));
                }
            }
        }
    };
    tokio::pin!(intake);
    let forwarded: Result<(), TransferError> = tokio::select! {
        done = &mut intake => {
            let done = join(done);
            // Cut short by the end of the link: then that is the reason.
            return match (link.end(), done) {
                (Some(error), Err(TransferError::Peer(_))) => Err(error.into()),
                (_, done) => done,
            };
        }
        forwarded = forward => forwarded,
        error = link.ended() => Err(error.into()),
    };
    // Without its route the intake ends, and what it wrote stays for the next link.
    drop(guard);
    drop(to_send);
    match join(intake.await) {
        Ok(()) => Ok(()),
        done => forwarded.and(done),
    }
}

/// The blocking half of receiving: hashes and writes.
struct Intake<F> {
    receiver: Receiver,
    partial: Partial,
    replies: mpsc::Sender<Message>,
    beat: watch::Sender<()>,
    progress: F,
}

impl<F: FnMut(u64)> Intake<F> {
    fn run(mut self, mut chunks: mpsc::Receiver<Chunk>) -> Result<(), TransferError> {
        let blob = self.receiver.blob();
        let mut held = 0;
        if let Some(outline) = self.receiver.outline() {
            for chunk in self.partial.verified(outline).collect::<Vec<_>>() {
                self.receiver.stored(chunk);
                held += length(blob, chunk);
            }
        }
        (self.progress)(held);
        self.reply(Have {
            blob: blob.digest,
            chunks: self.receiver.have().clone(),
        });
        while !self.receiver.is_complete() {
            let Some(Chunk { header, bytes }) = chunks.blocking_recv() else {
                return Err(TransferError::Peer("transfer was cut short".to_owned()));
            };
            self.beat.send_replace(());
            let accepted = self.receiver.accept(header.chunk, &bytes);
            match accepted.map_err(|error| TransferError::Peer(error.to_string()))? {
                Accepted::New(range) => {
                    self.partial.write(range, &bytes)?;
                    self.receiver.stored(header.chunk);
                    held += u64::from(header.len);
                    (self.progress)(held);
                }
                Accepted::Damaged => self.reply(Resend {
                    blob: blob.digest,
                    chunk: header.chunk,
                }),
                Accepted::Duplicate => {}
            }
        }
        let outline = self
            .receiver
            .outline()
            .ok_or(StoreError::Missing(blob.digest))?;
        Ok(self.partial.finish(outline)?)
    }

    /// If nobody takes it, the link has ended, and the next `recv` says so.
    fn reply(&self, message: impl Into<Message>) {
        let _ = self.replies.blocking_send(message.into());
    }
}

async fn read_chunk(
    blob: &Blob,
    chunk: Option<u64>,
) -> Result<Option<(u64, Vec<u8>)>, TransferError> {
    let Some(chunk) = chunk else { return Ok(None) };
    let blob = blob.clone();
    let read = join(spawn_blocking(move || blob.chunk(chunk)).await);
    Ok(Some((chunk, read?)))
}

/// What a blocking task gave; its panic goes on here.
fn join<T>(result: Result<T, JoinError>) -> T {
    result.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

async fn receive(
    link: &Link,
    messages: &mut mpsc::Receiver<Message>,
) -> Result<Message, TransferError> {
    match tokio::time::timeout(stall_timeout(link), messages.recv()).await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(link.ended().await.into()),
        Err(_) => Err(TransferError::Peer("transfer stalled".to_owned())),
    }
}

/// Silence about one blob, on a link that is alive, after which its transfer is given up. A disk
/// may take long to make a large blob durable.
fn stall_timeout(link: &Link) -> Duration {
    10 * link.idle_timeout()
}

fn reason(error: &TransferError) -> Option<Reason> {
    match error {
        TransferError::Link(_) | TransferError::Rejected(_) => None,
        TransferError::Busy => Some(Reason::Busy),
        TransferError::Peer(defect) => Some(Reason::Invalid {
            defect: protocol::bounded::Text::lossy(defect),
        }),
        TransferError::Store(error) if error.is_full() => Some(Reason::StorageFull),
        TransferError::Store(_) => Some(Reason::Busy),
    }
}

fn length(blob: BlobRef, chunk: u64) -> u64 {
    let range = blob.range(chunk);
    range.end - range.start
}

/// Replies that may wait for the link.
const REPLIES: usize = 64;
