//! The approval: the one file a coordinator sends back to a site.

use std::path::Path;

use pkcs8::der::Document;
use pkcs8::der::pem::LineEnding;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::certificate::{Leaf, RootCertificate};
use crate::consortium::Consortium;
use crate::error::Error;
use crate::files;

/// What a site needs to take part: its certificate, the root, the consortium file.
///
/// Nothing in it is secret, and nothing in it is believed before the root is held against the
/// fingerprint that was told by another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The certificate issued for the site's key.
    pub certificate: CertificateDer<'static>,
    /// The root it chains to.
    pub root: RootCertificate,
    /// The newest consortium file, not yet checked against the root.
    pub consortium: Vec<u8>,
}

impl Approval {
    /// Longest approval, in bytes.
    pub const MAX_BYTES: usize = Consortium::MAX_BYTES + 16 * 1024;

    /// Writes the approval: two certificates in PEM, then the consortium file as it is.
    ///
    /// # Errors
    /// [`Error::Certificate`] if a certificate is not DER.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let leaf = certificate_pem(&self.certificate)?;
        let root = certificate_pem(self.root.der())?;
        Ok([leaf.as_bytes(), root.as_bytes(), &self.consortium].concat())
    }

    /// Reads an approval.
    ///
    /// # Errors
    /// [`Error::Certificate`] if a part is missing or malformed.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let refused = |what: &str| Error::Certificate(format!("approval: {what}"));
        if bytes.len() > Self::MAX_BYTES {
            return Err(refused("longer than any approval"));
        }
        let text = str::from_utf8(bytes).map_err(|_| refused("not UTF-8"))?;
        let start = text
            .find(Consortium::MAGIC)
            .ok_or_else(|| refused("without a consortium file"))?;
        let mut certificates = CertificateDer::pem_slice_iter(&bytes[..start]);
        let mut next = || {
            certificates
                .next()
                .and_then(Result::ok)
                .ok_or_else(|| refused("without the site's and the root's certificate"))
        };
        let certificate = next()?;
        // Whether it is for us is checked later; that it is a certificate of ours is checked here.
        Leaf::read(&certificate)?;
        Ok(Self {
            certificate,
            root: RootCertificate::from_der(next()?)?,
            consortium: bytes[start..].to_vec(),
        })
    }
}

pub(crate) fn certificate_pem(der: &CertificateDer<'_>) -> Result<String, Error> {
    Document::try_from(der.as_ref())
        .and_then(|document| document.to_pem("CERTIFICATE", LineEnding::LF))
        .map_err(|error| Error::Certificate(error.to_string()))
}

/// Reads the first certificate of a PEM file, without believing it.
///
/// # Errors
/// [`Error::File`] or [`Error::Certificate`], naming the file.
pub fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(&files::read(path)?)
        .map_err(|error| Error::Certificate(format!("{}: not PEM: {error}", path.display())))
}
