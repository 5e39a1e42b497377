//! TLS 1.3 with both ends' certificates, as QUIC and the TCP fallback use it.
//!
//! Only TLS 1.3, only Ed25519 certificates, the post-quantum hybrid X25519MLKEM768 before X25519,
//! no 0-RTT (it can be replayed), no session tickets (they would outlive a revocation).

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::error::Error;
use crate::identity::Identity;
use crate::peer::Refusal;
use crate::time::from_unix_time;
use crate::trust::Trust;

mod answer;

pub use answer::{Answer, who_answers};

/// The only signatures we make or accept.
pub(crate) static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[webpki::aws_lc_rs::ED25519],
    mapping: &[(SignatureScheme::ED25519, &[webpki::aws_lc_rs::ED25519])],
};

/// The coordinator's end: requires a certificate of a member, and verifies it with `trust`.
///
/// `alpn` lists the protocol versions spoken here, the preferred first. `clock` tells the time that
/// certificates are held against; a service passes rustls's `DefaultTimeProvider`.
///
/// # Errors
/// [`Error::Tls`] if rustls refuses the key.
pub fn server_config(
    identity: &Identity,
    trust: &Trust,
    clock: Arc<dyn TimeProvider>,
    alpn: Vec<Vec<u8>>,
) -> Result<ServerConfig, Error> {
    let verifier = MemberVerifier {
        trust: trust.clone(),
        hints: Vec::new(),
    };
    let mut config = ServerConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified_key(identity)?)));
    config.alpn_protocols = alpn;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// A site's end: shows `identity`, and accepts nobody but the coordinator `trust` knows.
///
/// Connect with the name [`server_name`](crate::server_name) makes of the consortium, whatever host
/// is dialed: the certificate follows the consortium, not the machine.
///
/// # Errors
/// [`Error::Tls`] if rustls refuses the key.
pub fn client_config(
    identity: &Identity,
    trust: &Trust,
    clock: Arc<dyn TimeProvider>,
    alpn: Vec<Vec<u8>>,
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&TLS13])?
        .dangerous() // rustls's word for any verifier but its own; ours is `Trust::coordinator`
        .with_custom_certificate_verifier(Arc::new(CoordinatorVerifier {
            trust: trust.clone(),
        }))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified_key(identity)?)));
    config.alpn_protocols = alpn;
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// The cryptography of both ends: aws-lc-rs, narrowed to what the crate documentation promises.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519],
        signature_verification_algorithms: SIGNATURES,
        ..aws_lc_rs::default_provider()
    })
}

fn certified_key(identity: &Identity) -> Result<CertifiedKey, Error> {
    let key = aws_lc_rs::sign::any_eddsa_type(&identity.key().for_rustls())?;
    Ok(CertifiedKey::new(vec![identity.certificate().clone()], key))
}

/// What the server holds clients against.
#[derive(Debug)]
struct MemberVerifier {
    trust: Trust,
    /// Empty: a peer without our certificate learns nothing about us.
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for MemberVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let chain = chain(end_entity, intermediates);
        self.trust
            .client(&chain, from_unix_time(now))
            .map(|_peer| ClientCertVerified::assertion())
            .map_err(rejection)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &SIGNATURES)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &SIGNATURES)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.supported_schemes()
    }
}

/// What a site holds the server against.
#[derive(Debug)]
struct CoordinatorVerifier {
    trust: Trust,
}

impl ServerCertVerifier for CoordinatorVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = chain(end_entity, intermediates);
        self.trust
            .server(&chain, server_name, from_unix_time(now))
            .map(|_peer| ServerCertVerified::assertion())
            .map_err(rejection)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &SIGNATURES)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &SIGNATURES)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.supported_schemes()
    }
}

fn chain<'a>(
    end_entity: &CertificateDer<'a>,
    intermediates: &[CertificateDer<'a>],
) -> Vec<CertificateDer<'a>> {
    std::iter::once(end_entity)
        .chain(intermediates)
        .cloned()
        .collect()
}

/// Chooses the TLS alert that tells the peer what it may know: expired, revoked, or just no.
fn rejection(refusal: Refusal) -> rustls::Error {
    let error = match &refusal {
        Refusal::Expired(_) => CertificateError::Expired,
        Refusal::NotYetValid(_) => CertificateError::NotValidYet,
        Refusal::Revoked { .. } => CertificateError::Revoked,
        Refusal::Purpose => CertificateError::InvalidPurpose,
        Refusal::ServerName(_) => CertificateError::NotValidForName,
        Refusal::UnknownIssuer => CertificateError::UnknownIssuer,
        _ => CertificateError::Other(OtherError(Arc::new(refusal))),
    };
    rustls::Error::InvalidCertificate(error)
}
