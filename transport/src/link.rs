//! A link: one verified peer, whichever path its bytes take.

mod pulse;
mod router;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use certs::{Identity, Trust, VerifiedPeer};
use protocol::transfer::ChunkHeader;
use protocol::{CloseCode, Digest, Message, Signed, Statement, Version, codec};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use crate::config::Config;
use crate::error::{LinkError, TransferError};
use crate::pipe::{Chunk, Ending, Heard, Inbox, Pipe};
use crate::tcp::INITIAL_CREDIT;
use pulse::Pulse;
use router::Router;

/// The path a link's bytes take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Path {
    /// QUIC over UDP.
    Quic,
    /// TLS over TCP.
    Tcp,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "QUIC",
            Self::Tcp => "TLS over TCP",
        })
    }
}

/// What became of a link's packets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packets {
    /// Sent by us.
    pub sent: u64,
    /// Of these, lost on the way.
    pub lost: u64,
}

/// A live connection to a verified peer.
///
/// Messages go both ways ([`send`](Self::send), [`receive`](Self::receive)); blobs move beside them
/// ([`send_blob`](crate::send_blob), [`receive_blob`](crate::receive_blob)). Heartbeats, the
/// repeated check of the peer's membership, the idle timeout and the answers to probes are taken
/// care of. Clones are the same link; when the last one is dropped it is closed.
///
/// A link that ended stays ended. What a site and its coordinator have agreed on does not depend
/// on it: both say it again on the next one.
#[derive(Clone, Debug)]
pub struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    peer: VerifiedPeer,
    version: Version,
    path: Path,
    identity: Arc<Identity>,
    pipe: Arc<Pipe>,
    messages: tokio::sync::Mutex<mpsc::Receiver<Message>>,
    routes: Arc<Routes>,
    ending: Ending,
    ready: watch::Receiver<bool>,
    idle_timeout: Duration,
    chunk_bytes_sent: AtomicU64,
    _permit: Option<OwnedSemaphorePermit>,
}

/// What a handshake found out, and who we are.
pub(crate) struct Handshake {
    pub(crate) peer: VerifiedPeer,
    pub(crate) version: Version,
    pub(crate) path: Path,
    pub(crate) identity: Arc<Identity>,
    pub(crate) trust: Trust,
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

impl Link {
    /// Starts a link; `start` starts the path with the inbox given.
    pub(crate) fn start(
        handshake: Handshake,
        config: &Config,
        start: impl FnOnce(Inbox) -> Pipe,
    ) -> Self {
        let (control, arriving) = mpsc::channel(INBOX_LEN);
        // Over QUIC, chunks wait in the connection's window; over TCP, here.
        let chunks_len = match handshake.path {
            Path::Quic => QUIC_CHUNKS,
            Path::Tcp => config.chunks_in_flight.max(INITIAL_CREDIT) as usize,
        };
        let (chunks, chunks_arriving) = mpsc::channel(chunks_len);
        let (ending, heard) = (Ending::new(), Heard::new());
        let inbox = Inbox {
            version: handshake.version,
            control,
            chunks,
            heard: heard.clone(),
            ending: ending.clone(),
        };
        let pipe = Arc::new(start(inbox));
        let routes = Arc::new(Routes::default());
        let (deliver, messages) = mpsc::channel(INBOX_LEN);
        let (set_ready, ready) = watch::channel(false);
        let router = Router {
            peer: handshake.peer.clone(),
            pipe: Arc::clone(&pipe),
            routes: Arc::clone(&routes),
            deliver,
            heard_sequence: watch::Sender::new(0),
            set_ready,
            is_probed: Arc::default(),
        };
        let pulse = Pulse {
            peer: handshake.peer.clone(),
            version: handshake.version,
            trust: handshake.trust,
            pipe: Arc::clone(&pipe),
            heard,
            heard_sequence: router.heard_sequence.subscribe(),
            interval: config.heartbeat(),
            idle_timeout: config.idle_timeout(),
        };
        let end = ending.clone();
        let (chunk_pipe, chunk_routes) = (Arc::clone(&pipe), Arc::clone(&routes));
        tokio::spawn(async move {
            let routing = router.run(arriving);
            tokio::pin!(routing);
            let is_drained = tokio::select! {
                () = &mut routing => true,
                () = pulse.run() => false,
                () = route_chunks(chunks_arriving, &chunk_pipe, &chunk_routes) => false,
                _ = end.wait() => false,
            };
            // What arrived before the end is still handed on.
            if !is_drained {
                let _ = tokio::time::timeout(DRAIN_TIMEOUT, routing).await;
            }
            chunk_routes.clear();
        });
        Self(Arc::new(Inner {
            peer: handshake.peer,
            version: handshake.version,
            path: handshake.path,
            identity: handshake.identity,
            pipe,
            messages: tokio::sync::Mutex::new(messages),
            routes,
            ending,
            ready,
            idle_timeout: config.idle_timeout(),
            chunk_bytes_sent: AtomicU64::new(0),
            _permit: handshake.permit,
        }))
    }

    /// Who is at the other end: verified, and a member as of the last heartbeat.
    pub fn peer(&self) -> &VerifiedPeer {
        &self.0.peer
    }

    /// The path its bytes take.
    pub fn path(&self) -> Path {
        self.0.path
    }

    /// The protocol version agreed on.
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// Queues a message.
    ///
    /// # Errors
    /// If the link has ended, or the message does not fit a frame.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), LinkError> {
        let frame = codec::encode(&message.into(), self.0.version)?;
        self.0.pipe.send(Bytes::from(frame)).await
    }

