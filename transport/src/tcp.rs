//! The path over TLS over TCP: the same control channel and chunks, in records.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::CloseCode;
use protocol::codec::FrameReader;
use protocol::record::{ChunkReader, MAX_RECORD_LEN, Record, RecordReader};
use protocol::transfer::ChunkHeader;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::error::LinkError;
use crate::pipe::{CONTROL_QUEUE, Chunk, Control, Ending, Inbox};

mod credit;
pub(crate) mod proxy;

pub(crate) use credit::INITIAL_CREDIT;
use credit::{Credit, Grants};

/// One TLS connection.
#[derive(Debug)]
pub(crate) struct TcpPipe {
    pub(crate) control: mpsc::Sender<Control>,
    pub(crate) ending: Ending,
    bulk: mpsc::Sender<(ChunkHeader, Bytes)>,
    credit: Arc<Credit>,
    /// Told of each chunk that was taken.
    taken: mpsc::UnboundedSender<()>,
}

impl TcpPipe {
    /// Starts the tasks that move bytes. This end wants `window` chunks in flight, each way; its
    /// inbox has room for as many, and for the [`INITIAL_CREDIT`].
    pub(crate) fn start<S>(stream: S, window: u32, inbox: Inbox) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (control, frames) = mpsc::channel(CONTROL_QUEUE);
        let (bulk, chunks) = mpsc::channel(1);
        let (taken, took) = mpsc::unbounded_channel();
        let credit = Arc::new(Credit::new(window));
        let ending = inbox.ending.clone();
        let (inward, outward) = tokio::io::split(stream);
        let writer = Writer {
            stream: outward,
            buffer: Vec::new(),
            grants: Grants::new(window),
        };
        tokio::spawn(write(writer, frames, chunks, took, ending.clone()));
        tokio::spawn(read(inward, Arc::clone(&credit), inbox));
        Self {
            control,
            ending,
            bulk,
            credit,
            taken,
        }
    }

    pub(crate) async fn send_chunk(
        &self,
        header: ChunkHeader,
        bytes: Bytes,
    ) -> Result<(), LinkError> {
        let right = tokio::select! {
            right = self.credit.right() => right,
            error = self.ending.wait() => return Err(error),
        };
        // A send that is given up while it waits spends nothing.
        let Ok(place) = self.bulk.reserve().await else {
            return Err(self.ending.wait().await);
        };
        if let Some(right) = right {
            right.spend();
        }
        place.send((header, bytes));
        Ok(())
    }

    /// Waits until the peer took every chunk sent so far.
    pub(crate) async fn settle(&self) -> Result<(), LinkError> {
        tokio::select! {
            () = self.credit.settled() => Ok(()),
            error = self.ending.wait() => Err(error),
        }
    }

    pub(crate) fn took_chunk(&self) {
        let _ = self.taken.send(());
    }
}

/// The name of the version, and the peer's certificates, as the handshake gave them.
pub(crate) fn handshake(
    tls: &rustls::CommonState,
) -> (Option<&[u8]>, Vec<CertificateDer<'static>>) {
    let chain = tls.peer_certificates().map(|chain| {
        chain
            .iter()
            .map(|certificate| certificate.clone().into_owned())
            .collect()
    });
    (tls.alpn_protocol(), chain.unwrap_or_default())
}

