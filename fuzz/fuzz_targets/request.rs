//! Certificate signing requests, in a file and over a connection.
#![no_main]

use certs::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Request::read(bytes);
    let _ = Request::read_der(bytes);
});
