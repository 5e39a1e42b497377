//! What this process believes about the consortium, shared by all its connections.

use std::sync::{Arc, PoisonError, RwLock};

use protocol::{Role, Timestamp};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::certificate::{Leaf, RootCertificate};
use crate::consortium::Consortium;
use crate::error::{ConsortiumError, Error};
use crate::member::{Status, server_name};
use crate::peer::{Refusal, VerifiedPeer};
use crate::time::{Bound, from_unix_time, unix_time};
use crate::tls;

/// The pinned root and the newest consortium file seen. Clones share both.
#[derive(Clone, Debug)]
pub struct Trust(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: RootCertificate,
    anchor: TrustAnchor<'static>,
    newest: RwLock<Arc<Consortium>>,
}

impl Trust {
    /// Trusts `root` and everyone `consortium`, which `root` signed, lists as active.
    ///
    /// # Errors
    /// [`Error::Certificate`] if the root cannot serve as one, [`Error::Consortium`] if the file is
    /// not signed by it.
    pub fn new(root: RootCertificate, consortium: Consortium) -> Result<Self, Error> {
        let consortium = Consortium::read(consortium.as_bytes(), &root.key())?;
        let anchor = webpki::anchor_from_trusted_cert(root.der())
            .map_err(|error| Error::Certificate(format!("root: {error}")))?
            .to_owned();
        Ok(Self(Arc::new(Inner {
            root,
            anchor,
            newest: RwLock::new(Arc::new(consortium)),
        })))
    }

    /// The root certificate.
    pub fn root(&self) -> &RootCertificate {
        &self.0.root
    }

    /// The newest consortium file seen.
    pub fn consortium(&self) -> Arc<Consortium> {
        Arc::clone(&self.0.newest.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Believes a newer consortium file from now on; `true` if it was not known yet.
    ///
    /// # Errors
    /// [`ConsortiumError`] if the root did not sign it, or an older one is offered.
    pub fn update(&self, file: &[u8]) -> Result<bool, ConsortiumError> {
        let offered = Consortium::read(file, &self.0.root.key())?;
        let mut newest = self
            .0
            .newest
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        newest.accepts(&offered)?;
        let is_new = offered.version() > newest.version();
        *newest = Arc::new(offered);
        Ok(is_new)
    }

    /// Verifies whoever connected to us: `chain` is what TLS says the peer proved to own.
    ///
    /// # Errors
    /// [`Refusal`], saying why this peer is not let in.
    pub fn client(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<VerifiedPeer, Refusal> {
        self.verify(chain, KeyUsage::client_auth(), now)
            .map(|(peer, _)| peer)
    }

    /// Verifies the coordinator we connected to: `chain` is what TLS says it proved to own. How long
    /// is for its certificate to say, not for the consortium file, which may be older than it.
    ///
    /// # Errors
    /// [`Refusal`], saying why it is not our coordinator.
    pub fn coordinator(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<VerifiedPeer, Refusal> {
        let name = server_name(self.consortium().id());
        let name = ServerName::try_from(name).map_err(|_| Refusal::Encoding)?;
        self.server(chain, &name, now)
    }

    /// As [`Self::coordinator`], for the name that the connection asked for.
    pub(crate) fn server(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: Timestamp,
    ) -> Result<VerifiedPeer, Refusal> {
        let (peer, certificate) = self.verify(chain, KeyUsage::server_auth(), now)?;
        if certificate.verify_is_valid_for_subject_name(name).is_err() {
            return Err(Refusal::ServerName(name.to_str().into_owned()));
        }
        match peer.role {
            Role::Coordinator => Ok(peer),
            other => Err(Refusal::NotCoordinator(other)),
        }
    }

    /// Checks a peer again, against the newest consortium file: at each heartbeat, at each round.
    ///
    /// # Errors
    /// [`Refusal::Expired`], [`Refusal::Revoked`] and their like, if it must be cut off.
    pub fn check(&self, peer: &VerifiedPeer, now: Timestamp) -> Result<(), Refusal> {
        if now > peer.not_after {
            return Err(Refusal::Expired(Bound {
                now,
                bound: peer.not_after,
            }));
        }
        self.check_membership(peer, now)
    }

    fn verify<'a>(
        &self,
        chain: &'a [CertificateDer<'_>],
        usage: KeyUsage,
        now: Timestamp,
    ) -> Result<(VerifiedPeer, EndEntityCert<'a>), Refusal> {
        let [der] = chain else {
            return Err(Refusal::ChainLength { found: chain.len() });
        };
        let certificate = EndEntityCert::try_from(der).map_err(|_| Refusal::Encoding)?;
        certificate
            .verify_for_usage(
                tls::SIGNATURES.all,
                std::slice::from_ref(&self.0.anchor),
                &[],
                unix_time(now),
                usage,
                None,
                None,
            )
            .map_err(|error| refusal(&error, now))?;
        let leaf = Leaf::read(der).map_err(|_| Refusal::Encoding)?;
        let consortium = self.consortium();
        if leaf.consortium != *consortium.id() {
            let (found, expected) = (leaf.consortium, consortium.id().clone());
            return Err(Refusal::OtherConsortium { found, expected });
        }
        let Leaf {
            id,
            role,
            key,
            not_after,
            ..
        } = leaf;
        let peer = VerifiedPeer {
            id,
            role,
            key,
            not_after,
        };
        self.check_membership(&peer, now)?;
        Ok((peer, certificate))
    }

    fn check_membership(&self, peer: &VerifiedPeer, now: Timestamp) -> Result<(), Refusal> {
        let consortium = self.consortium();
        let version = consortium.version();
        let member = consortium
            .holder(&peer.key)
            .ok_or(Refusal::NotListed { version })?;
        if member.status == Status::Revoked {
            return Err(Refusal::Revoked { version });
        }
        if (&member.id, member.role) != (&peer.id, peer.role) {
            return Err(Refusal::Holder {
                found: peer.id.clone(),
                found_role: peer.role,
                listed: member.id.clone(),
                listed_role: member.role,
            });
        }
        // The coordinator's next certificate is ahead of the file that tells of it: a site gets newer
        // files from the coordinator only. Its own time, checked by the callers, decides.
        if peer.role != Role::Coordinator && now > member.expires {
            return Err(Refusal::Expired(Bound {
                now,
                bound: member.expires,
            }));
        }
        Ok(())
    }
}

fn refusal(error: &webpki::Error, now: Timestamp) -> Refusal {
    let bound = |time: &UnixTime| Bound {
        now,
        bound: from_unix_time(*time),
    };
    match error {
        webpki::Error::CertExpired { not_after, .. } => Refusal::Expired(bound(not_after)),
        webpki::Error::CertNotValidYet { not_before, .. } => {
            Refusal::NotYetValid(bound(not_before))
        }
        webpki::Error::RequiredEkuNotFoundContext(_) => Refusal::Purpose,
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            Refusal::UnknownIssuer
        }
        _ => Refusal::Encoding,
    }
}