    /// The next message. Messages of blobs that are on their way do not come up here.
    ///
    /// # Errors
    /// If the link has ended and everything that arrived before was received.
    pub async fn receive(&self) -> Result<Message, LinkError> {
        match self.0.messages.lock().await.recv().await {
            Some(message) => Ok(message),
            None => Err(self.0.ending.wait().await),
        }
    }

    /// Reads a statement signed by the peer.
    ///
    /// # Errors
    /// If the peer did not sign it, or it is malformed.
    pub fn open<T: Statement>(
        &self,
        signed: &Signed<T>,
    ) -> Result<T, protocol::signed::StatementError> {
        open(&self.0.peer, signed)
    }

    /// Closes it now; what is queued may be lost.
    pub fn close(&self, code: CloseCode) {
        self.0.pipe.close(code);
    }

    /// Closes it once everything queued has arrived, or 5 seconds have passed.
    pub async fn finish(&self, code: CloseCode) {
        self.0.pipe.flush().await;
        self.0.pipe.close(code);
    }

    /// Waits until it has ended, and says why.
    pub async fn ended(&self) -> LinkError {
        self.0.ending.wait().await
    }

    /// Bytes of chunks handed to the network so far, whether or not they arrived.
    pub fn chunk_bytes_sent(&self) -> u64 {
        self.0.chunk_bytes_sent.load(Ordering::Relaxed)
    }

    /// Packets sent and lost so far, where the path counts them: QUIC does.
    pub fn packets(&self) -> Option<Packets> {
        self.0.pipe.packets()
    }

    pub(crate) fn pipe(&self) -> &Pipe {
        &self.0.pipe
    }

    /// Why it has ended, if it has.
    pub(crate) fn end(&self) -> Option<LinkError> {
        self.0.ending.get()
    }

    /// Tells the link's end without keeping the link.
    pub(crate) fn ending(&self) -> Ending {
        self.0.ending.clone()
    }

    /// Waits until the peer was heard, and so has let us in.
    pub(crate) async fn ready(&self) -> Result<(), LinkError> {
        let mut ready = self.0.ready.clone();
        tokio::select! {
            Ok(_) = ready.wait_for(|&ready| ready) => Ok(()),
            error = self.0.ending.wait() => Err(error),
        }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.0.identity
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        self.0.idle_timeout
    }

    pub(crate) async fn send_chunk(
        &self,
        header: ChunkHeader,
        bytes: Bytes,
    ) -> Result<(), LinkError> {
        self.0
            .chunk_bytes_sent
            .fetch_add(u64::from(header.len), Ordering::Relaxed);
        self.0.pipe.send_chunk(header, bytes).await
    }

    /// From now on, messages and chunks of a blob that goes this way come here.
    pub(crate) fn route(&self, way: Way, blob: Digest) -> Result<Routed, TransferError> {
        if let Some(error) = self.0.ending.get() {
            return Err(error.into());
        }
        let (to_messages, messages) = mpsc::channel(ROUTE_LEN);
        let (to_chunks, chunks) = mpsc::channel(1);
        let route = Route {
            messages: to_messages,
            chunks: to_chunks,
        };
        if !self.0.routes.insert((way, blob), route) {
            return Err(TransferError::Busy);
        }
        let guard = RouteGuard {
            routes: Arc::clone(&self.0.routes),
            key: (way, blob),
        };
        Ok(Routed {
            messages,
            chunks,
            guard,
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.pipe.close(CloseCode::Done);
    }
}

/// Which way a blob goes, seen from here.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Way {
    In,
    Out,
}

/// The receiving end of a route; the route is gone when the guard is dropped.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) messages: mpsc::Receiver<Message>,
    pub(crate) chunks: mpsc::Receiver<Chunk>,
    pub(crate) guard: RouteGuard,
}

#[derive(Debug)]
pub(crate) struct RouteGuard {
    routes: Arc<Routes>,
    key: (Way, Digest),
}

impl Drop for RouteGuard {
    fn drop(&mut self) {
        self.routes.lock().remove(&self.key);
    }
}

#[derive(Clone, Debug)]
struct Route {
    messages: mpsc::Sender<Message>,
    chunks: mpsc::Sender<Chunk>,
}

#[derive(Debug, Default)]
struct Routes(Mutex<HashMap<(Way, Digest), Route>>);

impl Routes {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(Way, Digest), Route>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, key: (Way, Digest), route: Route) -> bool {
        let mut routes = self.lock();
        let is_new = !routes.contains_key(&key);
        if is_new {
            routes.insert(key, route);
        }
        is_new
    }

    fn find(&self, way: Way, blob: Digest) -> Option<Route> {
        self.lock().get(&(way, blob)).cloned()
    }

    fn clear(&self) {
        self.lock().clear();
    }
}

/// Hands chunks to the transfers they belong to. A slow disk holds up chunks, never messages.
async fn route_chunks(mut arriving: mpsc::Receiver<Chunk>, pipe: &Pipe, routes: &Routes) {
    while let Some(chunk) = arriving.recv().await {
        // A chunk that nobody waits for any more is dropped.
        if let Some(route) = routes.find(Way::In, chunk.header.blob) {
            let _ = route.chunks.send(chunk).await;
        }
        pipe.took_chunk();
    }
}

fn open<T: Statement>(
    peer: &VerifiedPeer,
    signed: &Signed<T>,
) -> Result<T, protocol::signed::StatementError> {
    signed.open(|context, bytes, signature| peer.key().verify(context, bytes, signature).is_ok())
}

/// Messages that may wait for the application.
const INBOX_LEN: usize = 64;
/// Longest time for handing on what arrived before the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Chunks of a QUIC connection that are read at once.
const QUIC_CHUNKS: usize = 2;
/// Messages that may wait for one transfer: an outline of 1 TiB has 256 pages.
const ROUTE_LEN: usize = 300;
