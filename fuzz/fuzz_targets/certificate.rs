//! A peer's certificate: what it says, and whether a stranger's could ever be let in.
#![no_main]

use std::sync::LazyLock;

use certs::{Authority, Leaf, Trust};
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::CertificateDer;

static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    let name = "headct".parse().expect("a name");
    let authority = Authority::found(name, protocol::Timestamp(0)).expect("a consortium");
    Trust::new(authority.root().clone(), authority.consortium().clone()).expect("trust")
});

fuzz_target!(|bytes: &[u8]| {
    let certificate = CertificateDer::from(bytes);
    let _ = Leaf::read(&certificate);
    let now = protocol::Timestamp(0);
    assert!(TRUST.client(&[certificate.clone()], now).is_err());
    assert!(TRUST.coordinator(&[certificate], now).is_err());
});
