//! Whole transfers over a simulated network that cuts, reorders, duplicates and damages.

use std::sync::Arc;

use super::*;
use crate::Version;
use crate::codec::{self, FrameReader};
use crate::message::{Have, Message, Resend};

/// Chunks under way at once.
const WINDOW: usize = 4;
/// Bytes that travel at once.
const PACKET: u64 = 64 << 10;
/// Bytes before a chunk on its stream.
const CHUNK_HEADER: u64 = ChunkHeader::LEN as u64;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Both ends of one transfer, and what the network did.
struct Network {
    random: Random,
    source: Vec<u8>,
    outline: Arc<Outline>,
    receiver: Receiver,
    sink: Vec<u8>,
    /// Bytes sent in both directions, headers and messages included.
    sent: u64,
    /// Values of `sent` at which the connection breaks, the last first.
    cuts: Vec<u64>,
    /// Chunks that get one bit flipped on their first way.
    to_flip: Vec<u64>,
    /// One delivery in so many is repeated.
    duplicate_one_in: Option<u64>,
}

/// The connection broke.
struct Cut;

impl Network {
    fn new(source: Vec<u8>, seed: u64) -> Self {
        let outline = Arc::new(Outline::of(&source).unwrap());
        Self {
            random: Random(seed),
            receiver: Receiver::new(outline.blob(), u64::MAX).unwrap(),
            sink: vec![0; source.len()],
            source,
            outline,
            sent: 0,
            cuts: Vec::new(),
            to_flip: Vec::new(),
            duplicate_one_in: None,
        }
    }

    /// Sends bytes; those after a cut are not sent.
    fn send(&mut self, len: u64) -> Result<(), Cut> {
        match self.cuts.last() {
            Some(&cut) if self.sent + len > cut => {
                self.cuts.pop();
                self.sent = self.sent.max(cut);
                Err(Cut)
            }
            _ => {
                self.sent += len;
                Ok(())
            }
        }
    }

    fn tell(&mut self, message: impl Into<Message>) -> Result<Message, Cut> {
        let frame = codec::encode(&message.into(), Version::NEWEST).unwrap();
        self.send(frame.len() as u64)?;
        let mut reader = FrameReader::new(Version::NEWEST);
        reader.push(&frame);
        Ok(reader.poll().unwrap().unwrap())
    }

    /// One connection, from its first message on.
    fn connect(&mut self) -> Result<(), Cut> {
        let outline = Arc::clone(&self.outline);
        let mut sender = Sender::new(Arc::clone(&outline));
        self.receiver.restart();
        for page in outline.pages() {
            let Message::OutlinePage(page) = self.tell(page)? else {
                unreachable!()
            };
            self.receiver.page(&page).unwrap();
        }
        let blob = outline.blob().digest;
        let have = Have {
            blob,
            chunks: self.receiver.have().clone(),
        };
        let Message::Have(have) = self.tell(have)? else {
            unreachable!()
        };
        sender.have(&have.chunks).unwrap();

        let mut streams: Vec<(u64, u64)> = Vec::new();
        loop {
            while streams.len() < WINDOW {
                let Some(chunk) = sender.next_chunk() else {
                    break;
                };
                let range = outline.blob().range(chunk);
                streams.push((chunk, CHUNK_HEADER + range.end - range.start));
            }
            if streams.is_empty() {
                break;
            }
            // The oldest stream goes first as a rule, but any may overtake it.
            let overtakes = self.random.one_in(8);
            let at = if overtakes {
                self.random.below(streams.len() as u64) as usize
            } else {
                0
            };
            let packet = streams[at].1.min(PACKET);
            self.send(packet)?;
            streams[at].1 -= packet;
            if streams[at].1 == 0 {
                let (chunk, _) = streams.remove(at);
                if let Some(damaged) = self.deliver(chunk) {
                    let Message::Resend(resend) = self.tell(Resend {
                        blob,
                        chunk: damaged,
                    })?
                    else {
                        unreachable!()
                    };
                    sender.resend(resend.chunk).unwrap();
                }
            }
        }
        assert!(self.receiver.is_complete());
        sender.receipt(self.receiver.blob()).unwrap();
        assert!(sender.is_done());
        Ok(())
    }

