//! The file a coordinator sends back to a site.
#![no_main]

use certs::Approval;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(approval) = Approval::read(bytes) {
        let written = approval.to_bytes().expect("what was read can be written");
        assert_eq!(
            Approval::read(&written).expect("what was written can be read"),
            approval
        );
    }
});
