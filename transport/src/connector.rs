//! A site's end: finds a path to the coordinator, and keeps finding one.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use certs::{Identity, Trust, server_name, tls};
use protocol::Version;
use quinn::{Endpoint, EndpointConfig};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::time_provider::DefaultTimeProvider;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::backoff::Backoff;
use crate::config::{Config, PathChoice};
use crate::error::{ConnectError, SetupError};
use crate::link::{Handshake, Link, Path};
use crate::pipe::Pipe;
use crate::quic::{self, QuicPipe};
use crate::tcp::{self, TcpPipe, proxy};
use crate::{clock, socket};

/// Makes links to one coordinator.
#[derive(Debug)]
pub struct Connector {
    /// Where the coordinator listens, as `host:port`.
    target: String,
    config: Config,
    trust: Trust,
    current: Mutex<Current>,
    endpoint_v4: Endpoint,
    endpoint_v6: Option<Endpoint>,
    /// Until when UDP is not tried.
    udp_blocked_until: Mutex<Option<Instant>>,
}

/// The certificate shown to the coordinator.
#[derive(Clone, Debug)]
struct Current {
    identity: Arc<Identity>,
    tls: Arc<rustls::ClientConfig>,
    quic: quinn::ClientConfig,
}

impl Connector {
    /// Prepares connections to the coordinator at `target`, written `host:port`.
    ///
    /// # Errors
    /// If a setting is out of bounds, no socket can be made, or the identity cannot be used.
    pub fn new(
        target: impl Into<String>,
        config: Config,
        identity: Arc<Identity>,
        trust: Trust,
    ) -> Result<Self, SetupError> {
        config.check()?;
        let current = Mutex::new(Current::new(identity, &trust, &config)?);
        let any_v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let any_v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let endpoint_v4 = quic::endpoint(
            socket::udp(any_v4, &config)?,
            EndpointConfig::default(),
            None,
        )?;
        // A machine without IPv6 has no such socket.
        let endpoint_v6 = socket::udp(any_v6, &config)
            .and_then(|socket| quic::endpoint(socket, EndpointConfig::default(), None))
            .ok();
        let target = target.into();
        let udp_blocked_until = Mutex::new(None);
        Ok(Self {
            target,
            config,
            trust,
            current,
            endpoint_v4,
            endpoint_v6,
            udp_blocked_until,
        })
    }

    /// Tries once, over the path or paths that the configuration allows.
    ///
    /// # Errors
    /// Why there is no link; of the last path tried.
    pub async fn connect(&self) -> Result<Link, ConnectError> {
        match self.config.path {
            PathChoice::Quic => self.connect_quic(self.config.handshake_timeout()).await,
            PathChoice::Tcp => self.connect_tcp().await,
            PathChoice::Auto if self.is_udp_blocked() => self.connect_tcp().await,
            PathChoice::Auto => match self.connect_quic(self.config.fallback_after()).await {
                // Silence: something on the way drops UDP.
                Err(error @ ConnectError::TimedOut { .. }) => {
                    tracing::info!(%error, "trying TCP");
                    let link = self.connect_tcp().await?;
                    *self.blocked() = Some(Instant::now() + self.config.udp_retry());
                    Ok(link)
                }
                result => result,
            },
        }
    }

