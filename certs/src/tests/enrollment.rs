//! From a site's first key to its first connection, through files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pkcs8::der::Document;
use pkcs8::der::pem::LineEnding;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;

use super::*;
use crate::{
    Approval, AuthorityHome, ConsortiumError, Error, Home, Leaf, Passphrase, Pin, key_file,
};

/// A coordinator's directory and a site's.
pub(super) struct Hospital {
    _dir: tempfile::TempDir,
    pub(super) coordinator: AuthorityHome,
    pub(super) site: Home,
    pub(super) root: Pin,
}

impl Hospital {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let coordinator = AuthorityHome::new(dir.path().join("coordinator"));
        let authority = coordinator
            .found("headct".parse().unwrap(), &id("coordinator"), None, NOW)
            .unwrap();
        let root = authority.root().fingerprint().into();
        let site = Home::new(dir.path().join("site"));
        Self {
            coordinator,
            site,
            root,
            _dir: dir,
        }
    }

    pub(super) fn approve(&self) -> Approval {
        let request = Request::read(&fs::read(self.site.request_path()).unwrap()).unwrap();
        let path = self
            .coordinator
            .approve(&request, Role::Site, None, NOW)
            .unwrap();
        Approval::read(&fs::read(path).unwrap()).unwrap()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn enrolled_and_approved_site_can_open_its_identity() {
    let hospital = Hospital::new();
    hospital
        .site
        .enroll(&id("mgh"), &hospital.root, None)
        .unwrap();
    let approval = hospital.approve();
    let Leaf { id: name, role, .. } = hospital.site.accept(&approval, NOW).unwrap();
    assert_eq!((name, role), (id("mgh"), Role::Site));

    let (identity, trust) = hospital.site.open(None).unwrap();
    assert_eq!(identity.id(), &id("mgh"));
    let (coordinator, theirs) = hospital.coordinator.home().open(None).unwrap();
    assert_eq!(coordinator.role(), Role::Coordinator);
    assert!(theirs.client(&chain(&identity), NOW).is_ok());
    assert!(trust.coordinator(&chain(&coordinator), NOW).is_ok());
}

#[test]
fn root_key_and_site_key_are_never_overwritten() {
    let hospital = Hospital::new();
    let again =
        hospital
            .coordinator
            .found("headct".parse().unwrap(), &id("coordinator"), None, NOW);
    assert!(matches!(again, Err(Error::Exists { .. })));
    hospital
        .site
        .enroll(&id("mgh"), &hospital.root, None)
        .unwrap();
    let before = fs::read(hospital.site.key_path()).unwrap();
    let again = hospital.site.enroll(&id("mgh"), &hospital.root, None);
    assert!(matches!(again, Err(Error::Exists { .. })));
    assert_eq!(fs::read(hospital.site.key_path()).unwrap(), before);
}

/// Lets every attempt to write that file fail, as on a full disk, until the guard is dropped.
struct Unwritable(std::path::PathBuf);

impl Unwritable {
    fn file(path: &Path) -> Self {
        let part = path.with_extension(format!(
            "{}.part",
            path.extension().unwrap().to_str().unwrap()
        ));
        fs::create_dir(&part).unwrap();
        Self(part)
    }
}

impl Drop for Unwritable {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).unwrap();
    }
}

#[test]
fn enrollment_that_was_cut_short_anywhere_can_be_done_again() {
    for file in ["request.pem", "root.pin", "key.pem"] {
        let hospital = Hospital::new();
        let enroll = || hospital.site.enroll(&id("mgh"), &hospital.root, None);
        fs::create_dir(hospital.site.dir()).unwrap();
        let full = Unwritable::file(&hospital.site.dir().join(file));
        let cut = enroll();
        assert!(matches!(cut, Err(Error::File { .. })), "{file}: {cut:?}");
        assert!(!hospital.site.key_path().exists(), "{file}");
        drop(full);
        enroll().unwrap();
        hospital.site.accept(&hospital.approve(), NOW).unwrap();
        assert!(hospital.site.open(None).is_ok(), "{file}");
    }
}

#[test]
fn founding_that_was_cut_short_anywhere_can_be_done_again() {
    for file in [
        "root.pem",
        "consortium.fmct",
        "certificate.pem",
        "key.pem",
        "root-key.pem",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let home = AuthorityHome::new(folder.path());
        let found = || home.found("headct".parse().unwrap(), &id("coordinator"), None, NOW);
        let full = Unwritable::file(&folder.path().join(file));
        let cut = found().map(|_| ());
        assert!(matches!(cut, Err(Error::File { .. })), "{file}: {cut:?}");
        drop(full);
        found().unwrap();
        assert!(home.open(None).is_ok(), "{file}");
        let (own, trust) = home.home().open(None).unwrap();
        assert!(trust.coordinator(&chain(&own), NOW).is_ok(), "{file}");
    }
}

