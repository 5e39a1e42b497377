//! The coordinator's directory: a member's, and the root key.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use protocol::{ConsortiumId, Role, SiteId, Timestamp};
use rustls_pki_types::CertificateDer;

use crate::approval::Approval;
use crate::authority::Authority;
use crate::certificate::{Leaf, RENEWAL_LEFT};
use crate::consortium::Consortium;
use crate::error::Error;
use crate::files;
use crate::home::Home;
use crate::key::PrivateKey;
use crate::key_file::{self, Passphrase};
use crate::peer::VerifiedPeer;
use crate::request::Request;

/// The coordinator's directory: a [`Home`], with these besides.
///
/// | file | what |
/// |---|---|
/// | `root-key.pem` | the consortium's root key, mode 0600; never overwritten |
/// | `approvals/NAME.fmct` | what to send to the member of that name |
/// | `lock` | held while the consortium file changes |
#[derive(Clone, Debug)]
pub struct AuthorityHome {
    home: Home,
}

impl AuthorityHome {
    /// Uses `dir`, which need not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            home: Home::new(dir),
        }
    }

    /// Founds a consortium: root key, root certificate, coordinator's key and certificate,
    /// consortium file. The keys are written last: where one lies, the rest does; what was cut short
    /// before can be done again.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is a root key or a member's key already; then nothing changes.
    pub fn found(
        &self,
        id: ConsortiumId,
        coordinator: &SiteId,
        passphrase: Option<&Passphrase>,
        now: Timestamp,
    ) -> Result<Authority, Error> {
        files::must_not_exist(&self.root_key_path())?;
        files::must_not_exist(&self.home.key_path())?;
        files::create_dir(&self.home.dir().join(APPROVALS))?;
        let mut authority = Authority::found(id, now)?;
        let key = PrivateKey::generate()?;
        let certificate = authority.admit(coordinator, key.public(), Role::Coordinator, now)?;
        self.home.store(authority.root(), authority.consortium())?;
        self.home.store_certificate(&certificate)?;
        key_file::create(&self.home.key_path(), &key, passphrase)?;
        let created = key_file::create(&self.root_key_path(), authority.key(), passphrase);
        if let Err(error) = created {
            // Nobody has seen this key yet, and left behind it would refuse the next attempt.
            let _ = std::fs::remove_file(self.home.key_path());
            return Err(error);
        }
        Ok(authority)
    }

    /// Loads the authority, to look at it.
    ///
    /// # Errors
    /// [`Error`], naming the file and the rule it breaks.
    pub fn open(&self, passphrase: Option<&Passphrase>) -> Result<Authority, Error> {
        let key = key_file::read(&self.root_key_path(), passphrase)?;
        let trust = self.home.trust()?;
        Authority::new(
            key,
            trust.root().clone(),
            trust.consortium().as_ref().clone(),
        )
    }

    /// Takes a member in; returns the file to send to it.
    ///
    /// # Errors
    /// As [`Authority::approve`], and [`Error::File`].
    pub fn approve(
        &self,
        request: &Request,
        role: Role,
        passphrase: Option<&Passphrase>,
        now: Timestamp,
    ) -> Result<PathBuf, Error> {
        let (certificate, authority) = self.change(passphrase, |authority| {
            authority.approve(request, role, now)
        })?;
        let path = self.approval_path(request.id());
        files::replace(&path, &approval(certificate, &authority).to_bytes()?)?;
        Ok(path)
    }

    /// Issues an active member's next certificate; ours is put in place at once.
    ///
    /// # Errors
    /// As [`Authority::renew`], and [`Error::File`].
    pub fn renew(
        &self,
        id: &SiteId,
        passphrase: Option<&Passphrase>,
        now: Timestamp,
    ) -> Result<Approval, Error> {
        self.renew_where(id, passphrase, now, |_| true)
    }

    /// As [`Self::renew`], if `due` says so of when the member's newest certificate runs out.
    fn renew_where(
        &self,
        id: &SiteId,
        passphrase: Option<&Passphrase>,
        now: Timestamp,
        due: impl FnOnce(Timestamp) -> bool,
    ) -> Result<Approval, Error> {
        let (certificate, authority) = self.change(passphrase, |authority| {
            let expires = listed(authority.consortium(), id)?;
            if due(expires) {
                authority.renew(id, now)
            } else {
                let id = id.clone();
                Err(Error::NotDue { id, expires })
            }
        })?;
        let holder = authority.consortium().active(id);
        if holder.is_some_and(|member| member.role == Role::Coordinator) {
            self.home.store_certificate(&certificate)?;
        }
        let approval = approval(certificate, &authority);
        files::replace(&self.approval_path(id), &approval.to_bytes()?)?;
        Ok(approval)
    }

    /// Answers a renewal asked for over a connection: for the peer that asks, and for its own key.
    /// However often it asks, a certificate is issued when the last one is due; a peer that was given
    /// its next one already, and does not show it, is given that one again.
    ///
    /// # Errors
    /// [`Error::NotItsRequest`] if the request is for anybody else, [`Error::NotDue`] if it is too
    /// early; else as [`Self::renew`].
    pub fn answer_renewal(
        &self,
        peer: &VerifiedPeer,
        request: &[u8],
        passphrase: Option<&Passphrase>,
        now: Timestamp,
    ) -> Result<Approval, Error> {
        let request = Request::read_der(request)?;
        if (request.id(), request.key()) != (peer.id(), peer.key()) {
            return Err(Error::NotItsRequest {
                id: peer.id().clone(),
            });
        }
        let id = peer.id();
        let due = |expires: Timestamp| expires.since(now) <= RENEWAL_LEFT + EARLY;
        // Looked at before the root key is opened, which takes long where it is encrypted.
        let mut expires = listed(&self.home.trust()?.consortium(), id)?;
        if due(expires) {
            match self.renew_where(id, passphrase, now, due) {
                // The same peer asked twice at once.
                Err(Error::NotDue { expires: later, .. }) => expires = later,
                renewed => return renewed,
            }
        }
        if peer.expires() >= expires {
            let id = id.clone();
            return Err(Error::NotDue { id, expires });
        }
        match self.issued(peer) {
            Some(approval) => Ok(approval),
            // Somebody has tidied up.
            None => self.renew(id, passphrase, now),
        }
    }

    /// What was issued to a peer last, if that is here still.
    fn issued(&self, peer: &VerifiedPeer) -> Option<Approval> {
        let bytes = files::read(&self.approval_path(peer.id())).ok()?;
        let approval = Approval::read(&bytes).ok()?;
        let leaf = Leaf::read(&approval.certificate).ok()?;
        (leaf.key == peer.key() && leaf.not_after > peer.expires()).then_some(approval)
    }

    /// Shuts a member out for good; returns the version of the consortium file that says so.
    ///
    /// # Errors
    /// As [`Authority::revoke`], and [`Error::File`].
    pub fn revoke(
        &self,
        id: &SiteId,
        passphrase: Option<&Passphrase>,
        now: Timestamp,
    ) -> Result<u64, Error> {
        let ((), authority) = self.change(passphrase, |authority| authority.revoke(id, now))?;
        Ok(authority.consortium().version())
    }

    /// One change at a time; the new consortium file is kept before anybody sees it.
    fn change<T>(
        &self,
        passphrase: Option<&Passphrase>,
        change: impl FnOnce(&mut Authority) -> Result<T, Error>,
    ) -> Result<(T, Authority), Error> {
        let path = self.home.dir().join("lock");
        let lock = File::create(&path).map_err(|source| files::failed("created", &path, source))?;
        lock.lock()
            .map_err(|source| files::failed("locked", &path, source))?;
        let mut authority = self.open(passphrase)?;
        let result = change(&mut authority)?;
        self.home.store_consortium(authority.consortium())?;
        Ok((result, authority))
    }

    /// The coordinator's own part of the directory.
    pub fn home(&self) -> &Home {
        &self.home
    }

    fn approval_path(&self, id: &SiteId) -> PathBuf {
        self.home.dir().join(APPROVALS).join(format!("{id}.fmct"))
    }

    fn root_key_path(&self) -> PathBuf {
        self.home.dir().join("root-key.pem")
    }
}

/// When an active member's newest certificate runs out.
fn listed(consortium: &Consortium, id: &SiteId) -> Result<Timestamp, Error> {
    let member = consortium.active(id);
    member
        .map(|member| member.expires)
        .ok_or_else(|| Error::UnknownMember { id: id.clone() })
}

fn approval(certificate: CertificateDer<'static>, authority: &Authority) -> Approval {
    let consortium = authority.consortium().as_bytes().to_vec();
    Approval {
        certificate,
        root: authority.root().clone(),
        consortium,
    }
}

const APPROVALS: &str = "approvals";
/// How much earlier than by our clock a peer may find that it is time: its clock may be ahead.
const EARLY: Duration = Duration::from_secs(86_400);
