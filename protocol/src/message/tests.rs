//! The bytes of every message. They never change: a change is a new protocol version.
//!
//! Each is checked three ways: against bytes written down field by field, against wincode, another
//! implementation of the format, which is given the fields as a plain tuple, and by decoding.

mod draw;
mod golden;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::{BlobRef, Timestamp, Version, codec};
use draw::Draw;
use golden::{A, Golden, all, signed};

fn unhex(annotated: &str) -> Vec<u8> {
    let digits: Vec<u8> = annotated
        .lines()
        .flat_map(|line| line.split('#').next().unwrap().bytes())
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    digits
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

#[test]
fn every_message_has_the_bytes_written_down_here() {
    for Golden { message, bytes, .. } in all() {
        assert_eq!(
            codec::encode(&message, Version::NEWEST).unwrap(),
            unhex(bytes),
            "{}",
            message.name()
        );
        assert_eq!(
            codec::decode(&unhex(bytes)[4..], Version::NEWEST).unwrap(),
            message
        );
    }
}

#[test]
fn wincode_writes_the_same_bodies() {
    for Golden {
        message, fields, ..
    } in all()
    {
        assert_eq!(
            codec::encode(&message, Version::NEWEST).unwrap()[6..],
            fields,
            "{}",
            message.name()
        );
    }
}

#[test]
fn no_message_is_left_out() {
    let tested: BTreeSet<u8> = all().iter().map(|golden| golden.message.tag()).collect();
    let known: BTreeSet<u8> = Message::TAGS.iter().map(|&(tag, _)| tag).collect();
    assert_eq!(tested, known);
    assert_eq!(known.len(), Message::TAGS.len(), "a tag is given twice");
}

#[test]
fn a_frame_must_be_used_up_and_not_run_out() {
    for Golden { message, .. } in all() {
        let frame = &codec::encode(&message, Version::NEWEST).unwrap()[4..];
        for len in 0..frame.len() {
            assert!(
                codec::decode(&frame[..len], Version::NEWEST).is_err(),
                "{} cut at {len}",
                message.name()
            );
        }
        let longer = [frame, &[0]].concat();
        assert!(
            codec::decode(&longer, Version::NEWEST).is_err(),
            "{} with a byte too many",
            message.name()
        );
    }
}

#[test]
fn frames_of_other_versions_and_unknown_tags_are_refused() {
    use codec::CodecError;
    assert!(matches!(
        codec::decode(&[2, 1], Version::NEWEST),
        Err(CodecError::Version {
            found: 2,
            expected: 1
        })
    ));
    assert!(matches!(
        codec::decode(&[1, 0], Version::NEWEST),
        Err(CodecError::Tag { found: 0 })
    ));
    assert!(matches!(
        codec::decode(&[1], Version::NEWEST),
        Err(CodecError::Truncated { len: 1 })
    ));
    let long = vec![1; codec::MAX_FRAME_LEN + 1];
    assert!(matches!(
        codec::decode(&long, Version::NEWEST),
        Err(CodecError::Oversized { .. })
    ));
    let mut reader = codec::FrameReader::new(Version::NEWEST);
    reader.push(&u32::MAX.to_le_bytes());
    assert!(matches!(reader.poll(), Err(CodecError::Oversized { .. })));
}

#[test]
fn lengths_without_bytes_behind_them_allocate_nothing() {
    // Tag, then a list of 2^62 items: refused by the limit, not tried.
    for tag in [4, 5, 26] {
        let frame = [&[1, tag, 253][..], &(1_u64 << 62).to_le_bytes()].concat();
        assert!(codec::decode(&frame, Version::NEWEST).is_err());
    }
}

#[test]
fn a_statement_is_believed_only_with_its_signature() {
    let receipt = Receipt {
        blob: BlobRef { digest: A, len: 4 },
        stored: Timestamp(6),
    };
    let signed = signed(&receipt);
    let is_ours = |context: &str, _: &[u8], signature: &[u8; 64]| {
        context == "receipt" && signature == &[0x55; 64]
    };
    assert_eq!(signed.open(is_ours).unwrap(), receipt);
    assert!(signed.open(|_, _, _| false).is_err());
    let kept = Signed::<Receipt>::from_bytes(&signed.to_bytes()).unwrap();
    assert_eq!(kept, signed);
    assert_eq!(kept.open(is_ours).unwrap(), receipt);
    assert!(Signed::<Receipt>::from_bytes(&[0; 63]).is_err());
}

/// Compared as text, since a metric may be NaN, which equals nothing.
fn said_again_is_the_same(message: &Message) {
    let frame = codec::encode(message, Version::NEWEST).unwrap();
    let again = codec::decode(&frame[codec::LENGTH_LEN..], Version::NEWEST).unwrap();
    assert_eq!(format!("{again:?}"), format!("{message:?}"));
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(5), ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_decoder_panic(tag in 0_u8..40, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let frame = [&[1, tag][..], &body].concat();
        if let Ok(message) = codec::decode(&frame, Version::NEWEST) {
            // Whatever was understood can be said again.
            said_again_is_the_same(&message);
        }
    }

    #[test]
    fn a_damaged_message_of_any_kind_is_refused_or_another_message(
        at in 0_usize..400,
        to in any::<u8>(),
        which in any::<prop::sample::Index>(),
    ) {
        let golden = all().swap_remove(which.index(all().len()));
        let mut frame = codec::encode(&golden.message, Version::NEWEST).unwrap()[4..].to_vec();
        let at = at % frame.len();
        frame[at] = to;
        if let Ok(message) = codec::decode(&frame, Version::NEWEST) {
            said_again_is_the_same(&message);
        }
    }

    #[test]
    fn reading_undoes_writing_for_messages_of_every_kind(
        bytes in prop::collection::vec(any::<u8>(), 0..4000),
        cuts in prop::collection::vec(1_usize..99, 1..9),
    ) {
        let mut draw = Draw(bytes.into_iter());
        let messages: Vec<Message> = Message::TAGS.iter().map(|&(tag, _)| draw.message(tag)).collect();
        let wire: Vec<u8> = messages.iter().flat_map(|message| codec::encode(message, Version::NEWEST).unwrap()).collect();
        let mut reader = codec::FrameReader::new(Version::NEWEST);
        let mut rest = &wire[..];
        let mut received = Vec::new();
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*cut));
            reader.push(now);
            received.extend(std::iter::from_fn(|| reader.poll().unwrap()));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(received, messages);
        prop_assert!(reader.is_at_boundary());
    }
}
