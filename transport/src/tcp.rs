//! The path over TLS over TCP: the same control channel and chunks, in records.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::codec::FrameReader;
use protocol::record::{ChunkReader, MAX_RECORD_LEN, Record, RecordReader};
use protocol::transfer::ChunkHeader;
use protocol::{CloseCode, Version};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};

use crate::error::LinkError;
use crate::pipe::{CONTROL_QUEUE, Chunk, Control, Ending, Inbox};

pub(crate) mod proxy;

/// One TLS connection.
#[derive(Debug)]
pub(crate) struct TcpPipe {
    pub(crate) control: mpsc::Sender<Control>,
    pub(crate) ending: Ending,
    bulk: mpsc::Sender<(ChunkHeader, Bytes)>,
    /// Chunks that the peer will still take.
    credit: Arc<Semaphore>,
    /// Chunks that the peer takes when it holds none.
    window: u32,
    /// Chunks that the peer may be told to send.
    grants: mpsc::UnboundedSender<()>,
}

impl TcpPipe {
    /// Starts the tasks that move bytes. Both ends allow `window` chunks in flight.
    pub(crate) fn start<S>(stream: S, window: u32, inbox: Inbox) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (control, frames) = mpsc::channel(CONTROL_QUEUE);
        let (bulk, chunks) = mpsc::channel(1);
        let (grants, granted) = mpsc::unbounded_channel();
        let credit = Arc::new(Semaphore::new(window as usize));
        let ending = inbox.ending.clone();
        let (inward, outward) = tokio::io::split(stream);
        let writer = Writer {
            stream: outward,
            buffer: Vec::new(),
        };
        tokio::spawn(write(writer, frames, chunks, granted, ending.clone()));
        tokio::spawn(read(inward, Arc::clone(&credit), inbox));
        Self {
            control,
            ending,
            bulk,
            credit,
            window,
            grants,
        }
    }

    pub(crate) async fn send_chunk(
        &self,
        header: ChunkHeader,
        bytes: Bytes,
    ) -> Result<(), LinkError> {
        let permit = tokio::select! {
            permit = self.credit.acquire() => permit,
            error = self.ending.wait() => return Err(error),
        };
        if let Ok(permit) = permit {
            permit.forget();
        }
        match self.bulk.send((header, bytes)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.ending.wait().await),
        }
    }

    /// Waits until the peer took every chunk sent so far: then all credit is back.
    pub(crate) async fn settle(&self) -> Result<(), LinkError> {
        tokio::select! {
            _ = self.credit.acquire_many(self.window) => Ok(()),
            error = self.ending.wait() => Err(error),
        }
    }

    pub(crate) fn grant_chunk(&self) {
        let _ = self.grants.send(());
    }
}

/// The version and certificates that the handshake agreed on.
pub(crate) fn handshake(
    tls: &rustls::CommonState,
) -> (Option<Version>, Vec<CertificateDer<'static>>) {
    let version = tls.alpn_protocol().and_then(Version::from_alpn);
    let chain = tls.peer_certificates().map(|chain| {
        chain
            .iter()
            .map(|certificate| certificate.clone().into_owned())
            .collect()
    });
    (version, chain.unwrap_or_default())
}

/// Writes records; control first, then one record of a chunk at a time.
async fn write<S: AsyncWrite + Unpin>(
    mut writer: Writer<S>,
    mut frames: mpsc::Receiver<Control>,
    mut chunks: mpsc::Receiver<(ChunkHeader, Bytes)>,
    mut grants: mpsc::UnboundedReceiver<()>,
    ending: Ending,
) {
    let pump = async {
        let mut under_way: Option<Bytes> = None;
        loop {
            let next = tokio::select! {
                biased;
                Some(control) = frames.recv() => Next::Control(control),
                Some(()) = grants.recv() => Next::Grant,
                () = std::future::ready(()), if under_way.is_some() => Next::Piece,
                Some((header, bytes)) = chunks.recv(), if under_way.is_none() => {
                    writer.put(Record::Bulk(&header.encode()));
                    under_way = Some(bytes);
                    Next::Piece
                }
                else => return std::io::Result::Ok(()),
            };
            match next {
                Next::Control(Control::Frame(frame)) => {
                    for piece in frame.chunks(MAX_RECORD_LEN) {
                        writer.put(Record::Control(piece));
                    }
                }
                Next::Control(Control::Flush(done)) => {
                    writer.flush().await?;
                    let _ = done.send(());
                    continue;
                }
                Next::Grant => writer.put(Record::Credit(1)),
                Next::Piece => {
                    if let Some(bytes) = &mut under_way {
                        writer.put(Record::Bulk(&bytes.split_to(bytes.len().min(PIECE_LEN))));
                    }
                    under_way = under_way.filter(|bytes| !bytes.is_empty());
                }
            }
            writer.flush().await?;
        }
    };
    let error = tokio::select! {
        result = pump => result.err().map(|error| LinkError::Lost(error.to_string())),
        _ = ending.wait() => None,
    };
    if let Some(error) = error {
        ending.set(error);
    }
    if let Some(LinkError::Closed {
        code,
        by_peer: false,
    }) = ending.get()
    {
        writer.put(Record::Close(code.number()));
    }
    let goodbye = async {
        let _ = writer.flush().await;
        let _ = writer.stream.shutdown().await;
    };
    let _ = tokio::time::timeout(GOODBYE_TIMEOUT, goodbye).await;
}

