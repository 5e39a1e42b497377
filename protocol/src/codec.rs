//! Frames: how a message becomes bytes on the control channel, and back.
//!
//! ```text
//! ┌────────────┬─────────┬─────┬──────┐
//! │ length u32 │ version │ tag │ body │   length, little-endian, counts version, tag and body
//! └────────────┴─────────┴─────┴──────┘
//! ```
//!
//! Version and tag stand outside of the body's encoding, bincode 2 `standard()`: little-endian,
//! integers of variable length. The fence around it: the length is checked before a byte of the
//! body is kept, decoding has a limit, every byte must be used, and the types bound their lists.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};

use crate::message::Message;
use crate::version::Version;

/// Longest frame, its length field not counted, in bytes.
pub const MAX_FRAME_LEN: usize = 256 << 10;
/// Bytes of the length field.
pub const LENGTH_LEN: usize = 4;

/// Why bytes are not a message, or a message does not fit a frame.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// More than a frame holds.
    #[error("frame: {len} bytes, expected at most {MAX_FRAME_LEN}")]
    Oversized {
        /// Bytes found.
        len: usize,
    },
    /// Less than a frame needs.
    #[error("frame: {len} bytes are too few")]
    Truncated {
        /// Bytes found.
        len: usize,
    },
    /// Another version than the handshake agreed on.
    #[error("frame: version {found}, expected {expected}")]
    Version {
        /// The version found.
        found: u8,
        /// The version agreed on.
        expected: u8,
    },
    /// A tag that names no message.
    #[error("frame: unknown tag {found}")]
    Tag {
        /// The tag found.
        found: u8,
    },
    /// A body that is not what the tag says.
    #[error("body: {0}")]
    Body(String),
    /// Bytes after the end of the body.
    #[error("body: {unused} bytes too many")]
    Trailing {
        /// How many.
        unused: usize,
    },
}

/// The frame of a message in the version agreed on, its length field included.
///
/// # Errors
/// If it would be longer than [`MAX_FRAME_LEN`].
pub fn encode(message: &Message, version: Version) -> Result<Vec<u8>, CodecError> {
    let mut frame = vec![0; LENGTH_LEN];
    frame.extend([version.number(), message.tag()]);
    message.encode_body(&mut frame)?;
    let len = frame.len() - LENGTH_LEN;
    if len > MAX_FRAME_LEN {
        return Err(CodecError::Oversized { len });
    }
    // At most MAX_FRAME_LEN, so it fits.
    frame[..LENGTH_LEN].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(frame)
}

/// The message in a frame, without its length field.
///
/// # Errors
/// If the bytes are not exactly one message of the version agreed on.
pub fn decode(frame: &[u8], version: Version) -> Result<Message, CodecError> {
    let len = frame.len();
    if len > MAX_FRAME_LEN {
        return Err(CodecError::Oversized { len });
    }
    let [found, tag, body @ ..] = frame else {
        return Err(CodecError::Truncated { len });
    };
    let (found, expected) = (*found, version.number());
    if found != expected {
        return Err(CodecError::Version { found, expected });
    }
    Message::decode_body(*tag, body)
}

/// Cuts a stream of bytes into frames.
///
/// Push bytes as they come, then poll until there is no more message. It never holds more than one
/// frame and one push.
#[derive(Debug)]
pub struct FrameReader {
    version: Version,
    buffer: Vec<u8>,
    /// Bytes at the start of `buffer` that were polled already.
    taken: usize,
}

impl FrameReader {
    /// A stream of frames of the version agreed on.
    pub const fn new(version: Version) -> Self {
        Self {
            version,
            buffer: Vec::new(),
            taken: 0,
        }
    }

    /// Appends bytes from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// If a frame is not a message. The stream cannot be read any further then.
    pub fn poll(&mut self) -> Result<Option<Message>, CodecError> {
        let rest = &self.buffer[self.taken..];
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_LEN>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*length) as usize;
        if len > MAX_FRAME_LEN {
            return Err(CodecError::Oversized { len });
        }
        let Some(frame) = rest.get(..len) else {
            return Ok(None);
        };
        let message = decode(frame, self.version)?;
        self.taken += LENGTH_LEN + len;
        Ok(Some(message))
    }

    /// Whether the stream may end here: no frame is begun.
    pub fn is_at_boundary(&self) -> bool {
        self.taken == self.buffer.len()
    }
}

/// The body of `value`.
pub(crate) fn encode_body<T: Encode>(value: &T) -> Result<Vec<u8>, CodecError> {
    bincode::encode_to_vec(value, CONFIG).map_err(|error| CodecError::Body(error.to_string()))
}

/// The value of exactly `body`.
pub(crate) fn decode_body<T: Decode<()>>(body: &[u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::decode_from_slice(body, CONFIG)
        .map_err(|error| CodecError::Body(error.to_string()))?;
    match body.len() - used {
        0 => Ok(value),
        unused => Err(CodecError::Trailing { unused }),
    }
}

/// The only configuration. Its limit counts what decoding takes in memory.
const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_FRAME_LEN>> =
    bincode::config::standard().with_limit::<MAX_FRAME_LEN>();
