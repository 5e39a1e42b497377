//! Records: how control channel and chunks share one TCP connection.
//!
//! QUIC gives every chunk a stream of its own. Over TCP both travel in records, so that a message
//! never waits for more than one record of a chunk:
//!
//! ```text
//! ┌─────────┬────────────┬─────────┐
//! │ kind u8 │ length u32 │ payload │   little-endian, at most 64 KiB of payload
//! └─────────┴────────────┴─────────┘
//!  0 control   bytes of the control channel (frames, cut anywhere)
//!  1 bulk      bytes of chunks: header, bytes, header, bytes … (cut anywhere)
//!  2 credit    u8: so many more chunks may be sent
//!  3 close     u32: close code; nothing follows
//! ```

use crate::transfer::{ChunkHeader, ChunkHeaderError};

/// Longest payload of a record, in bytes.
pub const MAX_RECORD_LEN: usize = 64 << 10;
/// Bytes before the payload.
pub const RECORD_HEADER_LEN: usize = 5;

/// One record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Record<'a> {
    /// Bytes of the control channel.
    Control(&'a [u8]),
    /// Bytes of chunks.
    Bulk(&'a [u8]),
    /// So many more chunks may be sent.
    Credit(u8),
    /// The peer closes, with this code.
    Close(u32),
}

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("record: kind {kind} with {len} bytes")]
pub struct RecordError {
    /// The kind found.
    pub kind: u8,
    /// The length found.
    pub len: u32,
}

impl Record<'_> {
    /// Appends the record to `out`.
    ///
    /// # Panics
    /// If a payload is longer than [`MAX_RECORD_LEN`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut put = |kind: u8, payload: &[u8]| {
            assert!(
                payload.len() <= MAX_RECORD_LEN,
                "record of {} bytes",
                payload.len()
            );
            out.push(kind);
            out.extend((payload.len() as u32).to_le_bytes());
            out.extend(payload);
        };
        match self {
            Self::Control(bytes) => put(0, bytes),
            Self::Bulk(bytes) => put(1, bytes),
            Self::Credit(chunks) => put(2, &[*chunks]),
            Self::Close(code) => put(3, &code.to_le_bytes()),
        }
    }
}

/// Cuts a stream of bytes into records. It never holds more than one record and one push.
#[derive(Debug, Default)]
pub struct RecordReader {
    buffer: Vec<u8>,
    /// Bytes at the start of `buffer` that were polled already.
    taken: usize,
}

impl RecordReader {
    /// Appends bytes from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next record, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// If the bytes are no record. The stream cannot be read any further then.
    pub fn poll(&mut self) -> Result<Option<Record<'_>>, RecordError> {
        let rest = &self.buffer[self.taken..];
        let Some((&[kind, a, b, c, d], rest)) = rest.split_first_chunk::<RECORD_HEADER_LEN>()
        else {
            return Ok(None);
        };
        let len = u32::from_le_bytes([a, b, c, d]);
        let fits = match kind {
            0 | 1 => len as usize <= MAX_RECORD_LEN,
            2 => len == 1,
            3 => len == 4,
            _ => false,
        };
        if !fits {
            return Err(RecordError { kind, len });
        }
        let Some(payload) = rest.get(..len as usize) else {
            return Ok(None);
        };
        self.taken += RECORD_HEADER_LEN + len as usize;
        Ok(Some(match (kind, payload) {
            (0, bytes) => Record::Control(bytes),
            (1, bytes) => Record::Bulk(bytes),
            (2, &[chunks]) => Record::Credit(chunks),
            (_, &[a, b, c, d]) => Record::Close(u32::from_le_bytes([a, b, c, d])),
            _ => return Err(RecordError { kind, len }),
        }))
    }
}

/// Puts chunks together from bytes cut anywhere. It never holds more than one chunk.
#[derive(Debug, Default)]
pub struct ChunkReader {
    header: Vec<u8>,
    chunk: Option<(ChunkHeader, Vec<u8>)>,
}