enum Next {
    Control(Control),
    Grant,
    Piece,
}

struct Writer<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncWrite + Unpin> Writer<S> {
    fn put(&mut self, record: Record<'_>) {
        record.encode(&mut self.buffer);
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        self.stream.write_all(&self.buffer).await?;
        self.buffer.clear();
        self.stream.flush().await
    }
}

async fn read<S: AsyncRead + Unpin>(mut stream: S, credit: Arc<Semaphore>, inbox: Inbox) {
    let ending = inbox.ending.clone();
    let pump = async {
        let mut state = Reader::default();
        let mut buffer = vec![0; READ_LEN];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => return LinkError::Lost("closed by peer without a word".to_owned()),
                Ok(len) => {
                    inbox.heard.now();
                    state.records.push(&buffer[..len]);
                }
                Err(error) => return LinkError::Lost(error.to_string()),
            }
            if let Err(error) = state.drain(&credit, &inbox).await {
                return error;
            }
        }
    };
    tokio::select! {
        error = pump => return ending.set(error),
        _ = ending.wait() => {}
    }
    // Closing a socket with unread bytes would reset it, and lose our last words on the way.
    let mut unread = vec![0; READ_LEN];
    let drain = async { while stream.read(&mut unread).await.is_ok_and(|len| len > 0) {} };
    let _ = tokio::time::timeout(GOODBYE_TIMEOUT, drain).await;
}

#[derive(Default)]
struct Reader {
    records: RecordReader,
    frames: FrameReader,
    chunks: ChunkReader,
}

impl Reader {
    /// Acts on every record that is whole.
    async fn drain(&mut self, credit: &Semaphore, inbox: &Inbox) -> Result<(), LinkError> {
        while let Some(record) = self.records.poll().map_err(malformed)? {
            match record {
                Record::Control(bytes) => {
                    self.frames.push(bytes);
                    while let Some(message) = self.frames.poll().map_err(malformed)? {
                        if inbox.control.send(message).await.is_err() {
                            return Err(LinkError::closed(CloseCode::Done));
                        }
                    }
                }
                Record::Bulk(mut bytes) => {
                    while !bytes.is_empty() {
                        let chunk = self.chunks.push(&mut bytes).map_err(malformed)?;
                        let Some((header, bytes)) = chunk else {
                            continue;
                        };
                        // There is room for as many chunks as were granted.
                        let chunk = Chunk { header, bytes };
                        inbox
                            .chunks
                            .try_send(chunk)
                            .map_err(|_| malformed("chunk not granted"))?;
                    }
                }
                Record::Credit(chunks) => {
                    if credit.available_permits() + usize::from(chunks) > MAX_CREDIT {
                        return Err(malformed("too much credit"));
                    }
                    credit.add_permits(usize::from(chunks));
                }
                Record::Close(code) => {
                    return Err(CloseCode::from_number(code.into()).map_or_else(
                        || LinkError::Lost(format!("closed by peer with code {code}")),
                        LinkError::closed_by_peer,
                    ));
                }
            }
        }
        Ok(())
    }
}

fn malformed(error: impl std::fmt::Display) -> LinkError {
    tracing::warn!(%error, "peer sent malformed bytes");
    LinkError::closed(CloseCode::Malformed)
}

/// Bytes of a chunk in one record: what a heartbeat may have to wait for.
const PIECE_LEN: usize = 32 << 10;
/// Bytes read at once.
const READ_LEN: usize = 128 << 10;
/// More credit than any window.
const MAX_CREDIT: usize = 255;
/// Longest wait for the close code to leave.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
