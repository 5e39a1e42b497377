//! The consortium file: as it comes, and as a root that signs anything would sign it.
#![no_main]

use std::sync::LazyLock;

use certs::{Consortium, PrivateKey};
use libfuzzer_sys::fuzz_target;

static ROOT: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate().expect("a key"));

fuzz_target!(|bytes: &[u8]| {
    assert!(
        Consortium::read(bytes, &ROOT.public()).is_err(),
        "a forged signature"
    );
    let signature = ROOT.sign(Consortium::CONTEXT, bytes);
    let digits: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    let head = format!("{}{digits}\n", Consortium::MAGIC);
    if let Ok(consortium) = Consortium::read(&[head.as_bytes(), bytes].concat(), &ROOT.public()) {
        for member in consortium.members() {
            assert!(consortium.holder(&member.key).is_some());
        }
    }
});
