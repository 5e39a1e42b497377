//! Clients that do not keep the rules: they say what they want, with whatever they have.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use certs::{Identity, Trust, server_name, tls};
use protocol::{Message, Spoken, Version, codec};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::time_provider::DefaultTimeProvider;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Flaw;

#[derive(Clone, Copy, Debug)]
pub(super) enum Path {
    Quic,
    Tcp,
}

/// A peer with a flaw that tries to say something.
pub(super) struct Attempt<'a> {
    pub(super) flaw: Flaw,
    pub(super) identity: &'a Identity,
    pub(super) path: Path,
    pub(super) trust: &'a Trust,
}

impl Attempt<'_> {
    /// Says `message`; whether it was refused: by an end of the connection before any answer.
    pub(super) async fn say(&self, address: SocketAddr, message: &Message) -> bool {
        let frame = codec::encode(message, Version::NEWEST).expect("a message fits a frame");
        match self.path {
            Path::Quic => self.say_over_quic(address, &frame).await,
            Path::Tcp => self.say_over_tcp(address, &frame).await.is_err(),
        }
    }

    async fn say_over_quic(&self, address: SocketAddr, frame: &[u8]) -> bool {
        let crypto = QuicClientConfig::try_from(self.config()).expect("TLS 1.3");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let endpoint = quinn::Endpoint::client(any).expect("a socket");
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let connecting = endpoint
            .connect_with(config, address, &self.name())
            .expect("a name");
        let Ok(connection) = connecting.await else {
            return true;
        };
        // A TLS 1.3 client is done before the server has looked at its certificate.
        if let Ok((mut stream, _)) = connection.open_bi().await {
            let _ = stream.write_all(frame).await;
        }
        // TLS alerts are transport errors of QUIC (RFC 9001 section 4.8); an application that
        // closes would have let us in first.
        let closed = connection.closed().await;
        matches!(closed, quinn::ConnectionError::ConnectionClosed(_))
    }

    async fn say_over_tcp(&self, address: SocketAddr, frame: &[u8]) -> std::io::Result<u8> {
        let name = ServerName::try_from(self.name()).expect("a name");
        let stream = TcpStream::connect(address).await?;
        let connector = TlsConnector::from(Arc::new(self.config()));
        let mut stream = connector.connect(name, stream).await?;
        stream.write_all(frame).await?;
        stream.read_u8().await
    }

    fn config(&self) -> ClientConfig {
        let alpn = match self.flaw {
            Flaw::WrongAlpn => vec![b"fmct/0".to_vec()],
            _ => Spoken::default().alpn(),
        };
        let clock = Arc::new(DefaultTimeProvider);
        let mut config =
            tls::client_config(self.identity, self.trust, clock, alpn).expect("a usable key");
        if self.flaw == Flaw::NoCertificate {
            config.client_auth_cert_resolver = bare();
        }
        config
    }

    fn name(&self) -> String {
        match self.flaw {
            Flaw::ServerNameMismatch => "fl.example.org".to_owned(),
            _ => server_name(self.trust.consortium().id()),
        }
    }
}

/// What a client without a certificate shows.
fn bare() -> Arc<dyn rustls::client::ResolvesClientCert> {
    ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
        .client_auth_cert_resolver
}
