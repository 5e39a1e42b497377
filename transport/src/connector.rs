//! A site's end: finds a path to the coordinator, and keeps finding one.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use certs::{Identity, Trust, server_name, tls};
use quinn::{Endpoint, EndpointConfig};
use rustls::AlertDescription;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::time_provider::DefaultTimeProvider;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::{Config, PathChoice};
use crate::error::{ConnectError, SetupError};
use crate::link::{Handshake, Link, Path};
use crate::pipe::{Ending, Pipe};
use crate::quic::{self, QuicPipe};
use crate::tcp::{self, TcpPipe, proxy};
use crate::{clock, socket};

mod pace;

use pace::{Pace, Rest};

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
    pace: Mutex<Pace>,
    /// The last link of [`connect_until_done`](Self::connect_until_done): when it was made, and
    /// its end.
    last: Mutex<Option<(Instant, Ending)>>,
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
        let seconds = Duration::from_secs_f64;
        let pace = Pace::new(
            seconds(config.reconnect_base_seconds),
            seconds(config.reconnect_cap_seconds),
        );
        Ok(Self {
            target,
            config,
            trust,
            current,
            endpoint_v4,
            endpoint_v6,
            udp_blocked_until: Mutex::default(),
            pace: Mutex::new(pace),
            last: Mutex::default(),
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
                Err(error) if self.may_do_without_udp(&error) => {
                    tracing::info!(%error, "trying TCP");
                    let link = self.connect_tcp().await?;
                    *lock(&self.udp_blocked_until) = Some(Instant::now() + self.config.udp_retry());
                    Ok(link)
                }
                result => result,
            },
        }
    }

    /// Tries for ever, with growing random pauses. Every failure is logged.
    ///
    /// A link that it made before and that ended soon counts as a failure; what is soon, and what
    /// follows a link that was superseded, is in `docs/TRANSPORT.md`.
    pub async fn connect_until_done(&self) -> Link {
        let Rest {
            pause,
            is_superseded,
        } = self.rest();
        let retry_in_seconds = pause.as_secs_f64();
        if is_superseded {
            tracing::warn!(
                retry_in_seconds,
                "superseded: another process connected with this site's identity: a second `run`, \
                 `doctor`, or a copy of its directory"
            );
        } else if !pause.is_zero() {
            tracing::info!(retry_in_seconds, "the last connection did not last");
        }
        tokio::time::sleep(pause).await;
        loop {
            match self.connect().await {
                Ok(link) => {
                    *lock(&self.last) = Some((Instant::now(), link.ending()));
                    return link;
                }
                Err(error) => {
                    let pause = lock(&self.pace).after_failure(rand::random());
                    let retry_in_seconds = pause.as_secs_f64();
                    tracing::warn!(%error, retry_in_seconds, "no connection to the coordinator");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// A TCP connection to the coordinator, through the proxy if there is one, before any TLS: for
    /// looking at who answers.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn open_tcp(&self) -> Result<TcpStream, ConnectError> {
        let patience = self.config.handshake_timeout();
        timeout(patience, self.dial_tcp())
            .await
            .map_err(|_| timed_out(TCP, patience))?
    }

    /// Shows a renewed certificate from the next connection on.
    ///
    /// # Errors
    /// If the identity cannot be used.
    pub fn set_identity(&self, identity: Arc<Identity>) -> Result<(), SetupError> {
        let current = Current::new(identity, &self.trust, &self.config)?;
        *lock(&self.current) = current;
        Ok(())
    }

    /// What comes before the first try after the last link.
    fn rest(&self) -> Rest {
        let last = lock(&self.last).clone();
        let Some((start, ending)) = last else {
            return Rest {
                pause: Duration::ZERO,
                is_superseded: false,
            };
        };
        let (end, now) = (ending.get(), Instant::now());
        lock(&self.pace).after_link(start, end.as_ref(), now, rand::random())
    }

    /// Whether TCP may work where UDP failed like this.
    fn may_do_without_udp(&self, error: &ConnectError) -> bool {
        match error {
            // Silence: something on the way drops UDP.
            ConnectError::TimedOut { .. } => true,
            // A proxy resolves the name itself, where the hospital's own names are all there are.
            ConnectError::Resolve { .. } => self.config.proxy.is_some(),
            _ => false,
        }
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
                quinn::ConnectionError::TimedOut => timed_out(UDP, patience),
                quinn::ConnectionError::ConnectionClosed(close)
                    if u64::from(close.error_code) == NO_APPLICATION_PROTOCOL =>
                {
                    ConnectError::Version
                }
                error => failed(error.to_string()),
            })?;
            let (alpn, chain) = quic::handshake(&connection);
            let handshake = self.verify(Path::Quic, alpn.as_deref(), &chain, current.identity)?;
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
        timeout(patience, attempt)
            .await
            .map_err(|_| timed_out(UDP, patience))?
    }

    async fn connect_tcp(&self) -> Result<Link, ConnectError> {
        let failed = |reason: String| ConnectError::Failed { path: TCP, reason };
        let patience = self.config.handshake_timeout();
        let current = self.current();
        let attempt = async {
            let stream = self.dial_tcp().await?;
            let name = server_name(self.trust.consortium().id());
            let name = ServerName::try_from(name).map_err(|error| failed(error.to_string()))?;
            let connecting = TlsConnector::from(current.tls).connect(name, stream);
            let stream = connecting.await.map_err(|error| {
                let tls = error.get_ref().and_then(|error| error.downcast_ref());
                match tls {
                    Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
                        ConnectError::Version
                    }
                    _ => failed(error.to_string()),
                }
            })?;
            let (alpn, chain) = tcp::handshake(stream.get_ref().1);
            let handshake = self.verify(Path::Tcp, alpn, &chain, current.identity)?;
            let link = Link::start(handshake, &self.config, |inbox| {
                Pipe::Tcp(TcpPipe::start(stream, self.config.chunks_in_flight, inbox))
            });
            link.ready()
                .await
                .map_err(|error| failed(error.to_string()))?;
            Ok(link)
        };
        timeout(patience, attempt)
            .await
            .map_err(|_| timed_out(TCP, patience))?
    }

    async fn dial_tcp(&self) -> Result<TcpStream, ConnectError> {
        let failed = |error: std::io::Error| ConnectError::Failed {
            path: TCP,
            reason: error.to_string(),
        };
        let host = self.config.proxy.as_ref().unwrap_or(&self.target);
        let address = self.resolve(host).await?;
        let mut stream = TcpStream::connect(address).await.map_err(failed)?;
        socket::tune_tcp(&stream, &self.config).map_err(failed)?;
        if self.config.proxy.is_some() {
            proxy::connect(&mut stream, &self.target).await?;
        }
        Ok(stream)
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
        alpn: Option<&[u8]>,
        chain: &[CertificateDer<'static>],
        identity: Arc<Identity>,
    ) -> Result<Handshake, ConnectError> {
        let peer = self.trust.coordinator(chain, clock::now())?;
        let version = alpn.and_then(|alpn| self.config.versions.named(alpn));
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
        lock(&self.current).clone()
    }

    fn is_udp_blocked(&self) -> bool {
        lock(&self.udp_blocked_until).is_some_and(|until| Instant::now() < until)
    }
}

impl Current {
    fn new(identity: Arc<Identity>, trust: &Trust, config: &Config) -> Result<Self, SetupError> {
        let (clock, alpn) = (Arc::new(DefaultTimeProvider), config.versions.alpn());
        let tls = tls::client_config(&identity, trust, clock, alpn)?;
        let quic = quic::client_config(tls.clone(), config)?;
        Ok(Self {
            identity,
            tls: Arc::new(tls),
            quic,
        })
    }
}

fn timed_out(path: &'static str, patience: Duration) -> ConnectError {
    let seconds = patience.as_secs();
    ConnectError::TimedOut { path, seconds }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The TLS alert as an error code of QUIC (RFC 7301 section 3.2, RFC 9001 section 4.8).
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;
const UDP: &str = "UDP";
const TCP: &str = "TCP";