impl ChunkReader {
    /// Takes bytes from the front of `bytes` up to the end of a chunk, and gives it if it is whole.
    ///
    /// # Errors
    /// If a header names an impossible chunk. The stream cannot be read any further then.
    pub fn push(
        &mut self,
        bytes: &mut &[u8],
    ) -> Result<Option<(ChunkHeader, Vec<u8>)>, ChunkHeaderError> {
        if self.chunk.is_none() {
            let missing = ChunkHeader::LEN - self.header.len();
            self.header.extend_from_slice(take(bytes, missing));
            let Some(header) = self.header.first_chunk() else {
                return Ok(None);
            };
            let header = ChunkHeader::decode(header)?;
            self.header.clear();
            self.chunk = Some((header, Vec::with_capacity(header.len as usize)));
        }
        if let Some((header, payload)) = &mut self.chunk {
            payload.extend_from_slice(take(bytes, header.len as usize - payload.len()));
        }
        Ok(self
            .chunk
            .take_if(|(header, payload)| payload.len() == header.len as usize))
    }
}

fn take<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(bytes.len().min(most));
    *bytes = rest;
    taken
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::Digest;

    #[test]
    fn records_keep_their_bytes() {
        let mut bytes = Vec::new();
        Record::Control(b"abc").encode(&mut bytes);
        Record::Credit(7).encode(&mut bytes);
        Record::Close(0x0102).encode(&mut bytes);
        let expected = [
            &[0, 3, 0, 0, 0, b'a', b'b', b'c'][..], // control, 3 bytes
            &[2, 1, 0, 0, 0, 7],                    // credit, 1 byte
            &[3, 4, 0, 0, 0, 2, 1, 0, 0],           // close, 4 bytes
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn impossible_records_are_refused_before_their_payload() {
        for (kind, len) in [(0, 65_537), (1, u32::MAX), (2, 2), (3, 3), (4, 0), (255, 0)] {
            let mut reader = RecordReader::default();
            reader.push(&[kind]);
            reader.push(&len.to_le_bytes());
            assert_eq!(reader.poll(), Err(RecordError { kind, len }));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(11), cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn chunks_cut_anywhere_come_out_whole(
            lens in prop::collection::vec(1_u32..5000, 1..6),
            cuts in prop::collection::vec(1_usize..700, 1..40),
        ) {
            let mut wire = Vec::new();
            let mut sent = Vec::new();
            for (chunk, &len) in lens.iter().enumerate() {
                let header = ChunkHeader { blob: Digest::of(b"blob"), chunk: chunk as u64, len };
                let bytes = vec![chunk as u8; len as usize];
                let plain = [&header.encode()[..], &bytes].concat();
                for piece in plain.chunks(cuts[chunk % cuts.len()]) {
                    Record::Bulk(piece).encode(&mut wire);
                }
                sent.push((header, bytes));
            }
            let (mut records, mut chunks) = (RecordReader::default(), ChunkReader::default());
            let mut received = Vec::new();
            let mut cuts = cuts.iter().cycle();
            while !wire.is_empty() {
                let at = (*cuts.next().unwrap()).min(wire.len());
                records.push(&wire[..at]);
                wire.drain(..at);
                while let Some(record) = records.poll().unwrap() {
                    let Record::Bulk(mut bytes) = record else { unreachable!() };
                    while !bytes.is_empty() {
                        received.extend(chunks.push(&mut bytes).unwrap());
                    }
                }
            }
            prop_assert_eq!(received, sent);
        }

        #[test]
        fn no_bytes_make_the_readers_panic(noise in prop::collection::vec(any::<u8>(), 0..300)) {
            let (mut records, mut chunks) = (RecordReader::default(), ChunkReader::default());
            records.push(&noise);
            while let Ok(Some(_)) = records.poll() {}
            let mut rest = &noise[..];
            while !rest.is_empty() && chunks.push(&mut rest).is_ok() {}
        }
    }
}
