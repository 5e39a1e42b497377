//! Bytes from strangers: no panic, no belief.

use proptest::prelude::*;

use super::*;
use crate::{Approval, Consortium as File, ConsortiumError, Leaf, hex};

/// A body as a root that signs anything would sign it.
fn signed(body: &[u8], key: &PrivateKey) -> Vec<u8> {
    let signature = hex::encode(&key.sign(File::CONTEXT, body));
    [format!("{}{signature}\n", File::MAGIC).as_bytes(), body].concat()
}

fn member(name: &str, key: u8, status: &str) -> String {
    format!(
        "[[members]]\nname = \"{name}\"\nrole = \"site\"\nkey = \"ed25519:{}\"\n\
         status = \"{status}\"\nexpires = \"2027-02-21T20:00:00Z\"\n",
        hex::encode(&[key; 32])
    )
}

#[test]
fn signed_file_that_breaks_a_rule_is_refused_with_the_rule() {
    let root = PrivateKey::generate().unwrap();
    let head = "consortium = \"headct\"\nversion = 1\nissued = \"2026-11-23T20:00:00Z\"\n";
    let read = |body: String| File::read(&signed(body.as_bytes(), &root), &root.public());
    assert!(read(head.to_owned() + &member("mgh", 1, "active")).is_ok());
    assert!(
        read(head.to_owned() + &member("mgh", 1, "revoked") + &member("mgh", 2, "active")).is_ok()
    );
    for (body, rule) in [
        (
            head.replace("version = 1", "version = 0"),
            "version 0, expected at least 1",
        ),
        (
            head.replace("headct", "Head CT"),
            "only a-z, 0-9 and inner '-'",
        ),
        (
            head.replace("2026-11-23T20:00:00Z", "yesterday"),
            "expected RFC 3339",
        ),
        (head.to_owned() + "extra = 1\n", "unknown field `extra`"),
        (
            head.to_owned() + &member("../mgh", 1, "active"),
            "its name is not a site's name",
        ),
        (
            head.to_owned() + &member("mgh", 1, "paused"),
            "unknown variant `paused`",
        ),
        (
            head.to_owned() + &member("mgh", 1, "revoked") + &member("ucsf", 1, "active"),
            "its key is listed twice",
        ),
        (
            head.to_owned() + &member("mgh", 1, "active") + &member("mgh", 2, "active"),
            "two of its keys are active",
        ),
        (
            head.to_owned() + &member("mgh", 1, "active").replace("ed25519:", "rsa:"),
            "its key is not ed25519:<64 digits>",
        ),
        (
            head.to_owned() + &member("mgh", 1, "active").replace("2027-02-21T", ""),
            "its expiry is not a time in RFC 3339",
        ),
    ] {
        let refused = read(body).unwrap_err().to_string();
        assert!(refused.contains(rule), "{refused:?} does not say {rule:?}");
    }
    let long = vec![b'#'; File::MAX_BYTES + 1];
    assert!(matches!(
        File::read(&long, &root.public()),
        Err(ConsortiumError::TooLong { .. })
    ));
}

#[test]
fn file_bent_at_any_byte_is_refused() {
    let mut consortium = Consortium::new("headct");
    consortium.admit("mgh", Role::Site);
    let (file, root) = (
        consortium.authority.consortium().as_bytes(),
        consortium.authority.root(),
    );
    for at in 0..file.len() {
        let mut bent = file.to_vec();
        bent[at] ^= 0x01;
        assert!(File::read(&bent, &root.key()).is_err(), "bent at byte {at}");
    }
    for end in 0..file.len() {
        assert!(
            File::read(&file[..end], &root.key()).is_err(),
            "cut at byte {end}"
        );
    }
}

#[test]
fn certificate_bent_at_any_byte_is_refused() {
    let mut consortium = Consortium::new("headct");
    let site = consortium.admit("mgh", Role::Site);
    let trust = consortium.trust();
    for at in 0..site.certificate().len() {
        let mut bent = site.certificate().to_vec();
        bent[at] ^= 0x01;
        assert!(
            trust.client(&[CertificateDer::from(bent)], NOW).is_err(),
            "bent at byte {at}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        ..ProptestConfig::default()
    })]

    #[test]
    fn strangers_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let root = PrivateKey::generate().unwrap();
        prop_assert!(File::read(&bytes, &root.public()).is_err());
        let _ = File::read(&signed(&bytes, &root), &root.public());
        prop_assert!(Request::read(&bytes).is_err());
        prop_assert!(Request::read_der(&bytes).is_err());
        prop_assert!(Approval::read(&bytes).is_err());
        prop_assert!(Leaf::read(&CertificateDer::from(bytes)).is_err());
    }

    #[test]
    fn every_membership_survives_its_file(changes in prop::collection::vec((0_u8..3, 0_u8..4), 1..16)) {
        let mut consortium = Consortium::new("headct");
        for (change, name) in changes {
            let name = id(&format!("site-{name}"));
            // A change that makes no sense is refused and changes nothing.
            let before = consortium.authority.consortium().clone();
            let changed = match change {
                0 => {
                    let key = PrivateKey::generate().unwrap().public();
                    consortium.authority.admit(&name, key, Role::Site, NOW).is_ok()
                }
                1 => consortium.authority.revoke(&name, NOW).is_ok(),
                _ => consortium.authority.renew(&name, NOW + DAY).is_ok(),
            };
            let after = consortium.authority.consortium();
            prop_assert_eq!(after.version(), before.version() + u64::from(changed));
            prop_assert!(before.accepts(after).is_ok());
            let root = consortium.authority.root().key();
            prop_assert_eq!(&File::read(after.as_bytes(), &root).unwrap(), after);
            let active = after.members().iter().filter(|m| m.id == name && m.status == crate::Status::Active);
            prop_assert!(active.count() <= 1);
        }
    }
}
