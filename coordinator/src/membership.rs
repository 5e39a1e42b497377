//! Membership while the coordinator runs: follows the consortium file, answers renewals.

use std::sync::Arc;
use std::time::Duration;

use certs::{AuthorityHome, Error, Identity, Passphrase, Trust, VerifiedPeer, read_certificate};
use protocol::bounded::{List, Text};
use protocol::message::{Reason, Rejection, Renew, Renewed, Subject};
use protocol::{Message, Timestamp};

/// The coordinator's directory, and what the running process believes of it.
///
/// `approve` and `revoke` are other processes: they write the next consortium file, and
/// [`follow`](Self::follow) makes this process believe it. Links check their peers against the same
/// [`Trust`] twice a heartbeat; this process looks at the file as often, so a revoked site is cut
/// within one heartbeat.
#[derive(Debug)]
pub struct Membership {
    home: AuthorityHome,
    trust: Trust,
    passphrase: Option<Passphrase>,
}

impl Membership {
    /// Takes the directory, the trust that links check their peers against, and what opens the keys.
    pub fn new(home: AuthorityHome, trust: Trust, passphrase: Option<Passphrase>) -> Self {
        Self {
            home,
            trust,
            passphrase,
        }
    }

    /// What links check their peers against.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Reads the consortium file again; `true` if it is newer than the one believed.
    ///
    /// # Errors
    /// [`Error`] if it cannot be read, or must not be believed; then nothing changes.
    pub fn refresh(&self) -> Result<bool, Error> {
        let newest = self.home.home().trust()?.consortium();
        Ok(self.trust.update(newest.as_bytes())?)
    }

    /// Refreshes for ever. What fails is logged, and tried again.
    pub async fn follow(self: Arc<Self>, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        loop {
            ticks.tick().await;
            let this = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || this.refresh()).await {
                Ok(Ok(true)) => {
                    let version = self.trust.consortium().version();
                    tracing::info!(version, "consortium file changed");
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::error!(%error, "consortium file not believed"),
                Err(error) => tracing::error!(%error, "consortium file not read"),
            }
        }
    }

    /// Renews our own certificate when a third of its life is left; the identity that is to be shown
    /// instead of `shown`, if there is one. Another process may have renewed it before: then that is
    /// the one. Reads and writes files.
    ///
    /// # Errors
    /// [`Error`] if it is due and cannot be renewed, for instance because the root key is elsewhere.
    pub fn renew_own(&self, shown: &Identity, now: Timestamp) -> Result<Option<Identity>, Error> {
        let path = self.home.home().certificate_path();
        let mut newest = shown.renewed(read_certificate(&path)?)?;
        if newest.renewal_due(now) {
            let renewed = self.home.renew(shown.id(), self.passphrase.as_ref(), now)?;
            newest = shown.renewed(renewed.certificate)?;
        }
        Ok((newest.certificate() != shown.certificate()).then_some(newest))
    }

    /// Answers a peer that asks for its next certificate. Reads and writes files.
    pub fn answer(&self, peer: &VerifiedPeer, renew: &Renew, now: Timestamp) -> Message {
        let answer = self
            .home
            .answer_renewal(peer, &renew.request, self.passphrase.as_ref(), now);
        if let Err(error @ Error::NotDue { .. }) = &answer {
            tracing::debug!(peer = %peer.id(), %error, "certificate not renewed");
            return not_renewed("not due");
        }
        let renewed = answer
            .map_err(|error| error.to_string())
            .and_then(|approval| {
                let certificate = List::new(approval.certificate.to_vec());
                certificate.map_err(|error| error.to_string())
            });
        match renewed {
            Ok(certificate) => {
                tracing::info!(peer = %peer.id(), "certificate renewed");
                Renewed { certificate }.into()
            }
            Err(why) => {
                tracing::warn!(peer = %peer.id(), why, "certificate not renewed");
                not_renewed("renew by hand")
            }
        }
    }
}

