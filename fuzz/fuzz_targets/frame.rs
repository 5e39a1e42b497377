//! The control channel: frames cut anywhere, and every message in them.
//!
//! Nothing is allocated beyond a frame: run with `-malloc_limit_mb=1`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::Version;
use protocol::codec::{self, FrameReader};
use protocol::message::Message;

fuzz_target!(|bytes: &[u8]| {
    let Some((&cut, bytes)) = bytes.split_first() else {
        return;
    };
    let whole = messages(&[bytes]);
    let (early, late) = bytes.split_at(bytes.len().min(cut.into()));
    assert_eq!(
        debug(&whole),
        debug(&messages(&[early, late])),
        "cut at {cut}"
    );
    for message in &whole {
        let frame = codec::encode(message, Version::NEWEST).expect("what came in a frame fits one");
        let again = codec::decode(&frame[codec::LENGTH_LEN..], Version::NEWEST).expect("our own frame");
        assert_eq!(debug(&[again]), debug(std::slice::from_ref(message)));
    }
});

/// All messages up to the first that is none.
fn messages(pushes: &[&[u8]]) -> Vec<Message> {
    let mut reader = FrameReader::new(Version::NEWEST);
    let mut messages = Vec::new();
    for push in pushes {
        reader.push(push);
        loop {
            match reader.poll() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => return messages,
            }
        }
    }
    messages
}

/// Text, since a metric may be NaN, which equals nothing.
fn debug(messages: &[Message]) -> String {
    format!("{messages:?}")
}
