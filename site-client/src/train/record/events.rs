//! TensorBoard event files, so that any TensorBoard shows a run as it goes.
//!
//! Source: TensorFlow's `tfrecord` framing (length, masked CRC-32C, data, masked CRC-32C) around
//! `Event` messages of `event.proto`. Only scalars are written; the few protobuf fields are encoded
//! by hand rather than through a generator.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// An open event file.
#[derive(Debug)]
pub struct EventFile {
    file: File,
}

impl EventFile {
    /// Starts a new event file in `dir` for the steps from `first` on.
    ///
    /// A resumed run adds a second file, which TensorBoard joins; what the first holds of later
    /// steps, which are done again, TensorBoard drops.
    ///
    /// # Errors
    ///
    /// The folder or the file cannot be made.
    pub fn create(dir: &Path, first: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let now = seconds();
        let name = format!("events.out.tfevents.{:.6}.fmct.{}", now, std::process::id());
        let mut events = Self {
            file: File::create(dir.join(name))?,
        };
        events.write(&version_event(now))?;
        events.write(&start_event(now, first))?;
        Ok(events)
    }

    /// Adds the scalars of one step; each is a tag and its value.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> io::Result<()> {
        self.write(&scalar_event(seconds(), step, values))
    }

    fn write(&mut self, event: &[u8]) -> io::Result<()> {
        self.file.write_all(&record(event))?;
        self.file.flush()
    }
}

fn seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// One framed record.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut framed = Vec::with_capacity(data.len() + 16);
    framed.extend(length);
    framed.extend(masked(crc32c(&length)).to_le_bytes());
    framed.extend(data);
    framed.extend(masked(crc32c(data)).to_le_bytes());
    framed
}

fn version_event(wall_time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    double(&mut event, 1, wall_time);
    bytes(&mut event, 3, b"brain.Event:2");
    event
}

/// A session that starts at `step`.
fn start_event(wall_time: f64, step: u64) -> Vec<u8> {
    const START: u64 = 1;
    let mut session = Vec::new();
    key(&mut session, 1, 0);
    varint(&mut session, START);
    let mut event = Vec::new();
    double(&mut event, 1, wall_time);
    key(&mut event, 2, 0);
    varint(&mut event, step);
    bytes(&mut event, 7, &session);
    event
}

fn scalar_event(wall_time: f64, step: u64, values: &[(&str, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in values {
        let mut entry = Vec::new();
        bytes(&mut entry, 1, tag.as_bytes());
        // `simple_value` is a float in the format.
        key(&mut entry, 2, 5);
        entry.extend((*value as f32).to_le_bytes());
        bytes(&mut summary, 1, &entry);
    }
    let mut event = Vec::new();
    double(&mut event, 1, wall_time);
    key(&mut event, 2, 0);
    varint(&mut event, step);
    bytes(&mut event, 5, &summary);
    event
}

/// A protobuf field key: number and wire type (0 varint, 1 eight bytes, 2 bytes, 5 four bytes).
fn key(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(out, field << 3 | wire_type);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend(value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

/// The mask keeps a checksum of data that holds checksums from being weak.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), RFC 3720 appendix B.4.
fn crc32c(data: &[u8]) -> u32 {
    const REVERSED_POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut crc = u32::MAX;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let low_bit_mask = (crc & 1).wrapping_neg();
            crc = crc >> 1 ^ REVERSED_POLYNOMIAL & low_bit_mask;
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_matches_the_vectors_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn a_scalar_event_has_the_fields_of_event_proto() {
        let event = scalar_event(1.0, 300, &[("loss", 2.0)]);
        let expected: &[&[u8]] = &[
            &[0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f], // wall_time = 1.0
            &[0x10, 0xac, 0x02],                   // step = 300
            &[0x2a, 0x0d, 0x0a, 0x0b],             // summary { value {
            &[0x0a, 0x04, b'l', b'o', b's', b's'], // tag = "loss"
            &[0x15, 0, 0, 0, 0x40],                // simple_value = 2.0 } }
        ];
        assert_eq!(event, expected.concat());
        let event = start_event(1.0, 5);
        let expected: &[&[u8]] = &[
            &[0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f], // wall_time = 1.0
            &[0x10, 5],                            // step = 5
            &[0x3a, 2, 0x08, 1],                   // session_log { status = START }
        ];
        assert_eq!(event, expected.concat());
    }

    #[test]
    fn records_frame_their_data_and_two_files_of_one_run_do_not_collide() {
        let framed = record(b"abc");
        assert_eq!(framed.len(), 8 + 4 + 3 + 4);
        assert_eq!(framed[..8], 3u64.to_le_bytes());
        assert_eq!(framed[12..15], *b"abc");

        let dir = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(dir.path(), 1).unwrap();
        events.scalars(1, &[("loss", 0.5), ("rate", 3.0)]).unwrap();
        let file = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap();
        assert!(
            file.file_name()
                .to_string_lossy()
                .starts_with("events.out.tfevents.")
        );
        assert!(file.metadata().unwrap().len() > 60);
    }
}