    /// Hands a chunk to the receiver; names it if it has to come again.
    fn deliver(&mut self, chunk: u64) -> Option<u64> {
        let range = self.outline.blob().range(chunk);
        let mut payload = self.source[range.start as usize..range.end as usize].to_vec();
        if let Some(at) = self.to_flip.iter().position(|&flip| flip == chunk) {
            self.to_flip.swap_remove(at);
            let bit = self.random.below(payload.len() as u64 * 8);
            payload[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        let is_twice = self
            .duplicate_one_in
            .is_some_and(|bound| self.random.one_in(bound));
        for _ in 0..1 + usize::from(is_twice) {
            match self.receiver.accept(chunk, &payload).unwrap() {
                Accepted::Damaged => return Some(chunk),
                Accepted::Duplicate => {}
                Accepted::New(range) => {
                    self.sink[range.start as usize..range.end as usize].copy_from_slice(&payload);
                    self.receiver.stored(chunk);
                }
            }
        }
        None
    }

    fn run(&mut self) -> usize {
        let mut connections = 1;
        while self.connect().is_err() {
            connections += 1;
        }
        assert_eq!(Digest::of(&self.sink), self.outline.blob().digest);
        connections
    }
}

#[test]
fn a_thousand_cuts_cost_at_most_a_window_each() {
    const SIZE: u64 = 344_000_000;
    const CUTS: u64 = 1_000;
    let mut network = Network::new(bytes(SIZE as usize, 1), 2);
    network.duplicate_one_in = Some(10);
    let mut cuts: Vec<_> = (0..CUTS).map(|_| network.random.below(SIZE)).collect();
    cuts.sort_unstable_by(|left, right| right.cmp(left));
    network.cuts = cuts;
    assert_eq!(network.run(), CUTS as usize + 1);
    let excess = network.sent - SIZE;
    assert!(
        excess <= CUTS * WINDOW as u64 * CHUNK_LEN,
        "{excess} bytes too many"
    );
}

#[test]
fn a_flipped_bit_costs_that_chunk_and_no_other() {
    const SIZE: u64 = 5 * CHUNK_LEN + 77;
    let undisturbed = {
        let mut network = Network::new(bytes(SIZE as usize, 3), 4);
        network.run();
        network.sent
    };
    let resend = Resend {
        blob: Digest::of(b""),
        chunk: 0,
    };
    let resend = codec::encode(&resend.into(), Version::NEWEST)
        .unwrap()
        .len() as u64;
    for chunk in 0..6 {
        let mut network = Network::new(bytes(SIZE as usize, 3), 4);
        network.to_flip = vec![chunk];
        assert_eq!(network.run(), 1);
        let range = network.outline.blob().range(chunk);
        let again = CHUNK_HEADER + range.end - range.start + resend;
        assert_eq!(network.sent, undisturbed + again);
    }
}

#[test]
fn duplicates_and_reordering_change_nothing() {
    for seed in 0..20 {
        let mut network = Network::new(bytes(9 * CHUNK_LEN as usize + 1, seed), seed);
        network.duplicate_one_in = Some(2);
        assert_eq!(network.run(), 1);
        // A second transfer of the same blob sends no chunk.
        let before = network.sent;
        assert!(network.connect().is_ok());
        assert!(network.sent - before < 1_000);
    }
}

#[test]
fn a_sender_of_damage_is_given_up() {
    let source = bytes(2 * CHUNK_LEN as usize, 5);
    let outline = Outline::of(&source).unwrap();
    let mut receiver = Receiver::new(outline.blob(), u64::MAX).unwrap();
    receiver.page(&outline.pages().next().unwrap()).unwrap();
    for _ in 0..MAX_DAMAGED {
        assert_eq!(receiver.accept(1, b"not it"), Ok(Accepted::Damaged));
    }
    let count = MAX_DAMAGED + 1;
    assert_eq!(
        receiver.accept(1, b"not it"),
        Err(ReceiveError::Damaged { count })
    );
}

#[test]
fn what_a_receiver_may_not_take_is_refused_before_a_byte_is_kept() {
    let blob = BlobRef {
        digest: Digest::of(b"x"),
        len: 5_000,
    };
    let too_large = ReceiveError::TooLarge {
        found: 5_000,
        limit: 4_999,
    };
    assert_eq!(Receiver::new(blob, 4_999).unwrap_err(), too_large);
    let huge = BlobRef {
        len: u64::MAX,
        ..blob
    };
    assert!(matches!(
        Receiver::new(huge, u64::MAX),
        Err(ReceiveError::TooLarge { .. })
    ));
    let not_empty = BlobRef { len: 0, ..blob };
    assert_eq!(
        Receiver::new(not_empty, 1).unwrap_err(),
        OutlineError::Digest.into()
    );

    let mut receiver = Receiver::new(blob, 5_000).unwrap();
    assert_eq!(
        receiver.accept(0, b"x"),
        Err(ReceiveError::Early { chunk: 0 })
    );
    let other = Outline::of(&bytes(5_000, 6)).unwrap();
    let page = other.pages().next().unwrap();
    assert!(matches!(
        receiver.page(&page),
        Err(ReceiveError::Page { .. })
    ));
    let forged = crate::message::OutlinePage {
        blob: blob.digest,
        ..page
    };
    assert_eq!(receiver.page(&forged), Err(OutlineError::Digest.into()));
}

#[test]
fn an_empty_blob_is_complete_at_once() {
    let receiver = Receiver::new(BlobRef::of(b""), 0).unwrap();
    assert!(receiver.is_complete());
    assert_eq!(receiver.missing().count(), 0);
}

#[test]
fn answers_about_another_blob_are_refused() {
    let outline = Arc::new(Outline::of(&bytes(3, 7)).unwrap());
    let mut sender = Sender::new(Arc::clone(&outline));
    let two = SendError::Have {
        expected: 1,
        found: 2,
    };
    assert_eq!(sender.have(&Bitmap::empty(2)), Err(two));
    assert_eq!(sender.resend(1), Err(SendError::Chunk { chunk: 1 }));
    let other = BlobRef::of(b"other");
    assert!(matches!(
        sender.receipt(other),
        Err(SendError::Receipt { .. })
    ));
    assert!(!sender.is_done());
}
