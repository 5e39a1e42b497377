//! The path over QUIC: one bidirectional control stream, one unidirectional stream for each chunk.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use bytes::Bytes;
use protocol::CloseCode;
use protocol::codec::FrameReader;
use protocol::transfer::ChunkHeader;
use quinn::congestion::{BbrConfig, CubicConfig};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{
    Connection, ConnectionError, Endpoint, EndpointConfig, IdleTimeout, RecvStream, SendStream,
    TokioRuntime, TransportConfig, VarInt,
};
use rustls::pki_types::CertificateDer;
use tokio::sync::mpsc;

use crate::config::{Config, Congestion};
use crate::error::{LinkError, SetupError};
use crate::link::Packets;
use crate::pipe::{CONTROL_QUEUE, Chunk, Control, Ending, Inbox};
use crate::socket::MIB;

/// One QUIC connection.
#[derive(Debug)]
pub(crate) struct QuicPipe {
    connection: Connection,
    pub(crate) control: mpsc::Sender<Control>,
    pub(crate) ending: Ending,
}

impl QuicPipe {
    /// Starts the tasks that move bytes; `control` is the first bidirectional stream.
    pub(crate) fn start(
        connection: Connection,
        control: (SendStream, RecvStream),
        inbox: Inbox,
    ) -> Self {
        let (sender, queue) = mpsc::channel(CONTROL_QUEUE);
        let ending = inbox.ending.clone();
        let (outward, inward) = control;
        tokio::spawn(write_control(outward, queue));
        tokio::spawn(read_control(connection.clone(), inward, inbox.clone()));
        tokio::spawn(accept_chunks(connection.clone(), inbox));
        tokio::spawn(watch_end(connection.clone(), ending.clone()));
        Self {
            connection,
            control: sender,
            ending,
        }
    }

    pub(crate) async fn send_chunk(
        &self,
        header: ChunkHeader,
        bytes: Bytes,
    ) -> Result<(), LinkError> {
        match self.write_chunk(header, bytes).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.ending.wait().await),
        }
    }

    /// As [`send_chunk`](Self::send_chunk), and waits until all of it is acknowledged.
    pub(crate) async fn deliver_chunk(
        &self,
        header: ChunkHeader,
        bytes: Bytes,
    ) -> Result<(), LinkError> {
        let delivered = async {
            let stream = self.write_chunk(header, bytes).await?;
            stream.stopped().await.map_err(io::Error::from)
        };
        match delivered.await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.ending.wait().await),
        }
    }

    async fn write_chunk(&self, header: ChunkHeader, bytes: Bytes) -> io::Result<SendStream> {
        let mut stream = self.connection.open_uni().await?;
        let _ = stream.set_priority(BULK_PRIORITY);
        let mut parts = [Bytes::copy_from_slice(&header.encode()), bytes];
        stream
            .write_all_chunks(&mut parts)
            .await
            .map_err(io::Error::from)?;
        let _ = stream.finish();
        Ok(stream)
    }

    pub(crate) fn packets(&self) -> Packets {
        let path = self.connection.stats().path;
        Packets {
            sent: path.sent_packets,
            lost: path.lost_packets,
        }
    }

    pub(crate) fn close(&self, code: CloseCode) {
        self.connection.close(VarInt::from_u32(code.number()), b"");
    }
}

/// The name of the version, and the peer's certificates, as the handshake gave them.
pub(crate) fn handshake(
    connection: &Connection,
) -> (Option<Vec<u8>>, Vec<CertificateDer<'static>>) {
    let data = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok());
    let alpn = data.and_then(|data| data.protocol);
    let chain = connection
        .peer_identity()
        .and_then(|chain| chain.downcast().ok());
    (alpn, chain.map_or_else(Vec::new, |chain| *chain))
}

/// An endpoint on `socket`; it accepts connections if `server` is given.
pub(crate) fn endpoint(
    socket: UdpSocket,
    config: EndpointConfig,
    server: Option<quinn::ServerConfig>,
) -> Result<Endpoint, SetupError> {
    Endpoint::new(config, server, socket, Arc::new(TokioRuntime)).map_err(|source| {
        SetupError::Socket {
            what: "UDP endpoint".to_owned(),
            source,
        }
    })
}

pub(crate) fn server_config(
    tls: rustls::ServerConfig,
    config: &Config,
) -> Result<quinn::ServerConfig, SetupError> {
    let crypto =
        QuicServerConfig::try_from(tls).map_err(|error| SetupError::Quic(error.to_string()))?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    server
        .transport_config(Arc::new(transport_config(config)))
        .migration(true)
        .max_incoming(4 * config.max_handshakes as usize)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFERS);
    Ok(server)
}

pub(crate) fn client_config(
    tls: rustls::ClientConfig,
    config: &Config,
) -> Result<quinn::ClientConfig, SetupError> {
    let crypto =
        QuicClientConfig::try_from(tls).map_err(|error| SetupError::Quic(error.to_string()))?;
    let mut client = quinn::ClientConfig::new(Arc::new(crypto));
    client.transport_config(Arc::new(transport_config(config)));
    Ok(client)
}

