//! What a link needs of a path: a control channel, chunks beside it, and an end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::transfer::ChunkHeader;
use protocol::{CloseCode, Message, Version};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::LinkError;
use crate::link::Packets;
use crate::quic::QuicPipe;
use crate::tcp::TcpPipe;

/// Bytes between two ends, over one of the two paths.
#[derive(Debug)]
pub(crate) enum Pipe {
    Quic(QuicPipe),
    Tcp(TcpPipe),
}

/// What goes out on the control channel.
#[derive(Debug)]
pub(crate) enum Control {
    /// A frame.
    Frame(Bytes),
    /// End the channel once all frames before have arrived, then say so.
    Flush(oneshot::Sender<()>),
}

/// A chunk that arrived.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) header: ChunkHeader,
    pub(crate) bytes: Vec<u8>,
}

/// Where a path puts what arrives.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    /// The version agreed on, of every frame.
    pub(crate) version: Version,
    pub(crate) control: mpsc::Sender<Message>,
    pub(crate) chunks: mpsc::Sender<Chunk>,
    pub(crate) heard: Heard,
    pub(crate) ending: Ending,
}

impl Pipe {
    /// Queues a frame on the control channel.
    pub(crate) async fn send(&self, frame: Bytes) -> Result<(), LinkError> {
        let (control, ending) = self.parts();
        match control.send(Control::Frame(frame)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(ending.wait().await),
        }
    }

    /// Queues a frame if there is room.
    pub(crate) fn try_send(&self, frame: Bytes) {
        let _ = self.parts().0.try_send(Control::Frame(frame));
    }

    /// Sends a chunk, as soon as the peer takes one more.
    pub(crate) async fn send_chunk(
        &self,
        header: ChunkHeader,
        bytes: Bytes,
    ) -> Result<(), LinkError> {
        match self {
            Self::Quic(pipe) => pipe.send_chunk(header, bytes).await,
            Self::Tcp(pipe) => pipe.send_chunk(header, bytes).await,
        }
    }

    /// Sends a chunk and waits until it arrived; over TCP, see [`settle`](Self::settle).
    pub(crate) async fn deliver_chunk(
        &self,
        header: ChunkHeader,
        bytes: Bytes,
    ) -> Result<(), LinkError> {
        match self {
            Self::Quic(pipe) => pipe.deliver_chunk(header, bytes).await,
            Self::Tcp(pipe) => pipe.send_chunk(header, bytes).await,
        }
    }

    /// Over TCP, waits until the peer took every chunk sent so far.
    pub(crate) async fn settle(&self) -> Result<(), LinkError> {
        match self {
            Self::Quic(_) => Ok(()),
            Self::Tcp(pipe) => pipe.settle().await,
        }
    }

    pub(crate) fn packets(&self) -> Option<Packets> {
        match self {
            Self::Quic(pipe) => Some(pipe.packets()),
            Self::Tcp(_) => None,
        }
    }

    /// A chunk was taken from the inbox: the peer may send another.
    pub(crate) fn took_chunk(&self) {
        match self {
            Self::Quic(_) => {} // QUIC counts streams itself.
            Self::Tcp(pipe) => pipe.took_chunk(),
        }
    }

    /// Waits until every frame queued so far has arrived.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let (control, ending) = self.parts();
        if control.send(Control::Flush(done)).await.is_ok() {
            tokio::select! {
                _ = flushed => {}
                _ = ending.wait() => {}
                () = tokio::time::sleep(FLUSH_TIMEOUT) => {}
            }
        }
    }

    /// Ends it now. The first reason given is the one that holds.
    pub(crate) fn close(&self, code: CloseCode) {
        let (_, ending) = self.parts();
        ending.set(LinkError::closed(code));
        if let Self::Quic(pipe) = self {
            pipe.close(code);
        }
    }

    fn parts(&self) -> (&mpsc::Sender<Control>, &Ending) {
        match self {
            Self::Quic(pipe) => (&pipe.control, &pipe.ending),
            Self::Tcp(pipe) => (&pipe.control, &pipe.ending),
        }
    }
}

/// Why a link ended, once it has; the first reason holds.
#[derive(Clone, Debug)]
pub(crate) struct Ending(Arc<watch::Sender<Option<LinkError>>>);

impl Ending {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    pub(crate) fn set(&self, error: LinkError) {
        self.0.send_if_modified(|ending| {
            let is_first = ending.is_none();
            if is_first {
                *ending = Some(error);
            }
            is_first
        });
    }

    pub(crate) fn get(&self) -> Option<LinkError> {
        self.0.borrow().clone()
    }

    pub(crate) async fn wait(&self) -> LinkError {
        let mut receiver = self.0.subscribe();
        match receiver
            .wait_for(Option::is_some)
            .await
            .map(|ending| ending.clone())
        {
            Ok(Some(error)) => error,
            _ => LinkError::Lost("ended".to_owned()),
        }
    }
}

/// When the peer was last heard.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    start: Instant,
    last: Arc<AtomicU64>,
}

impl Heard {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            last: Arc::new(AtomicU64::new(0)),
        }
    }

    pub(crate) fn now(&self) {
        // A link that lasts 584 million years may wrap.
        self.last
            .store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    pub(crate) fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(last)
    }
}

/// Frames that may wait to be sent.
pub(crate) const CONTROL_QUEUE: usize = 64;
/// Longest wait for the last frames of a link to arrive.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
