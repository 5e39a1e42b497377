//! Who is let in, and who no longer.

use super::*;
use crate::{BadSignature, Bound, ConsortiumError, Error, LEAF_LIFETIME, Refusal};

#[test]
fn active_member_is_verified_under_the_name_and_role_of_its_certificate() {
    let mut consortium = Consortium::new("headct");
    for (name, role) in [
        ("mgh", Role::Site),
        ("auditor", Role::Observer),
        ("c", Role::Coordinator),
    ] {
        let identity = consortium.admit(name, role);
        let peer = consortium.trust().client(&chain(&identity), NOW).unwrap();
        assert_eq!((peer.id(), peer.role()), (&id(name), role));
        assert_eq!(peer.key(), identity.public_key());
        assert_eq!(peer.expires(), NOW + LEAF_LIFETIME);
    }
}

#[test]
fn certificate_is_refused_before_and_after_its_time() {
    let mut consortium = Consortium::new("headct");
    let identity = consortium.admit("mgh", Role::Site);
    let trust = consortium.trust();
    let leaf = identity.leaf();
    let second = Duration::from_secs(1);
    let early = Timestamp(leaf.not_before.0 - 1000);
    assert!(trust.client(&chain(&identity), leaf.not_before).is_ok());
    assert!(trust.client(&chain(&identity), leaf.not_after).is_ok());
    assert_eq!(
        trust.client(&chain(&identity), early),
        Err(Refusal::NotYetValid(Bound {
            now: early,
            bound: leaf.not_before
        }))
    );
    let late = leaf.not_after + second;
    let expired = Refusal::Expired(Bound {
        now: late,
        bound: leaf.not_after,
    });
    assert_eq!(trust.client(&chain(&identity), late), Err(expired.clone()));
    assert_eq!(
        expired.to_string(),
        "certificate: expired 2027-02-21T20:00:00Z (now 2027-02-21T20:00:01Z)"
    );
}

#[test]
fn revoked_member_is_refused_and_cut_off_and_cannot_return_with_its_key() {
    let mut consortium = Consortium::new("headct");
    let (gone, stays) = (
        consortium.admit("mgh", Role::Site),
        consortium.admit("ucsf", Role::Site),
    );
    let trust = consortium.trust();
    let peer = trust.client(&chain(&gone), NOW).unwrap();
    let other = trust.client(&chain(&stays), NOW).unwrap();

    consortium.authority.revoke(&id("mgh"), NOW).unwrap();
    assert_eq!(trust.check(&peer, NOW), Ok(()), "the news has not arrived");
    assert_eq!(
        trust.update(consortium.authority.consortium().as_bytes()),
        Ok(true)
    );

    let revoked = Refusal::Revoked { version: 4 };
    assert_eq!(trust.check(&peer, NOW), Err(revoked.clone()));
    assert_eq!(trust.client(&chain(&gone), NOW), Err(revoked));
    assert_eq!(trust.check(&other, NOW), Ok(()));

    let again = consortium
        .authority
        .admit(&id("mgh"), gone.public_key(), Role::Site, NOW);
    assert!(matches!(again, Err(Error::RevokedKey { .. })));
    let fresh = consortium.admit("mgh", Role::Site);
    assert!(consortium.trust().client(&chain(&fresh), NOW).is_ok());
    assert!(consortium.trust().client(&chain(&gone), NOW).is_err());
}

#[test]
fn older_or_forked_consortium_file_is_refused() {
    let mut consortium = Consortium::new("headct");
    consortium.admit("mgh", Role::Site);
    let before = consortium.authority.consortium().clone();
    consortium.authority.revoke(&id("mgh"), NOW).unwrap();
    let trust = consortium.trust();
    assert_eq!(
        trust.update(before.as_bytes()),
        Err(ConsortiumError::Older { found: 2, seen: 3 })
    );
    assert_eq!(trust.update(trust.consortium().as_bytes()), Ok(false));

    let mut fork = before.next(NOW);
    fork.members.clear();
    let fork = crate::Consortium::sign(fork, consortium.authority.key()).unwrap();
    assert_eq!(
        trust.update(fork.as_bytes()),
        Err(ConsortiumError::Forked { version: 3 })
    );
    assert_eq!(trust.consortium().version(), 3);
}

