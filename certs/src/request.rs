//! Requests: how a site asks for a certificate without its key ever leaving (PKCS#10, RFC 2986).

use protocol::SiteId;
use rcgen::{CertificateParams, CertificateSigningRequest, DistinguishedName, DnType};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use crate::error::Error;
use crate::key::{PrivateKey, PublicKey};

/// A certificate signing request: a name, a key, and the proof that the asker holds the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    id: SiteId,
    key: PublicKey,
}

impl Request {
    /// Longest request, in bytes.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// Writes a request for `id`, PEM.
    ///
    /// # Errors
    /// [`Error::Request`] if it cannot be encoded.
    pub fn write(id: &SiteId, key: &PrivateKey) -> Result<String, Error> {
        encode(id, key)?.pem().map_err(not_made)
    }

    /// Writes a request for `id`, DER: asks for a renewal over a connection.
    pub(crate) fn write_der(id: &SiteId, key: &PrivateKey) -> Result<Vec<u8>, Error> {
        Ok(encode(id, key)?.der().to_vec())
    }

    /// Reads a request, PEM, and checks that it is signed by the key it asks for.
    ///
    /// # Errors
    /// [`Error::Request`], naming the rule broken.
    pub fn read(pem: &[u8]) -> Result<Self, Error> {
        within_limit(pem)?;
        let der = CertificateSigningRequestDer::from_pem_slice(pem)
            .map_err(|error| Error::Request(format!("not PEM: {error}")))?;
        Self::read_der(&der)
    }

    /// Reads a request, DER; as [`Self::read`].
    ///
    /// # Errors
    /// [`Error::Request`], naming the rule broken.
    pub fn read_der(der: &[u8]) -> Result<Self, Error> {
        let refused = |rule: &str| Error::Request(rule.to_owned());
        within_limit(der)?;
        let (rest, request) = X509CertificationRequest::from_der(der)
            .map_err(|_| refused("not DER of a certificate signing request"))?;
        if !rest.is_empty() {
            return Err(refused("bytes after its end"));
        }
        let info = &request.certification_request_info;
        let key = PublicKey::from_spki(info.subject_pki.raw)?;
        // The parser is lenient about the part that no signature covers, so that is compared as it is.
        let signature = der
            .len()
            .checked_sub(PublicKey::SIGNATURE_LENGTH)
            .filter(|start| der[..*start].ends_with(&SIGNATURE_PREFIX))
            .map(|start| &der[start..])
            .ok_or_else(|| refused("its signature is not of Ed25519"))?;
        key.verify_raw(info.raw, signature)
            .map_err(|_| refused("not signed by the key it asks for"))?;
        let mut names = info.subject.iter_common_name();
        let (Some(name), None) = (names.next(), names.next()) else {
            return Err(refused("not exactly one common name"));
        };
        let id = name
            .as_str()
            .map_err(|_| refused("its common name is not text"))?
            .parse()
            .map_err(|error: protocol::ids::NameError| Error::Request(error.to_string()))?;
        Ok(Self { id, key })
    }

    /// The name asked for.
    pub fn id(&self) -> &SiteId {
        &self.id
    }

    /// The key asked for.
    pub fn key(&self) -> PublicKey {
        self.key
    }
}

fn encode(id: &SiteId, key: &PrivateKey) -> Result<CertificateSigningRequest, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, id.as_str());
    params.serialize_request(key).map_err(not_made)
}

fn within_limit(bytes: &[u8]) -> Result<(), Error> {
    let (found, limit) = (bytes.len(), Request::MAX_BYTES);
    if found <= limit {
        return Ok(());
    }
    Err(Error::Request(format!(
        "{found} bytes, expected at most {limit}"
    )))
}

fn not_made(error: rcgen::Error) -> Error {
    Error::Request(format!("cannot be made: {error}"))
}

/// `SEQUENCE { OID 1.3.101.112 }, BIT STRING (512 bits)` up to the signature itself (RFC 8410).
const SIGNATURE_PREFIX: [u8; 10] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x41, 0x00];
