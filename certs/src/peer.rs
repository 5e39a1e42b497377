//! Peers: from a certificate chain to somebody we know, or a refusal.

use protocol::{ConsortiumId, Role, SiteId, Timestamp};

use crate::key::PublicKey;
use crate::time::Bound;

/// A peer whose certificate, key and membership were verified.
///
/// Only [`Trust::client`](crate::Trust::client) and
/// [`Trust::coordinator`](crate::Trust::coordinator) make one, and there is no other way to get a
/// name and a role off a connection: no message says who it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPeer {
    pub(crate) id: SiteId,
    pub(crate) role: Role,
    pub(crate) key: PublicKey,
    pub(crate) not_after: Timestamp,
}

impl VerifiedPeer {
    /// Who it is.
    pub fn id(&self) -> &SiteId {
        &self.id
    }

    /// What it may do.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The key it proved to hold; verifies what it signs.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// When its certificate runs out.
    pub fn expires(&self) -> Timestamp {
        self.not_after
    }
}

/// Why a peer is not let in. It is the peer's fault, and never ends a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More than the one certificate that the root signs directly.
    #[error("certificate chain: {found} certificates, expected 1")]
    ChainLength {
        /// Certificates found.
        found: usize,
    },
    /// Not DER, or not one of our certificates.
    #[error("certificate: malformed")]
    Encoding,
    /// Its time is over.
    #[error("certificate: expired {0}")]
    Expired(Bound),
    /// Its time has not come, or our clock is slow.
    #[error("certificate: not valid before {0}")]
    NotYetValid(Bound),
    /// The key is in no consortium file we have seen.
    #[error("key: not listed in the consortium file, version {version}")]
    NotListed {
        /// Version of our consortium file.
        version: u64,
    },
    /// Of another consortium.
    #[error("certificate: of consortium {found}, expected {expected}")]
    OtherConsortium {
        /// Name in the certificate.
        found: ConsortiumId,
        /// Our consortium.
        expected: ConsortiumId,
    },
    /// Not allowed for this end of a connection.
    #[error("certificate: not issued for this purpose")]
    Purpose,
    /// The key was revoked.
    #[error("key: revoked in the consortium file, version {version}")]
    Revoked {
        /// Version of our consortium file.
        version: u64,
    },
    /// Certificate and consortium file name different holders.
    #[error(
        "certificate: issued to {found_role} {found}, but its key is listed for {listed_role} {listed}"
    )]
    Holder {
        /// Name in the certificate.
        found: SiteId,
        /// Role in the certificate.
        found_role: Role,
        /// Name in the consortium file.
        listed: SiteId,
        /// Role in the consortium file.
        listed_role: Role,
    },
    /// The server is somebody else than the coordinator.
    #[error("server: is {0}, expected coordinator")]
    NotCoordinator(Role),
    /// The certificate does not carry the name that was asked for.
    #[error("certificate: not issued for the name {0:?}")]
    ServerName(String),
    /// Not signed by our root.
    #[error("certificate: not signed by the consortium's root")]
    UnknownIssuer,
}