#[test]
fn refused_second_attempt_changes_no_file() {
    let hospital = Hospital::new();
    let site = &hospital.site;
    site.enroll(&id("mgh"), &hospital.root, None).unwrap();
    site.accept(&hospital.approve(), NOW).unwrap();
    let coordinator = hospital.coordinator.home();
    let root_key = coordinator.dir().join("root-key.pem");
    let found = |dir: &Path| {
        let name = "headct".parse().unwrap();
        AuthorityHome::new(dir).found(name, &id("coordinator"), None, NOW)
    };
    let files = |dir: &Path| -> std::collections::BTreeMap<_, _> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        let files = entries.filter(|entry| entry.path().is_file());
        files
            .map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()))
            .collect()
    };
    let (ours, theirs) = (files(site.dir()), files(coordinator.dir()));
    let exists = |error| matches!(error, Error::Exists { .. });
    let other = Pin::from(
        Hospital::new()
            .coordinator
            .open(None)
            .unwrap()
            .root()
            .fingerprint(),
    );
    assert!(exists(site.enroll(&id("ucsf"), &other, None).unwrap_err()));
    assert!(exists(found(site.dir()).unwrap_err()));
    assert!(exists(found(coordinator.dir()).unwrap_err()));
    assert_eq!(files(site.dir()), ours);
    assert_eq!(files(coordinator.dir()), theirs);
    // A root key that is kept elsewhere is no invitation to found another consortium here.
    fs::remove_file(root_key).unwrap();
    let kept = files(coordinator.dir());
    assert!(exists(found(coordinator.dir()).unwrap_err()));
    assert_eq!(files(coordinator.dir()), kept);
}

#[test]
fn passphrase_is_the_first_line_of_its_file_and_not_empty() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passphrase");
    let write = |text: &str| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        Passphrase::from_file(&path)
    };
    let key = PrivateKey::generate().unwrap();
    let typed = Passphrase::new("correct horse ".to_owned());
    let kept = folder.path().join("key.pem");
    key_file::create(&kept, &key, Some(&typed)).unwrap();
    for text in [
        "correct horse ",
        "correct horse \n",
        "correct horse \r\n",
        "correct horse \nnever tell\n",
    ] {
        let read = write(text).unwrap();
        let opened = key_file::read(&kept, Some(&read)).unwrap();
        assert_eq!(opened.public(), key.public(), "{text:?}");
    }
    for text in ["", "\n", "\r\n", "\ncorrect horse \n"] {
        let error = write(text).unwrap_err().to_string();
        assert!(
            error.contains("passphrase: first line is empty"),
            "{text:?}: {error}"
        );
    }
}

#[test]
fn approval_under_another_root_is_refused() {
    let (hospital, impostor) = (Hospital::new(), Hospital::new());
    hospital
        .site
        .enroll(&id("mgh"), &impostor.root, None)
        .unwrap();
    let refused = hospital.site.accept(&hospital.approve(), NOW);
    assert!(matches!(refused, Err(Error::Root { .. })), "{refused:?}");
}

#[test]
fn approval_for_another_site_or_with_an_older_file_is_refused() {
    let hospital = Hospital::new();
    hospital
        .site
        .enroll(&id("mgh"), &hospital.root, None)
        .unwrap();
    let approval = hospital.approve();
    hospital.site.accept(&approval, NOW).unwrap();
    hospital.coordinator.revoke(&id("mgh"), None, NOW).unwrap();
    let newer = hospital.coordinator.home().trust().unwrap().consortium();
    hospital.site.store_consortium(&newer).unwrap();
    assert!(matches!(
        hospital.site.accept(&approval, NOW),
        Err(Error::Consortium(ConsortiumError::Older { .. }))
    ));

    let other = Home::new(hospital.site.dir().with_file_name("other"));
    other.enroll(&id("ucsf"), &hospital.root, None).unwrap();
    assert!(matches!(
        other.accept(&approval, NOW),
        Err(Error::WrongHolder { .. })
    ));
}

#[test]
fn approval_whose_certificate_is_not_one_is_refused() {
    let hospital = Hospital::new();
    hospital
        .site
        .enroll(&id("mgh"), &hospital.root, None)
        .unwrap();
    let mut approval = hospital.approve();
    assert_eq!(
        Approval::read(&approval.to_bytes().unwrap()).unwrap(),
        approval
    );
    // Found by fuzzing: what is no certificate was read, and refused later only.
    approval.certificate = CertificateDer::from(vec![0x30, 0x00]);
    assert!(Approval::read(&approval.to_bytes().unwrap()).is_err());
}

