//! What members sign: manifests, receipts, launches, as a signer that signs anything would.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::message::{Launch, Manifest, Receipt};
use protocol::{Signed, Statement};

fuzz_target!(|bytes: &[u8]| {
    read::<Manifest>(bytes);
    read::<Receipt>(bytes);
    read::<Launch>(bytes);
});

fn read<T: Statement + 'static>(bytes: &[u8]) {
    let Ok(signed) = Signed::<T>::from_bytes(bytes) else {
        return;
    };
    assert_eq!(
        signed.to_bytes(),
        bytes,
        "signatures hold for these bytes only"
    );
    assert!(
        signed.open(|_, _, _| false).is_err(),
        "believed without a signature"
    );
    if let Ok(statement) = signed.open(|_, _, _| true) {
        let again = Signed::new(&statement, |_, _| [0; 64]).expect("as long as what was read");
        assert!(again.open(|_, _, _| true).is_ok());
    }
}
