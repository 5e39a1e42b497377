//! Who we are: our key and the certificate issued for it.

use std::fmt;
use std::sync::Arc;

use protocol::{Role, SiteId, Timestamp};
use rustls_pki_types::CertificateDer;

use crate::certificate::{Leaf, RENEWAL_LEFT};
use crate::error::Error;
use crate::key::{PrivateKey, PublicKey};
use crate::request::Request;

/// A member's own key and certificate. Clones share the key.
#[derive(Clone)]
pub struct Identity {
    key: Arc<PrivateKey>,
    certificate: CertificateDer<'static>,
    leaf: Leaf,
}

impl Identity {
    /// Puts a key and its certificate together.
    ///
    /// # Errors
    /// [`Error::Certificate`] if the certificate is for another key or cannot be read.
    pub fn new(key: Arc<PrivateKey>, certificate: CertificateDer<'static>) -> Result<Self, Error> {
        let leaf = Leaf::read(&certificate)?;
        if leaf.key != key.public() {
            return Err(Error::Certificate(
                "issued for another key than ours".to_owned(),
            ));
        }
        Ok(Self {
            key,
            certificate,
            leaf,
        })
    }

    /// The same key with a certificate that runs longer.
    ///
    /// # Errors
    /// As [`Self::new`], and [`Error::WrongHolder`] if it names anybody else.
    pub fn renewed(&self, certificate: CertificateDer<'static>) -> Result<Self, Error> {
        let renewed = Self::new(Arc::clone(&self.key), certificate)?;
        let (old, new) = (&self.leaf, &renewed.leaf);
        if (&old.consortium, old.role, &old.id) != (&new.consortium, new.role, &new.id) {
            return Err(Error::WrongHolder {
                id: new.id.clone(),
                role: new.role,
                expected: format!("{} {} of {}", old.role, old.id, old.consortium),
            });
        }
        Ok(renewed)
    }

    /// Our name.
    pub fn id(&self) -> &SiteId {
        &self.leaf.id
    }

    /// Our role.
    pub fn role(&self) -> Role {
        self.leaf.role
    }

    /// What our certificate says.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Our certificate, DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The key that verifies what we sign.
    pub fn public_key(&self) -> PublicKey {
        self.leaf.key
    }

    /// When our certificate runs out.
    pub fn expires(&self) -> Timestamp {
        self.leaf.not_after
    }

    /// Whether it is time to ask for a new certificate: a third of its life is left.
    pub fn renewal_due(&self, now: Timestamp) -> bool {
        self.leaf.not_after.since(now) <= RENEWAL_LEFT
    }

    /// A request for the next certificate, DER, for [`AuthorityHome::answer_renewal`].
    ///
    /// [`AuthorityHome::answer_renewal`]: crate::AuthorityHome::answer_renewal
    ///
    /// # Errors
    /// [`Error::Request`] if it cannot be encoded.
    pub fn renewal_request(&self) -> Result<Vec<u8>, Error> {
        Request::write_der(self.id(), &self.key)
    }

    /// Signs `message` for one purpose; see [`PublicKey::verify`].
    pub fn sign(&self, context: &str, message: &[u8]) -> [u8; PublicKey::SIGNATURE_LENGTH] {
        self.key.sign(context, message)
    }

    pub(crate) fn key(&self) -> &PrivateKey {
        &self.key
    }
}

/// Shows who, never the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("id", &self.leaf.id)
            .field("role", &self.leaf.role)
            .field("key", &self.leaf.key.fingerprint())
            .finish_non_exhaustive()
    }
}
