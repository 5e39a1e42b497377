//! A member's directory: its key, its certificate, the root, the newest consortium file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::{SiteId, Timestamp};
use rustls_pki_types::CertificateDer;

use crate::approval::{Approval, certificate_pem, read_certificate};
use crate::certificate::{Leaf, RootCertificate};
use crate::consortium::Consortium;
use crate::error::Error;
use crate::files;
use crate::fingerprint::Pin;
use crate::identity::Identity;
use crate::key::PrivateKey;
use crate::key_file::{self, Passphrase};
use crate::request::Request;
use crate::trust::Trust;

/// A member's directory.
///
/// | file | what |
/// |---|---|
/// | `key.pem` | private key, mode 0600; never overwritten, never leaves |
/// | `request.pem` | certificate signing request, to be sent to the coordinator |
/// | `root.pin` | the root's fingerprint, as it was told |
/// | `certificate.pem` | our certificate |
/// | `root.pem` | the root certificate |
/// | `consortium.fmct` | the newest consortium file seen |
#[derive(Clone, Debug)]
pub struct Home {
    dir: PathBuf,
}

impl Home {
    /// Uses `dir`, which need not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Makes a key and a request for `id`, and remembers which root to expect. The key is written
    /// last: where it lies, the rest does; what was cut short before can be done again.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is a key already; then nothing changes.
    pub fn enroll(
        &self,
        id: &SiteId,
        root: &Pin,
        passphrase: Option<&Passphrase>,
    ) -> Result<Request, Error> {
        files::must_not_exist(&self.key_path())?;
        files::create_dir(&self.dir)?;
        let key = PrivateKey::generate()?;
        let request = Request::write(id, &key)?;
        files::replace(&self.request_path(), request.as_bytes())?;
        files::replace(&self.dir.join(PIN), format!("{root}\n").as_bytes())?;
        key_file::create(&self.key_path(), &key, passphrase)?;
        Request::read(request.as_bytes())
    }

    /// Takes the coordinator's answer to our request, after checking it against what was told.
    ///
    /// # Errors
    /// [`Error::Root`] if the root is another than the pinned one, [`Error::WrongHolder`] or
    /// [`Error::Certificate`] if the certificate is not for us, [`Error::Unacceptable`] if we
    /// ourselves would refuse it, [`Error::Consortium`] if the consortium file is older than ours.
    pub fn accept(&self, approval: &Approval, now: Timestamp) -> Result<Leaf, Error> {
        let told: Pin = String::from_utf8_lossy(&files::read(&self.dir.join(PIN))?).parse()?;
        let found = approval.root.fingerprint();
        if !told.matches(&found) {
            return Err(Error::Root { found, told });
        }
        let request = Request::read(&files::read(&self.request_path())?)?;
        let leaf = Leaf::read(&approval.certificate)?;
        if leaf.id != *request.id() {
            let expected = format!("the name {}", request.id());
            return Err(Error::WrongHolder {
                id: leaf.id,
                role: leaf.role,
                expected,
            });
        }
        if leaf.key != request.key() {
            return Err(Error::Certificate(
                "issued for another key than ours".to_owned(),
            ));
        }
        let consortium = Consortium::read(&approval.consortium, &approval.root.key())?;
        if let Ok(seen) = files::read(&self.consortium_path()) {
            Consortium::read(&seen, &approval.root.key())?.accepts(&consortium)?;
        }
        let trust = Trust::new(approval.root.clone(), consortium)?;
        trust.client(std::slice::from_ref(&approval.certificate), now)?;
        self.store(&approval.root, &trust.consortium())?;
        self.store_certificate(&approval.certificate)?;
        Ok(leaf)
    }

    /// Takes a renewed certificate that came over the connection, and keeps it.
    ///
    /// # Errors
    /// As [`Identity::renewed`], and [`Error::Unacceptable`] if we ourselves would refuse it.
    pub fn renew(
        &self,
        identity: &Identity,
        trust: &Trust,
        certificate: Vec<u8>,
        now: Timestamp,
    ) -> Result<Identity, Error> {
        let renewed = identity.renewed(CertificateDer::from(certificate))?;
        trust.client(std::slice::from_ref(renewed.certificate()), now)?;
        self.store_certificate(renewed.certificate())?;
        Ok(renewed)
    }

    /// Loads who we are and whom we trust.
    ///
    /// # Errors
    /// [`Error`], naming the file and the rule it breaks.
    pub fn open(&self, passphrase: Option<&Passphrase>) -> Result<(Identity, Trust), Error> {
        let key = key_file::read(&self.key_path(), passphrase)?;
        let identity = Identity::new(Arc::new(key), read_certificate(&self.certificate_path())?)?;
        Ok((identity, self.trust()?))
    }

    /// Loads whom we trust; needs no key.
    ///
    /// # Errors
    /// [`Error`], naming the file and the rule it breaks.
    pub fn trust(&self) -> Result<Trust, Error> {
        let root = RootCertificate::from_der(read_certificate(&self.dir.join(ROOT))?)?;
        let file = files::read(&self.consortium_path())?;
        let consortium = Consortium::read(&file, &root.key())?;
        Trust::new(root, consortium)
    }

    /// Keeps a newer consortium file, so that an older one is refused after a restart as well.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn store_consortium(&self, consortium: &Consortium) -> Result<(), Error> {
        files::replace(&self.consortium_path(), consortium.as_bytes())
    }

    /// Keeps a renewed certificate.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn store_certificate(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        files::replace(
            &self.certificate_path(),
            certificate_pem(certificate)?.as_bytes(),
        )
    }

    pub(crate) fn store(
        &self,
        root: &RootCertificate,
        consortium: &Consortium,
    ) -> Result<(), Error> {
        files::replace(
            &self.dir.join(ROOT),
            certificate_pem(root.der())?.as_bytes(),
        )?;
        self.store_consortium(consortium)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The private key.
    pub fn key_path(&self) -> PathBuf {
        self.dir.join("key.pem")
    }

    /// The request to be sent to the coordinator.
    pub fn request_path(&self) -> PathBuf {
        self.dir.join("request.pem")
    }

    /// Our certificate.
    pub fn certificate_path(&self) -> PathBuf {
        self.dir.join("certificate.pem")
    }

    /// The newest consortium file seen.
    pub fn consortium_path(&self) -> PathBuf {
        self.dir.join("consortium.fmct")
    }
}

const PIN: &str = "root.pin";
const ROOT: &str = "root.pem";