fn not_renewed(defect: &str) -> Message {
    let reason = Reason::Invalid {
        defect: Text::lossy(defect),
    };
    Rejection {
        subject: Subject::Renewal,
        reason,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use certs::{Approval, Home, LEAF_LIFETIME, Refusal};
    use protocol::Role;

    use super::*;

    const NOW: Timestamp = Timestamp(1_795_464_000_000);

    struct Scene {
        _dir: tempfile::TempDir,
        membership: Membership,
        site: Home,
        identity: Identity,
        peer: VerifiedPeer,
    }

    /// A running coordinator, and a site that is connected to it.
    fn scene() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let home = AuthorityHome::new(dir.path().join("coordinator"));
        let coordinator = "coordinator".parse().unwrap();
        let authority = home
            .found("headct".parse().unwrap(), &coordinator, None, NOW)
            .unwrap();
        let site = Home::new(dir.path().join("site"));
        let pin = authority.root().fingerprint().into();
        let request = site.enroll(&"mgh".parse().unwrap(), &pin, None).unwrap();
        let approval = home.approve(&request, Role::Site, None, NOW).unwrap();
        site.accept(
            &Approval::read(&std::fs::read(approval).unwrap()).unwrap(),
            NOW,
        )
        .unwrap();
        let (identity, _) = site.open(None).unwrap();
        let trust = home.home().trust().unwrap();
        let peer = trust
            .client(std::slice::from_ref(identity.certificate()), NOW)
            .unwrap();
        let membership = Membership::new(home, trust, None);
        Scene {
            _dir: dir,
            membership,
            site,
            identity,
            peer,
        }
    }

    #[test]
    fn revocation_by_another_process_is_believed_after_a_refresh() {
        let Scene {
            membership,
            peer,
            _dir,
            ..
        } = scene();
        assert!(!membership.refresh().unwrap(), "nothing changed yet");
        let other = AuthorityHome::new(membership.home.home().dir());
        other.revoke(peer.id(), None, NOW).unwrap();
        assert_eq!(membership.trust.check(&peer, NOW), Ok(()));
        assert!(membership.refresh().unwrap());
        let revoked = Refusal::Revoked { version: 4 };
        assert_eq!(membership.trust.check(&peer, NOW), Err(revoked));
    }

    #[test]
    fn older_consortium_file_put_back_is_not_believed() {
        let Scene {
            membership,
            peer,
            _dir,
            ..
        } = scene();
        let path = membership.home.home().consortium_path();
        let before = std::fs::read(&path).unwrap();
        membership.home.revoke(peer.id(), None, NOW).unwrap();
        assert!(membership.refresh().unwrap());
        std::fs::write(&path, before).unwrap();
        assert!(membership.refresh().is_err());
        assert!(membership.trust.check(&peer, NOW).is_err(), "still revoked");
    }

    #[test]
    fn connected_site_gets_its_next_certificate_and_keeps_it() {
        let Scene {
            membership,
            site,
            identity,
            peer,
            _dir,
        } = scene();
        let later = NOW + Duration::from_secs(61 * 86_400);
        let request = List::new(identity.renewal_request().unwrap()).unwrap();
        let Message::Renewed(Renewed { certificate }) =
            membership.answer(&peer, &Renew { request }, later)
        else {
            panic!("not renewed");
        };
        assert!(
            membership.refresh().unwrap(),
            "the expiry is in the consortium file"
        );
        let der = certificate.to_vec();
        let renewed = site
            .renew(&identity, &membership.trust, der, later)
            .unwrap();
        assert!(renewed.expires() > identity.expires());
    }

    #[test]
    fn request_before_it_is_due_is_rejected_and_changes_nothing() {
        let Scene {
            membership,
            identity,
            peer,
            _dir,
            ..
        } = scene();
        let request = List::new(identity.renewal_request().unwrap()).unwrap();
        let Message::Rejection(rejection) = membership.answer(&peer, &Renew { request }, NOW)
        else {
            panic!("renewed");
        };
        assert_eq!(rejection.subject, Subject::Renewal);
        assert_eq!(rejection.reason.to_string(), "not due");
        assert!(!membership.refresh().unwrap(), "nothing changed");
    }

    #[test]
    fn request_that_is_not_the_peers_own_is_rejected() {
        let Scene {
            membership,
            peer,
            _dir,
            ..
        } = scene();
        let request = List::new(scene().identity.renewal_request().unwrap()).unwrap();
        let answer = membership.answer(&peer, &Renew { request }, NOW);
        assert!(matches!(
            answer,
            Message::Rejection(Rejection {
                subject: Subject::Renewal,
                ..
            })
        ));
        assert!(!membership.refresh().unwrap(), "nothing changed");
    }

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn coordinators_own_certificate_is_renewed_in_its_last_third_and_not_before() {
        let Scene {
            membership, _dir, ..
        } = scene();
        let (shown, _) = membership.home.home().open(None).unwrap();
        let early = NOW + 59 * DAY;
        assert!(membership.renew_own(&shown, early).unwrap().is_none());
        assert!(!membership.refresh().unwrap(), "nothing changed");

        // Late is not too late: it was off when its certificate ran out.
        for due in [NOW + 61 * DAY, NOW + 300 * DAY] {
            let next = membership.renew_own(&shown, due).unwrap().unwrap();
            assert_eq!(next.expires(), due + LEAF_LIFETIME);
            assert!(membership.renew_own(&next, due).unwrap().is_none());
            let (kept, _) = membership.home.home().open(None).unwrap();
            assert_eq!(kept.certificate(), next.certificate());
            assert!(membership.refresh().unwrap(), "the list tells of it");
        }
    }

    #[test]
    fn certificate_of_ours_that_another_process_renewed_is_taken_up() {
        let Scene {
            membership, _dir, ..
        } = scene();
        let (shown, _) = membership.home.home().open(None).unwrap();
        let other = AuthorityHome::new(membership.home.home().dir());
        other.renew(shown.id(), None, NOW + DAY).unwrap();
        let next = membership.renew_own(&shown, NOW + DAY).unwrap().unwrap();
        assert_eq!(next.expires(), NOW + DAY + LEAF_LIFETIME);
    }

    #[test]
    fn without_the_root_key_our_own_renewal_fails_only_when_it_is_due_and_names_the_file() {
        let Scene {
            membership, _dir, ..
        } = scene();
        let (shown, _) = membership.home.home().open(None).unwrap();
        let dir = membership.home.home().dir();
        std::fs::rename(dir.join("root-key.pem"), dir.join("elsewhere")).unwrap();
        assert!(membership.renew_own(&shown, NOW).unwrap().is_none());
        let error = membership.renew_own(&shown, NOW + 61 * DAY).unwrap_err();
        assert!(error.to_string().contains("root-key.pem"), "{error}");
    }
}