fn transport_config(config: &Config) -> TransportConfig {
    let window = |mib: u32| VarInt::from_u32(mib * MIB as u32);
    let idle = IdleTimeout::try_from(config.idle_timeout()).ok();
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(config.chunks_in_flight))
        .stream_receive_window(window(config.stream_window_mib))
        .receive_window(window(config.connection_window_mib))
        .send_window(u64::from(config.send_window_mib) * MIB as u64)
        // One chunk after the other, so that a cut loses few unfinished ones.
        .send_fairness(false)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(idle)
        .keep_alive_interval(Some(config.idle_timeout() / 4))
        .enable_segmentation_offload(config.segmentation_offload);
    match config.congestion {
        Congestion::Cubic => {
            transport.congestion_controller_factory(Arc::new(CubicConfig::default()))
        }
        Congestion::Bbr => transport.congestion_controller_factory(Arc::new(BbrConfig::default())),
    };
    transport
}

async fn write_control(mut stream: SendStream, mut queue: mpsc::Receiver<Control>) {
    let _ = stream.set_priority(CONTROL_PRIORITY);
    while let Some(control) = queue.recv().await {
        match control {
            Control::Frame(frame) => {
                if stream.write_chunk(frame).await.is_err() {
                    return;
                }
            }
            Control::Flush(done) => {
                let _ = stream.finish();
                let _ = stream.stopped().await;
                let _ = done.send(());
                return;
            }
        }
    }
}

async fn read_control(connection: Connection, mut stream: RecvStream, inbox: Inbox) {
    let mut frames = FrameReader::new(inbox.version);
    while let Ok(Some(read)) = stream.read_chunk(READ_LEN, true).await {
        inbox.heard.now();
        frames.push(&read.bytes);
        loop {
            match frames.poll() {
                Ok(None) => break,
                Ok(Some(message)) => {
                    if inbox.control.send(message).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "peer sent malformed bytes");
                    return malformed(&connection, &inbox);
                }
            }
        }
    }
}

/// Takes chunks in. A stream is read once there is room for its chunk; until then its bytes wait in
/// the connection's window, and the peer cannot open more streams than allowed.
async fn accept_chunks(connection: Connection, inbox: Inbox) {
    while let Ok(stream) = connection.accept_uni().await {
        let Ok(room) = inbox.chunks.clone().reserve_owned().await else {
            return;
        };
        let (connection, inbox) = (connection.clone(), inbox.clone());
        tokio::spawn(async move {
            match read_chunk(stream, &inbox).await {
                Ok(Some(chunk)) => drop(room.send(chunk)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "peer sent a malformed chunk");
                    malformed(&connection, &inbox);
                }
            }
        });
    }
}

/// `None` if the stream broke.
async fn read_chunk(
    mut stream: RecvStream,
    inbox: &Inbox,
) -> Result<Option<Chunk>, protocol::transfer::ChunkHeaderError> {
    let mut header = [0; ChunkHeader::LEN];
    if stream.read_exact(&mut header).await.is_err() {
        return Ok(None);
    }
    let header = ChunkHeader::decode(&header)?;
    let mut bytes = Vec::with_capacity(header.len as usize);
    while bytes.len() < header.len as usize {
        let missing = header.len as usize - bytes.len();
        match stream.read_chunk(missing, true).await {
            Ok(Some(read)) => bytes.extend_from_slice(&read.bytes),
            _ => return Ok(None),
        }
        inbox.heard.now();
    }
    Ok(Some(Chunk { header, bytes }))
}

async fn watch_end(connection: Connection, ending: Ending) {
    ending.set(match connection.closed().await {
        ConnectionError::ApplicationClosed(close) => {
            CloseCode::from_number(close.error_code.into_inner()).map_or_else(
                || LinkError::Lost(close.to_string()),
                LinkError::closed_by_peer,
            )
        }
        error => LinkError::Lost(error.to_string()),
    });
}

fn malformed(connection: &Connection, inbox: &Inbox) {
    inbox.ending.set(LinkError::closed(CloseCode::Malformed));
    connection.close(VarInt::from_u32(CloseCode::Malformed.number()), b"");
}

/// Address of a local endpoint.
pub(crate) fn local_addr(endpoint: &Endpoint) -> Result<SocketAddr, SetupError> {
    let failed = |source| SetupError::Socket {
        what: "UDP address".to_owned(),
        source,
    };
    endpoint.local_addr().map_err(failed)
}

const CONTROL_PRIORITY: i32 = 1;
const BULK_PRIORITY: i32 = 0;
/// Bytes read from the control stream at once.
const READ_LEN: usize = 64 << 10;
/// Bytes one handshake may hold before it is accepted, and all together.
const INCOMING_BUFFER: u64 = 64 << 10;
const INCOMING_BUFFERS: u64 = 16 << 20;
