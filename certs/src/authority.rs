//! The certificate authority of one consortium: approves, renews, revokes.

use std::time::Duration;

use protocol::{ConsortiumId, Role, SiteId, Timestamp};
use rustls_pki_types::CertificateDer;

use crate::certificate::{self, CLOCK_SKEW, LEAF_LIFETIME, Leaf, RootCertificate};
use crate::consortium::{Consortium, Contents};
use crate::error::Error;
use crate::key::{PrivateKey, PublicKey};
use crate::member::{Member, Status};
use crate::request::Request;

/// The root key, its certificate and the newest consortium file.
///
/// Every change makes the next version of the consortium file; nothing of other members changes.
#[derive(Debug)]
pub struct Authority {
    key: PrivateKey,
    root: RootCertificate,
    consortium: Consortium,
}

impl Authority {
    /// Founds a consortium without members.
    ///
    /// # Errors
    /// [`Error`] if there is no randomness or something cannot be encoded.
    pub fn found(id: ConsortiumId, now: Timestamp) -> Result<Self, Error> {
        let key = PrivateKey::generate()?;
        let root = RootCertificate::found(&id, &key, now)?;
        let contents = Contents {
            id,
            version: 1,
            issued: now,
            members: Vec::new(),
        };
        let consortium = Consortium::sign(contents, &key)?;
        Ok(Self {
            key,
            root,
            consortium,
        })
    }

    /// Puts together what was stored.
    ///
    /// # Errors
    /// [`Error::Certificate`] if the key is not the root's.
    pub fn new(
        key: PrivateKey,
        root: RootCertificate,
        consortium: Consortium,
    ) -> Result<Self, Error> {
        if key.public() != root.key() {
            return Err(Error::Certificate(
                "root: of another key than the root key".to_owned(),
            ));
        }
        Ok(Self {
            key,
            root,
            consortium,
        })
    }

    /// The root certificate.
    pub fn root(&self) -> &RootCertificate {
        &self.root
    }

    /// The newest consortium file.
    pub fn consortium(&self) -> &Consortium {
        &self.consortium
    }

    /// Takes a member in and issues its first certificate.
    ///
    /// # Errors
    /// [`Error::AlreadyActive`] if the name is taken, [`Error::RevokedKey`] if the key was revoked.
    pub fn approve(
        &mut self,
        request: &Request,
        role: Role,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>, Error> {
        self.admit(request.id(), request.key(), role, now)
    }

    /// As [`Self::approve`], for a key that is at hand here: the coordinator's own.
    pub(crate) fn admit(
        &mut self,
        id: &SiteId,
        key: PublicKey,
        role: Role,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>, Error> {
        if let Some(holder) = self.consortium.holder(&key) {
            return Err(match holder.status {
                Status::Active => Error::AlreadyActive {
                    id: holder.id.clone(),
                },
                Status::Revoked => Error::RevokedKey {
                    id: holder.id.clone(),
                    key: key.fingerprint(),
                },
            });
        }
        if self.consortium.active(id).is_some() {
            return Err(Error::AlreadyActive { id: id.clone() });
        }
        let leaf = self.leaf(id, key, role, now);
        let certificate = certificate::issue(&leaf, &self.root, &self.key)?;
        let expires = leaf.not_after;
        let member = Member {
            id: id.clone(),
            role,
            key,
            status: Status::Active,
            expires,
        };
        self.change(now, |members| members.push(member))?;
        Ok(certificate)
    }

    /// Issues an active member's next certificate, for the key it has.
    ///
    /// # Errors
    /// [`Error::UnknownMember`] if there is no active member of that name.
    pub fn renew(&mut self, id: &SiteId, now: Timestamp) -> Result<CertificateDer<'static>, Error> {
        let Member { key, role, .. } = *self.active(id)?;
        let leaf = self.leaf(id, key, role, now);
        let certificate = certificate::issue(&leaf, &self.root, &self.key)?;
        self.change(now, |members| {
            for member in members.iter_mut().filter(|member| member.key == key) {
                member.expires = leaf.not_after;
            }
        })?;
        Ok(certificate)
    }

    /// Shuts an active member out, for good: the name can be approved again, the key cannot.
    ///
    /// # Errors
    /// [`Error::UnknownMember`] if there is no active member of that name.
    pub fn revoke(&mut self, id: &SiteId, now: Timestamp) -> Result<(), Error> {
        let key = self.active(id)?.key;
        self.change(now, |members| {
            for member in members.iter_mut().filter(|member| member.key == key) {
                member.status = Status::Revoked;
            }
        })
    }

    pub(crate) fn key(&self) -> &PrivateKey {
        &self.key
    }

    fn active(&self, id: &SiteId) -> Result<&Member, Error> {
        self.consortium
            .active(id)
            .ok_or_else(|| Error::UnknownMember { id: id.clone() })
    }

    fn leaf(&self, id: &SiteId, key: PublicKey, role: Role, now: Timestamp) -> Leaf {
        let whole_second = Timestamp(now.as_secs() * 1000);
        Leaf {
            consortium: self.consortium.id().clone(),
            role,
            id: id.clone(),
            key,
            not_before: earlier(whole_second, CLOCK_SKEW),
            not_after: whole_second + LEAF_LIFETIME,
        }
    }

    fn change(
        &mut self,
        now: Timestamp,
        change: impl FnOnce(&mut Vec<Member>),
    ) -> Result<(), Error> {
        let mut contents = self.consortium.next(now);
        change(&mut contents.members);
        self.consortium = Consortium::sign(contents, &self.key)?;
        Ok(())
    }
}

fn earlier(time: Timestamp, by: Duration) -> Timestamp {
    let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
    Timestamp(time.0.saturating_sub(millis))
}
