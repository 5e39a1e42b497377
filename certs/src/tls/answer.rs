//! Who answers at an address: for `doctor`, which must tell a proxy that opens TLS from our
//! coordinator. Nothing is accepted and nothing is sent but a handshake.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Whoever answered a TLS handshake, by its own account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The certificates shown, the holder's first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Subject of the first certificate, as it names itself.
    pub subject: String,
    /// Issuer of the first certificate.
    pub issuer: String,
}

/// Starts a TLS 1.3 handshake over `stream`, notes who answers, and breaks it off.
///
/// Asks with every signature algorithm there is, for a proxy shows RSA where we only take Ed25519.
///
/// # Errors
/// If the stream breaks, or whoever answers does not speak TLS 1.3.
pub fn who_answers(
    stream: &mut (impl Read + Write),
    name: &str,
    alpn: Vec<Vec<u8>>,
) -> io::Result<Answer> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let shown = Arc::new(Shown::default());
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(io::Error::other)?
        .dangerous() // accepts nobody: it only looks
        .with_custom_certificate_verifier(Arc::clone(&shown) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = alpn;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let failed = match connection.complete_io(stream) {
        Ok(_) => io::Error::other("handshake went through without a certificate"),
        Err(error) => error,
    };
    let chain = std::mem::take(&mut *shown.0.lock().unwrap_or_else(PoisonError::into_inner));
    match chain.first().map(|first| X509Certificate::from_der(first)) {
        None => Err(failed),
        Some(Err(_)) => Err(io::Error::other("certificate shown is not DER")),
        Some(Ok((_, first))) => {
            let (subject, issuer) = (first.subject().to_string(), first.issuer().to_string());
            Ok(Answer {
                chain,
                subject,
                issuer,
            })
        }
    }
}

/// What was shown to the verifier that refuses everybody.
#[derive(Debug, Default)]
struct Shown(Mutex<Vec<CertificateDer<'static>>>);

impl ServerCertVerifier for Shown {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