/// Writes records; control first, then one record of a chunk at a time.
async fn write<S: AsyncWrite + Unpin>(
    mut writer: Writer<S>,
    mut frames: mpsc::Receiver<Control>,
    mut chunks: mpsc::Receiver<(ChunkHeader, Bytes)>,
    mut taken: mpsc::UnboundedReceiver<()>,
    ending: Ending,
) {
    let pump = async {
        let mut under_way: Option<Bytes> = None;
        loop {
            let next = tokio::select! {
                biased;
                Some(control) = frames.recv() => Next::Control(control),
                Some(()) = taken.recv() => Next::Grant,
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
                Next::Grant => {
                    let more = writer.grants.took();
                    writer.put(Record::Credit(more));
                }
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
    grants: Grants,
}

impl<S: AsyncWrite + Unpin> Writer<S> {
    fn put(&mut self, record: Record<'_>) {
        record.encode(&mut self.buffer);
    }

    /// Given up halfway it leaves in the buffer exactly what was not written: records that follow
    /// begin where the peer expects them.
    async fn flush(&mut self) -> std::io::Result<()> {
        while !self.buffer.is_empty() {
            let written = self.stream.write(&self.buffer).await?;
            if written == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            self.buffer.drain(..written);
        }
        self.stream.flush().await
    }
}

async fn read<S: AsyncRead + Unpin>(mut stream: S, credit: Arc<Credit>, inbox: Inbox) {
    let ending = inbox.ending.clone();
    let pump = async {
        let mut state = Reader {
            records: RecordReader::default(),
            frames: FrameReader::new(inbox.version),
            chunks: ChunkReader::default(),
        };
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

struct Reader {
    records: RecordReader,
    frames: FrameReader,
    chunks: ChunkReader,
}

impl Reader {
    /// Acts on every record that is whole.
    async fn drain(&mut self, credit: &Credit, inbox: &Inbox) -> Result<(), LinkError> {
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
                Record::Credit(chunks) => credit.granted(chunks).map_err(malformed)?,
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
/// Longest wait for the close code to leave.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use protocol::{Digest, Version};
    use tokio::io::duplex;

    use super::*;
    use crate::pipe::Heard;

    fn start(stream: tokio::io::DuplexStream, window: u32) -> (TcpPipe, mpsc::Receiver<Chunk>) {
        let (control, _) = mpsc::channel(1);
        let (chunks, arriving) = mpsc::channel(window.max(INITIAL_CREDIT) as usize);
        let inbox = Inbox {
            version: Version::NEWEST,
            control,
            chunks,
            heard: Heard::new(),
            ending: Ending::new(),
        };
        (TcpPipe::start(stream, window, inbox), arriving)
    }

    #[tokio::test]
    async fn a_close_code_comes_whole_after_a_frame_that_was_under_way() {
        let (near, mut far) = duplex(1 << 10);
        let (pipe, _arriving) = start(near, 1);
        let frame: Vec<u8> = (0..200_000_u32).map(|place| place as u8).collect();
        let control = Control::Frame(frame.clone().into());
        pipe.control.send(control).await.unwrap();
        let mut bytes = vec![0];
        far.read_exact(&mut bytes).await.unwrap();
        pipe.ending.set(LinkError::closed(CloseCode::NotMember));
        far.read_to_end(&mut bytes).await.unwrap();

        let mut records = RecordReader::default();
        records.push(&bytes);
        let (mut sent, mut close) = (Vec::new(), None);
        while let Some(record) = records.poll().unwrap() {
            match record {
                Record::Control(piece) => sent.extend_from_slice(piece),
                Record::Close(code) => close = Some(code),
                other => panic!("nothing else was sent: {other:?}"),
            }
        }
        assert_eq!(close, Some(CloseCode::NotMember.number()));
        assert!(sent == frame, "{} bytes", sent.len());
    }

    #[tokio::test]
    async fn ends_with_different_windows_take_each_others_chunks() {
        const CHUNKS: u32 = 200;
        for (ours, theirs) in [(3, 40), (40, 3), (255, 1), (1, 255)] {
            // Many small chunks come in one read: the receiver takes none of them in between.
            let (near, far) = duplex(64 << 10);
            let (sender, _arriving) = start(near, ours);
            let (receiver, mut arriving) = start(far, theirs);
            let send = async {
                for chunk in 0..CHUNKS {
                    let header = ChunkHeader {
                        blob: Digest::of(b"any"),
                        chunk: chunk.into(),
                        len: 1,
                    };
                    sender.send_chunk(header, Bytes::from_static(b"x")).await?;
                }
                sender.settle().await
            };
            let take = async {
                // Until the first is taken, the sender sends all that it may.
                for _ in 0..10 * CHUNKS {
                    tokio::task::yield_now().await;
                }
                for _ in 0..CHUNKS {
                    if arriving.recv().await.is_some() {
                        receiver.took_chunk();
                    }
                }
            };
            let (sent, ()) = tokio::join!(send, take);
            assert_eq!((sent, receiver.ending.get()), (Ok(()), None));
        }
    }
}
