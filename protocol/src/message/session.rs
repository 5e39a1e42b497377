//! Who is there, and membership.

use bincode::{Decode, Encode};

use crate::bounded::{List, Text};
use crate::ids::{ConsortiumId, Digest};
use crate::time::Timestamp;

/// Longest consortium file, in bytes.
pub const MAX_CONSORTIUM_LEN: usize = 192 << 10;
/// Longest certificate or request for one, in bytes of DER.
pub const MAX_CERTIFICATE_LEN: usize = 4096;

/// A member introduces itself.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Hello {
    /// Name and version of the program, for people.
    pub software: Text<64>,
    /// The consortium it means.
    pub consortium: ConsortiumId,
    /// Version of the newest consortium file it has seen.
    pub consortium_version: u64,
    /// Its clock.
    pub time: Timestamp,
}

/// The coordinator's answer.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Welcome {
    /// Name and version of the program, for people.
    pub software: Text<64>,
    /// Version of its consortium file; the file follows if the member's is older.
    pub consortium_version: u64,
    /// Its clock.
    pub time: Timestamp,
}

/// Sent by both ends at a fixed interval.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Heartbeat {
    /// Counts up on each connection.
    pub sequence: u64,
    /// The newest sequence number heard from the peer; 0 before the first.
    pub heard: u64,
}

/// A consortium file, as its root signed it.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Consortium {
    /// The file.
    pub file: List<u8, MAX_CONSORTIUM_LEN>,
}

/// Asks for a new certificate.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Renew {
    /// Certificate signing request (RFC 2986), DER.
    pub request: List<u8, MAX_CERTIFICATE_LEN>,
}

/// The new certificate.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Renewed {
    /// X.509 (RFC 5280), DER.
    pub certificate: List<u8, MAX_CERTIFICATE_LEN>,
}

/// Asks for bulk bytes of no meaning, to measure the path. They come as chunks of no blob,
/// [`Probe::BLOB`]; a site may send the same, and they are thrown away.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Probe {
    /// How many; the coordinator sends at most [`Probe::MAX_LEN`], and answers one probe at a time.
    pub bytes: u64,
}

impl Probe {
    /// What stands in the headers of its chunks: no blob has this digest.
    pub const BLOB: Digest = Digest::new([0; Digest::LEN]);
    /// Most bytes of an answer: 32 MiB.
    pub const MAX_LEN: u64 = 32 << 20;
}

/// Asks for an overview.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Watch {
    /// Whether to send one whenever something changes, until the connection ends.
    pub follow: bool,
}

/// What `status` shows.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Overview {
    /// JSON.
    pub json: List<u8, MAX_CONSORTIUM_LEN>,
}
