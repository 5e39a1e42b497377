//! The coordinator's end: one port, UDP and TCP, for every site.

use std::net::SocketAddr;
use std::sync::Arc;

use certs::{Identity, Trust, tls};
use quinn::{Endpoint, Incoming};
use rustls::time_provider::DefaultTimeProvider;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::config::Config;
use crate::error::SetupError;
use crate::link::{Handshake, Link, Path};
use crate::pipe::Pipe;
use crate::quic::{self, QuicPipe};
use crate::tcp::{self, TcpPipe};
use crate::{clock, reset, socket};

mod handshakes;

use handshakes::Handshakes;

/// Accepts links. Dropped, it accepts no more; the links it gave live on.
#[derive(Debug)]
pub struct Listener {
    links: mpsc::Receiver<Link>,
    address: SocketAddr,
    endpoint: Endpoint,
    config: Arc<Config>,
    trust: Trust,
    current: watch::Sender<Current>,
    _tasks: JoinSet<()>,
}

/// The certificate shown to new connections.
#[derive(Clone, Debug)]
struct Current {
    identity: Arc<Identity>,
    tls: Arc<rustls::ServerConfig>,
}

impl Listener {
    /// Listens on `address`, UDP and TCP; port 0 means any port that is free for both.
    ///
    /// # Errors
    /// If a setting is out of bounds, the address is taken, or the identity cannot be used.
    pub async fn bind(
        address: SocketAddr,
        config: Config,
        identity: Arc<Identity>,
        trust: Trust,
    ) -> Result<Self, SetupError> {
        config.check()?;
        let endpoint_config = reset::endpoint_config(&identity);
        let current = Current {
            tls: Arc::new(tls_config(&identity, &trust, &config)?),
            identity,
        };
        let (udp, tcp) = bind_both(address, &config).await?;
        let server = quic::server_config((*current.tls).clone(), &config)?;
        let endpoint = quic::endpoint(udp, endpoint_config, Some(server))?;
        let address = quic::local_addr(&endpoint)?;
        let (deliver, links) = mpsc::channel(ACCEPT_QUEUE);
        let current = watch::Sender::new(current);
        let gate = Gate {
            connections: Arc::new(Semaphore::new(config.max_connections as usize)),
            config: Arc::new(config),
            trust: trust.clone(),
            current: current.subscribe(),
            deliver,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(accept_quic(endpoint.clone(), gate.clone()));
        let config = Arc::clone(&gate.config);
        tasks.spawn(accept_tcp(tcp, gate));
        Ok(Self {
            links,
            address,
            endpoint,
            config,
            trust,
            current,
            _tasks: tasks,
        })
    }

    /// The next peer that was let in.
    pub async fn accept(&mut self) -> Link {
        match self.links.recv().await {
            Some(link) => link,
            // The tasks end with the listener, so this one waits for its own end.
            None => std::future::pending().await,
        }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Shows a renewed certificate to connections from now on.
    ///
    /// # Errors
    /// If the identity cannot be used.
    pub fn set_identity(&self, identity: Arc<Identity>) -> Result<(), SetupError> {
        let tls = Arc::new(tls_config(&identity, &self.trust, &self.config)?);
        let server = quic::server_config((*tls).clone(), &self.config)?;
        self.endpoint.set_server_config(Some(server));
        self.current.send_replace(Current { identity, tls });
        Ok(())
    }
}

fn tls_config(
    identity: &Identity,
    trust: &Trust,
    config: &Config,
) -> Result<rustls::ServerConfig, SetupError> {
    let (clock, alpn) = (Arc::new(DefaultTimeProvider), config.versions.alpn());
    Ok(tls::server_config(identity, trust, clock, alpn)?)
}

async fn bind_both(
    address: SocketAddr,
    config: &Config,
) -> Result<(std::net::UdpSocket, TcpListener), SetupError> {
    let failed = |source| SetupError::Socket {
        what: format!("TCP, {address}"),
        source,
    };
    for attempt in 1.. {
        let udp = socket::udp(address, config)?;
        let port = udp.local_addr().map_err(failed)?.port();
        match TcpListener::bind(SocketAddr::new(address.ip(), port)).await {
            Ok(tcp) => return Ok((udp, tcp)),
            // A port that is free for UDP only: take another.
            Err(_) if address.port() == 0 && attempt < PORT_ATTEMPTS => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(std::io::ErrorKind::AddrInUse.into()))
}

/// What a new connection has to pass.
#[derive(Clone)]
struct Gate {
    config: Arc<Config>,
    trust: Trust,
    current: watch::Receiver<Current>,
    connections: Arc<Semaphore>,
    deliver: mpsc::Sender<Link>,
}

impl Gate {
    /// Verifies the peer, again: what TLS let in must also have a name.
    fn admit(
        &self,
        path: Path,
        alpn: Option<&[u8]>,
        chain: &[rustls::pki_types::CertificateDer<'static>],
        identity: Arc<Identity>,
        permit: OwnedSemaphorePermit,
    ) -> Option<Handshake> {
        let peer = match self.trust.client(chain, clock::now()) {
            Ok(peer) => peer,
            Err(refusal) => {
                tracing::warn!(%refusal, "peer not let in");
                return None;
            }
        };
        let trust = self.trust.clone();
        let permit = Some(permit);
        let version = self.config.versions.named(alpn?)?;
        Some(Handshake {
            peer,
            version,
            path,
            identity,
            trust,
            permit,
        })
    }
}

async fn accept_quic(endpoint: Endpoint, gate: Gate) {
    let handshakes = Handshakes::new(gate.config.max_handshakes);
    while let Some(incoming) = endpoint.accept().await {
        let is_proven = incoming.remote_address_validated();
        // Under load a peer must first show that it can receive at its address.
        if handshakes.are_for_proven() && incoming.may_retry() && !is_proven {
            let _ = incoming.retry();
            continue;
        }
        // An address that is not proven may be anybody's, so nothing is held against it.
        let address = is_proven.then(|| incoming.remote_address().ip());
        let Some(handshake) = handshakes.begin(address) else {
            // Silence rather than refusal: an honest peer sends its first packet again.
            incoming.ignore();
            continue;
        };
        let Ok(connection) = Arc::clone(&gate.connections).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let gate = gate.clone();
        tokio::spawn(async move {
            let remote = incoming.remote_address();
            let patience = gate.config.handshake_timeout();
            let link = match timeout(patience, shake_quic(incoming, &gate, connection)).await {
                Ok(Ok(link)) => link,
                Ok(Err(error)) => return tracing::debug!(%remote, error, "handshake failed"),
                Err(_) => return tracing::debug!(%remote, "handshake timed out"),
            };
            drop(handshake);
            let _ = gate.deliver.send(link).await;
        });
    }
}

async fn shake_quic(
    incoming: Incoming,
    gate: &Gate,
    permit: OwnedSemaphorePermit,
) -> Result<Link, String> {
    let identity = Arc::clone(&gate.current.borrow().identity);
    let connection = incoming.await.map_err(|error| error.to_string())?;
    let (alpn, chain) = quic::handshake(&connection);
    let handshake = gate
        .admit(Path::Quic, alpn.as_deref(), &chain, identity, permit)
        .ok_or_else(|| "not let in".to_owned())?;
    let control = connection
        .accept_bi()
        .await
        .map_err(|error| error.to_string())?;
    Ok(Link::start(handshake, &gate.config, |inbox| {
        Pipe::Quic(QuicPipe::start(connection, control, inbox))
    }))
}

async fn accept_tcp(listener: TcpListener, gate: Gate) {
    let handshakes = Handshakes::new(gate.config.max_handshakes);
    loop {
        // No more handshakes than allowed: the others wait in the kernel's queue.
        handshakes.room().await;
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, as a rule: give it time.
                tracing::warn!(%error, "no connection accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(handshake) = handshakes.begin(Some(remote.ip())) else {
            continue;
        };
        let Ok(connection) = Arc::clone(&gate.connections).try_acquire_owned() else {
            continue;
        };
        let gate = gate.clone();
        tokio::spawn(async move {
            let patience = gate.config.handshake_timeout();
            let link = match timeout(patience, shake_tcp(stream, &gate, connection)).await {
                Ok(Ok(link)) => link,
                Ok(Err(error)) => return tracing::debug!(%remote, error, "handshake failed"),
                Err(_) => return tracing::debug!(%remote, "handshake timed out"),
            };
            drop(handshake);
            let _ = gate.deliver.send(link).await;
        });
    }
}

async fn shake_tcp(
    stream: TcpStream,
    gate: &Gate,
    permit: OwnedSemaphorePermit,
) -> Result<Link, String> {
    let Current { identity, tls } = gate.current.borrow().clone();
    socket::tune_tcp(&stream, &gate.config).map_err(|error| error.to_string())?;
    let stream = TlsAcceptor::from(tls)
        .accept(stream)
        .await
        .map_err(|error| error.to_string())?;
    let (alpn, chain) = tcp::handshake(stream.get_ref().1);
    let handshake = gate
        .admit(Path::Tcp, alpn, &chain, identity, permit)
        .ok_or_else(|| "not let in".to_owned())?;
    let window = gate.config.chunks_in_flight;
    Ok(Link::start(handshake, &gate.config, |inbox| {
        Pipe::Tcp(TcpPipe::start(stream, window, inbox))
    }))
}

/// Links that may wait to be accepted.
const ACCEPT_QUEUE: usize = 16;
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
/// Ports tried until one is free for UDP and TCP.
const PORT_ATTEMPTS: u32 = 20;