#[test]
fn files_with_secrets_are_0600_and_a_looser_mode_is_refused() {
    let hospital = Hospital::new();
    hospital
        .site
        .enroll(&id("mgh"), &hospital.root, None)
        .unwrap();
    let key = hospital.site.key_path();
    let root_key = hospital.coordinator.home().dir().join("root-key.pem");
    let secrets = [
        key.clone(),
        root_key,
        hospital.coordinator.home().key_path(),
    ];
    for secret in secrets {
        assert_eq!(mode(&secret), 0o600, "{}", secret.display());
    }
    for loose in [0o640, 0o604, 0o660, 0o644, 0o610] {
        fs::set_permissions(&key, fs::Permissions::from_mode(loose)).unwrap();
        let refused = key_file::read(&key, None).unwrap_err();
        assert!(
            refused.to_string().contains(&format!("mode {loose:04o}")),
            "{refused}"
        );
        assert!(
            Passphrase::from_file(&key).is_err(),
            "passphrase file of mode {loose:o}"
        );
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
    assert!(key_file::read(&key, None).is_ok());
}

#[test]
fn encrypted_key_opens_with_its_passphrase_only() {
    let hospital = Hospital::new();
    let passphrase = Passphrase::new("correct horse\n".to_owned());
    hospital
        .site
        .enroll(&id("mgh"), &hospital.root, Some(&passphrase))
        .unwrap();
    let path = hospital.site.key_path();
    let request = Request::read(&fs::read(hospital.site.request_path()).unwrap()).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));

    let typed = Passphrase::new("correct horse".to_owned());
    assert_eq!(
        key_file::read(&path, Some(&typed)).unwrap().public(),
        request.key()
    );
    assert!(matches!(
        key_file::read(&path, None),
        Err(Error::PassphraseNeeded { .. })
    ));
    let wrong = Passphrase::new("incorrect horse".to_owned());
    assert!(matches!(
        key_file::read(&path, Some(&wrong)),
        Err(Error::PassphraseWrong { .. })
    ));
}

#[test]
fn secrets_show_in_no_debug_output_and_no_error() {
    let hospital = Hospital::new();
    let passphrase = Passphrase::new("correct horse".to_owned());
    hospital
        .site
        .enroll(&id("mgh"), &hospital.root, None)
        .unwrap();
    hospital.site.accept(&hospital.approve(), NOW).unwrap();
    let (identity, trust) = hospital.site.open(None).unwrap();
    let authority = hospital.coordinator.open(None).unwrap();
    let config = crate::tls::client_config(
        &identity,
        &trust,
        Arc::new(rustls::time_provider::DefaultTimeProvider),
        Vec::new(),
    )
    .unwrap();
    let key = fs::read_to_string(hospital.site.key_path()).unwrap();
    let body = key.lines().nth(1).unwrap();
    fs::write(
        hospital.site.key_path(),
        key.replace(&body[8..16], "--------"),
    )
    .unwrap();
    let damaged = key_file::read(&hospital.site.key_path(), None).unwrap_err();
    let seed: Vec<u8> = identity.key().pkcs8()[16..].to_vec();
    let hex = crate::hex::encode(&seed);
    for shown in [
        format!("{identity:?}"),
        format!("{:?}", identity.key()),
        format!("{authority:?}"),
        format!("{trust:?}"),
        format!("{config:?}"),
        format!("{passphrase:?}"),
        format!("{damaged} {damaged:?}"),
    ] {
        assert!(!shown.contains("correct horse"), "{shown}");
        assert!(!shown.contains(&hex[..16]), "{shown}");
        assert!(!shown.contains(&body[32..]), "{shown}");
        assert!(
            !shown.contains(&format!("{:?}", &seed[..8]).replace(['[', ']'], "")),
            "{shown}"
        );
    }
}

#[test]
fn request_bent_at_any_byte_is_refused() {
    let key = PrivateKey::generate().unwrap();
    let pem = Request::write(&id("mgh"), &key).unwrap();
    let request = Request::read(pem.as_bytes()).unwrap();
    assert_eq!((request.id(), request.key()), (&id("mgh"), key.public()));
    // Every byte counts, whether the signature covers it or not.
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap();
    for at in 0..der.len() {
        let mut bent = der.to_vec();
        bent[at] ^= 0x04;
        let pem = Document::try_from(bent)
            .and_then(|bent| bent.to_pem("CERTIFICATE REQUEST", LineEnding::LF));
        // What is no longer DER cannot even be written.
        if let Ok(pem) = pem {
            assert!(Request::read(pem.as_bytes()).is_err(), "bent at byte {at}");
        }
    }
    assert!(Request::read(b"").is_err());
    assert!(Request::read(&vec![b'-'; Request::MAX_BYTES + 1]).is_err());
}