#[test]
fn changed_or_foreign_consortium_file_is_refused() {
    let mut ours = Consortium::new("headct");
    ours.admit("mgh", Role::Observer);
    let trust = ours.trust();
    let file = String::from_utf8(ours.authority.consortium().as_bytes().to_vec()).unwrap();
    let promoted = file.replace("observer", "coordinator");
    assert_ne!(promoted, file);
    assert_eq!(
        trust.update(promoted.as_bytes()),
        Err(ConsortiumError::Signature)
    );

    let mut theirs = Consortium::new("headct");
    theirs.admit("mgh", Role::Site);
    let foreign = theirs.authority.consortium().as_bytes();
    assert_eq!(trust.update(foreign), Err(ConsortiumError::Signature));

    let mut renamed = ours.authority.consortium().next(NOW);
    renamed.id = "chestct".parse().unwrap();
    let renamed = crate::Consortium::sign(renamed, ours.authority.key()).unwrap();
    assert!(matches!(
        trust.update(renamed.as_bytes()),
        Err(ConsortiumError::OtherConsortium { .. })
    ));
}

#[test]
fn foreign_unlisted_misused_and_chained_certificates_are_refused() {
    let mut ours = Consortium::new("headct");
    let site = ours.admit("mgh", Role::Site);
    let coordinator = ours.admit("coordinator", Role::Coordinator);
    let trust = ours.trust();

    let stranger = Consortium::new("headct").admit("mgh", Role::Site);
    assert_eq!(
        trust.client(&chain(&stranger), NOW),
        Err(Refusal::UnknownIssuer)
    );

    let unlisted = ours.admit("late", Role::Site);
    assert_eq!(
        trust.client(&chain(&unlisted), NOW),
        Err(Refusal::NotListed { version: 3 })
    );

    assert_eq!(trust.coordinator(&chain(&site), NOW), Err(Refusal::Purpose));
    assert!(trust.coordinator(&chain(&coordinator), NOW).is_ok());

    let two = [site.certificate().clone(), trust.root().der().clone()];
    assert_eq!(
        trust.client(&two, NOW),
        Err(Refusal::ChainLength { found: 2 })
    );
    assert_eq!(
        trust.client(&[], NOW),
        Err(Refusal::ChainLength { found: 0 })
    );
    let rubbish = [CertificateDer::from(vec![0x30, 0x80, 0xff])];
    assert_eq!(trust.client(&rubbish, NOW), Err(Refusal::Encoding));
}

#[test]
fn certificate_of_another_name_role_or_consortium_under_our_root_is_refused() {
    let mut consortium = Consortium::new("headct");
    let site = consortium.admit("mgh", Role::Site);
    let trust = consortium.trust();
    let forged = |change: fn(&mut crate::Leaf)| {
        let mut leaf = site.leaf().clone();
        change(&mut leaf);
        let authority = &consortium.authority;
        [crate::certificate::issue(&leaf, authority.root(), authority.key()).unwrap()]
    };
    let other_name = forged(|leaf| leaf.id = "ucsf".parse().unwrap());
    assert!(matches!(
        trust.client(&other_name, NOW),
        Err(Refusal::Holder { .. })
    ));
    let other_role = forged(|leaf| leaf.role = Role::Coordinator);
    assert!(matches!(
        trust.client(&other_role, NOW),
        Err(Refusal::Holder { .. })
    ));
    assert!(matches!(
        trust.coordinator(&other_role, NOW),
        Err(Refusal::Holder { .. })
    ));
    let other_consortium = forged(|leaf| leaf.consortium = "chestct".parse().unwrap());
    assert!(matches!(
        trust.client(&other_consortium, NOW),
        Err(Refusal::OtherConsortium { .. })
    ));
}

