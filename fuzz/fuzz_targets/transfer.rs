//! The receiving end of a transfer, told anything in any order: it ends with the blob, or not.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use protocol::codec;
use protocol::message::Message;
use protocol::transfer::{Accepted, CHUNK_LEN, Outline, Receiver, Sender};
use protocol::{Digest, Version};

/// Two chunks, the second of 77 bytes.
static BLOB: LazyLock<Vec<u8>> = LazyLock::new(|| vec![7; CHUNK_LEN as usize + 77]);
static OUTLINE: LazyLock<Outline> = LazyLock::new(|| Outline::of(&BLOB).expect("a small blob"));

fuzz_target!(|bytes: &[u8]| {
    let mut receiver = Receiver::new(OUTLINE.blob(), u64::MAX).expect("a small blob");
    let mut sender = Sender::new(std::sync::Arc::new(OUTLINE.clone()));
    let mut sink = vec![0; BLOB.len()];
    let mut rest = bytes;
    while let Some((&event, after)) = rest.split_first() {
        rest = after;
        match event % 6 {
            0 => {
                for page in OUTLINE.pages() {
                    let _ = receiver.page(&page);
                }
            }
            1 => receiver.restart(),
            2 | 3 => {
                // The third is none.
                let chunk = u64::from(event / 6 % 3);
                let range = OUTLINE.blob().range(chunk % 2);
                let mut bytes = BLOB[range.start as usize..range.end as usize].to_vec();
                if let (3, Some(first)) = (event % 6, bytes.first_mut()) {
                    *first ^= 1;
                }
                if let Ok(Accepted::New(range)) = receiver.accept(chunk, &bytes) {
                    sink[range.start as usize..range.end as usize].copy_from_slice(&bytes);
                    receiver.stored(chunk);
                }
            }
            4 => {
                // Any message of the peer's.
                let (frame, after) = rest.split_at(rest.len().min(64));
                rest = after;
                match codec::decode(frame, Version::NEWEST) {
                    Ok(Message::OutlinePage(page)) => {
                        let _ = receiver.page(&page);
                    }
                    Ok(Message::Have(have)) => {
                        let _ = sender.have(&have.chunks);
                    }
                    Ok(Message::Resend(resend)) => {
                        let _ = sender.resend(resend.chunk);
                    }
                    _ => {}
                }
            }
            _ => {
                let _ = sender.have(receiver.have());
                while sender.next_chunk().is_some() {}
                assert_eq!(sender.bytes_queued(), 0);
            }
        }
    }
    if receiver.is_complete() {
        assert_eq!(Digest::of(&sink), OUTLINE.blob().digest);
    }
});
