//! The next certificate, by hand and over a connection.

use std::fs;

use super::enrollment::Hospital;
use super::*;
use crate::{Error, LEAF_LIFETIME, Leaf};

#[test]
fn renewed_certificates_reach_the_site_and_the_coordinator_itself() {
    let hospital = Hospital::new();
    hospital
        .site
        .enroll(&id("mgh"), &hospital.root, None)
        .unwrap();
    hospital.site.accept(&hospital.approve(), NOW).unwrap();
    let later = NOW + 61 * DAY;
    let approval = hospital.coordinator.renew(&id("mgh"), None, later).unwrap();
    hospital
        .coordinator
        .renew(&id("coordinator"), None, later)
        .unwrap();
    hospital.site.accept(&approval, later).unwrap();
    for home in [&hospital.site, hospital.coordinator.home()] {
        assert_eq!(home.open(None).unwrap().0.expires(), later + LEAF_LIFETIME);
    }
}

#[test]
fn renewal_over_a_connection_is_for_the_peer_and_its_key_only() {
    let hospital = Hospital::new();
    hospital
        .site
        .enroll(&id("mgh"), &hospital.root, None)
        .unwrap();
    hospital.site.accept(&hospital.approve(), NOW).unwrap();
    let (identity, trust) = hospital.site.open(None).unwrap();
    let later = NOW + 61 * DAY;
    let peer = trust.client(&chain(&identity), later).unwrap();

    let request = identity.renewal_request().unwrap();
    let approval = hospital
        .coordinator
        .answer_renewal(&peer, &request, None, later)
        .unwrap();
    let der = approval.certificate.to_vec();
    let renewed = hospital.site.renew(&identity, &trust, der, later).unwrap();
    assert_eq!(renewed.expires(), later + LEAF_LIFETIME);
    assert_eq!(
        hospital.site.open(None).unwrap().0.expires(),
        renewed.expires()
    );

    let other_key = PrivateKey::generate().unwrap();
    for (name, key) in [
        ("mgh", &other_key),
        ("ucsf", identity.key()),
        ("ucsf", &other_key),
    ] {
        let request = Request::write_der(&id(name), key).unwrap();
        let answer = hospital
            .coordinator
            .answer_renewal(&peer, &request, None, later);
        assert!(matches!(answer, Err(Error::NotItsRequest { .. })), "{name}");
    }
    hospital
        .coordinator
        .revoke(&id("mgh"), None, later)
        .unwrap();
    let answer = hospital
        .coordinator
        .answer_renewal(&peer, &request, None, later);
    assert!(matches!(answer, Err(Error::UnknownMember { .. })));
}

#[test]
fn renewal_makes_one_certificate_when_it_is_due_however_often_it_is_asked_for() {
    let hospital = Hospital::new();
    let home = &hospital.coordinator;
    let enrolled = hospital.site.enroll(&id("mgh"), &hospital.root, None);
    enrolled.unwrap();
    hospital.site.accept(&hospital.approve(), NOW).unwrap();
    let (identity, trust) = hospital.site.open(None).unwrap();
    let request = identity.renewal_request().unwrap();
    let peer = trust.client(&chain(&identity), NOW).unwrap();
    let version = || home.home().trust().unwrap().consortium().version();
    let ask = |peer, now| home.answer_renewal(peer, &request, None, now);
    let before = version();

    // A site whose clock is a day ahead asks a day early; nobody has a reason to ask before.
    let early = ask(&peer, NOW + 58 * DAY).unwrap_err();
    assert!(matches!(early, Error::NotDue { .. }), "{early}");
    assert_eq!(version(), before);
    let due = NOW + 59 * DAY;
    let first = ask(&peer, due).unwrap();
    assert_eq!(version(), before + 1);

    // The answer was lost, or it asks once more over the same connection.
    for _ in 0..3 {
        assert_eq!(ask(&peer, due + DAY).unwrap(), first);
    }
    assert_eq!(version(), before + 1);
    fs::remove_file(home.home().dir().join("approvals/mgh.fmct")).unwrap();
    let again = ask(&peer, due + DAY).unwrap();
    assert_eq!(
        Leaf::read(&again.certificate).unwrap().not_after,
        due + DAY + LEAF_LIFETIME
    );
    assert_eq!(version(), before + 2);

    let renewed = identity.renewed(again.certificate).unwrap();
    let newest = home.home().trust().unwrap();
    let peer = newest.client(&chain(&renewed), due + DAY).unwrap();
    let early = ask(&peer, due + DAY).unwrap_err();
    assert!(matches!(early, Error::NotDue { .. }), "{early}");
    assert_eq!(version(), before + 2);
}