    /// Tries for ever, with growing random pauses. Every failure is logged.
    pub async fn connect_until_done(&self) -> Link {
        let seconds = Duration::from_secs_f64;
        let base = seconds(self.config.reconnect_base_seconds);
        let mut backoff = Backoff::new(base, seconds(self.config.reconnect_cap_seconds));
        loop {
            match self.connect().await {
                Ok(link) => return link,
                Err(error) => {
                    let pause = backoff.next(rand::random());
                    let retry_in_seconds = pause.as_secs_f64();
                    tracing::warn!(%error, retry_in_seconds, "no connection to the coordinator");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Shows a renewed certificate from the next connection on.
    ///
    /// # Errors
    /// If the identity cannot be used.
    pub fn set_identity(&self, identity: Arc<Identity>) -> Result<(), SetupError> {
        let current = Current::new(identity, &self.trust, &self.config)?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(())
    }

    async fn connect_quic(&self, patience: Duration) -> Result<Link, ConnectError> {
        let failed = |reason: String| ConnectError::Failed { path: UDP, reason };
        let current = self.current();
        let attempt = async {
            let address = self.resolve(&self.target).await?;
            let endpoint = match (address, &self.endpoint_v6) {
                (SocketAddr::V6(_), Some(endpoint)) => endpoint,
                _ => &self.endpoint_v4,
            };
            let name = server_name(self.trust.consortium().id());
            let connection = endpoint
                .connect_with(current.quic, address, &name)
                .map_err(|error| failed(error.to_string()))?;
            let connection = connection.await.map_err(|error| match error {
                quinn::ConnectionError::TimedOut => ConnectError::TimedOut {
                    path: UDP,
                    seconds: patience.as_secs(),
                },
                error => failed(error.to_string()),
            })?;
            let (version, chain) = quic::handshake(&connection);
            let handshake = self.verify(Path::Quic, version, &chain, current.identity)?;
            let control = connection
                .open_bi()
                .await
                .map_err(|error| failed(error.to_string()))?;
            let link = Link::start(handshake, &self.config, |inbox| {
                Pipe::Quic(QuicPipe::start(connection, control, inbox))
            });
            // The coordinator checks our certificate after our side of the handshake is done.
            link.ready()
                .await
                .map_err(|error| failed(error.to_string()))?;
            Ok(link)
        };
        let timed_out = |_| ConnectError::TimedOut {
            path: UDP,
            seconds: patience.as_secs(),
        };
        timeout(patience, attempt).await.map_err(timed_out)?
    }

    async fn connect_tcp(&self) -> Result<Link, ConnectError> {
        let failed = |reason: String| ConnectError::Failed { path: TCP, reason };
        let patience = self.config.handshake_timeout();
        let current = self.current();
        let attempt = async {
            let mut stream = self.open_tcp().await?;
            socket::tune_tcp(&stream, &self.config).map_err(|error| failed(error.to_string()))?;
            if self.config.proxy.is_some() {
                proxy::connect(&mut stream, &self.target).await?;
            }
            let name = server_name(self.trust.consortium().id());
            let name = ServerName::try_from(name).map_err(|error| failed(error.to_string()))?;
            let connecting = TlsConnector::from(current.tls).connect(name, stream);
            let stream = connecting
                .await
                .map_err(|error| failed(error.to_string()))?;
            let (version, chain) = tcp::handshake(stream.get_ref().1);
            let handshake = self.verify(Path::Tcp, version, &chain, current.identity)?;
            let link = Link::start(handshake, &self.config, |inbox| {
                Pipe::Tcp(TcpPipe::start(stream, self.config.chunks_in_flight, inbox))
            });
            link.ready()
                .await
                .map_err(|error| failed(error.to_string()))?;
            Ok(link)
        };
        let timed_out = |_| ConnectError::TimedOut {
            path: TCP,
            seconds: patience.as_secs(),
        };
        timeout(patience, attempt).await.map_err(timed_out)?
    }

    async fn open_tcp(&self) -> Result<TcpStream, ConnectError> {
        let host = self.config.proxy.as_ref().unwrap_or(&self.target);
        let address = self.resolve(host).await?;
        TcpStream::connect(address)
            .await
            .map_err(|error| ConnectError::Failed {
                path: TCP,
                reason: error.to_string(),
            })
    }

    /// The first address of a name, IPv4 before IPv6 where there is no IPv6 socket.
    async fn resolve(&self, host: &str) -> Result<SocketAddr, ConnectError> {
        let failed = |source| ConnectError::Resolve {
            host: host.to_owned(),
            source,
        };
        let addresses: Vec<_> = tokio::net::lookup_host(host)
            .await
            .map_err(failed)?
            .collect();
        let usable = |address: &&SocketAddr| address.is_ipv4() || self.endpoint_v6.is_some();
        let none = || failed(std::io::Error::from(std::io::ErrorKind::NotFound));
        addresses.iter().find(usable).copied().ok_or_else(none)
    }

    fn verify(
        &self,
        path: Path,
        version: Option<Version>,
        chain: &[CertificateDer<'static>],
        identity: Arc<Identity>,
    ) -> Result<Handshake, ConnectError> {
        let peer = self.trust.coordinator(chain, clock::now())?;
        let version = version.ok_or(ConnectError::Version)?;
        Ok(Handshake {
            peer,
            version,
            path,
            identity,
            trust: self.trust.clone(),
            permit: None,
        })
    }

    fn current(&self) -> Current {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn blocked(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.udp_blocked_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn is_udp_blocked(&self) -> bool {
        self.blocked().is_some_and(|until| Instant::now() < until)
    }
}

impl Current {
    fn new(identity: Arc<Identity>, trust: &Trust, config: &Config) -> Result<Self, SetupError> {
        let alpn: Vec<_> = Version::spoken().map(Version::alpn).collect();
        let tls = tls::client_config(&identity, trust, Arc::new(DefaultTimeProvider), &alpn)?;
        let quic = quic::client_config(tls.clone(), config)?;
        Ok(Self {
            identity,
            tls: Arc::new(tls),
            quic,
        })
    }
}

const UDP: &str = "UDP";
const TCP: &str = "TCP";