#[test]
fn renewal_extends_the_same_holder_and_touches_nobody_else() {
    let mut consortium = Consortium::new("headct");
    let site = consortium.admit("mgh", Role::Site);
    let other = consortium.admit("ucsf", Role::Site);
    assert!(!site.renewal_due(NOW + 59 * DAY));
    let later = NOW + 61 * DAY;
    assert!(site.renewal_due(later));

    let before = consortium.authority.consortium().clone();
    let certificate = consortium.authority.renew(&id("mgh"), later).unwrap();
    let renewed = site.renewed(certificate).unwrap();
    assert_eq!(renewed.public_key(), site.public_key());
    assert_eq!(renewed.expires(), later + LEAF_LIFETIME);
    let after = consortium.authority.consortium();
    assert_eq!(after.version(), before.version() + 1);
    assert_eq!(after.active(&id("ucsf")), before.active(&id("ucsf")));

    let trust = consortium.trust();
    let much_later = NOW + 100 * DAY;
    assert!(trust.client(&chain(&renewed), much_later).is_ok());
    assert!(matches!(
        trust.client(&chain(&site), much_later),
        Err(Refusal::Expired(_))
    ));
    assert!(trust.client(&chain(&other), NOW).is_ok());

    let foreign = consortium.authority.renew(&id("ucsf"), later).unwrap();
    assert!(
        site.renewed(foreign).is_err(),
        "a certificate for another key"
    );
    let unknown = consortium.authority.renew(&id("nobody"), later);
    assert!(matches!(unknown, Err(Error::UnknownMember { .. })));
}

#[test]
fn coordinator_is_held_to_its_own_certificate_and_not_to_the_expiry_in_an_older_list() {
    let mut consortium = Consortium::new("headct");
    let lapsed = consortium.admit("coordinator", Role::Coordinator);
    let site = consortium.admit("mgh", Role::Site);
    let trust = consortium.trust();

    // Renewed late; the site, which gets newer lists from the coordinator only, knows nothing of it.
    let late = NOW + 100 * DAY;
    let authority = &mut consortium.authority;
    let renewed = authority.renew(lapsed.id(), late).unwrap();
    let renewed = lapsed.renewed(renewed).unwrap();
    let peer = trust.coordinator(&chain(&renewed), late).unwrap();
    assert_eq!(trust.check(&peer, late), Ok(()));
    for (own, now) in [(&lapsed, late), (&renewed, late + 91 * DAY)] {
        let expired = trust.coordinator(&chain(own), now);
        assert!(matches!(expired, Err(Refusal::Expired(_))), "{expired:?}");
    }
    assert!(trust.check(&peer, late + 91 * DAY).is_err());

    // For a site the list counts as before, and for both it counts who was revoked.
    let next = authority.renew(site.id(), late).unwrap();
    let next = trust.client(&chain(&site.renewed(next).unwrap()), late);
    assert!(matches!(next, Err(Refusal::Expired(_))), "{next:?}");
    authority.revoke(lapsed.id(), late).unwrap();
    trust.update(authority.consortium().as_bytes()).unwrap();
    let revoked = Refusal::Revoked { version: 6 };
    assert_eq!(trust.check(&peer, late), Err(revoked.clone()));
    assert_eq!(trust.coordinator(&chain(&renewed), late), Err(revoked));
}

#[test]
fn name_of_an_active_member_cannot_be_taken() {
    let mut consortium = Consortium::new("headct");
    consortium.admit("mgh", Role::Site);
    let key = PrivateKey::generate().unwrap();
    let request = Request::read(Request::write(&id("mgh"), &key).unwrap().as_bytes()).unwrap();
    let taken = consortium.authority.approve(&request, Role::Site, NOW);
    assert!(matches!(taken, Err(Error::AlreadyActive { .. })));
    assert_eq!(
        consortium.authority.consortium().version(),
        2,
        "nothing changed"
    );
}

#[test]
fn manifest_signed_by_an_identity_verifies_with_the_peers_key() {
    let mut consortium = Consortium::new("headct");
    let site = consortium.admit("mgh", Role::Site);
    let peer = consortium.trust().client(&chain(&site), NOW).unwrap();
    let signature = site.sign("manifest", b"digest");
    assert_eq!(peer.key().verify("manifest", b"digest", &signature), Ok(()));
    assert_eq!(
        peer.key().verify("manifest", b"other", &signature),
        Err(BadSignature)
    );
}
