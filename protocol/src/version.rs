//! Versions of the protocol, and the codes a connection is closed with.

use std::fmt;
use std::num::NonZeroU8;

/// A version of the protocol, named by ALPN in the handshake and by its number in each frame.
///
/// | version | since | what changed |
/// |---|---|---|
/// | 1 | 2026-11 | the first |
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Version(NonZeroU8);

impl Version {
    /// The newest version.
    pub const NEWEST: Self = Self(NonZeroU8::MIN);

    /// The version of that number.
    pub const fn new(number: NonZeroU8) -> Self {
        Self(number)
    }

    /// Name in the TLS handshake (RFC 7301).
    pub fn alpn(self) -> Vec<u8> {
        format!("fmct/{}", self.0).into_bytes()
    }

    /// Number in each frame.
    pub const fn number(self) -> u8 {
        self.0.get()
    }
}

/// The versions a party speaks: the newest it knows and the one before it, so that the ends of a
/// consortium need not be upgraded on one day. Both ends take the newest that both speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Spoken {
    newest: Version,
}

impl Spoken {
    /// Of a party that knows no version after `newest`.
    pub const fn up_to(newest: Version) -> Self {
        Self { newest }
    }

    /// The preferred first.
    pub fn versions(self) -> impl Iterator<Item = Version> {
        let before = NonZeroU8::new(self.newest.number() - 1).map(Version);
        [Some(self.newest), before].into_iter().flatten()
    }

    /// Their names for the TLS handshake, the preferred first.
    pub fn alpn(self) -> Vec<Vec<u8>> {
        self.versions().map(Version::alpn).collect()
    }

    /// The version of that name, if it is spoken.
    pub fn named(self, alpn: &[u8]) -> Option<Version> {
        self.versions().find(|version| version.alpn() == alpn)
    }
}

impl Default for Spoken {
    fn default() -> Self {
        Self::up_to(Version::NEWEST)
    }
}

/// Why a connection was closed, as QUIC's application error code.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum CloseCode {
    /// Nothing more to say.
    Done,
    /// The process ends; come back later.
    Shutdown,
    /// Too many connections; come back later.
    Busy,
    /// Nothing was heard for the idle timeout.
    Idle,
    /// Bytes that are not this protocol.
    Malformed,
    /// A message that the peer's role may not send.
    NotAllowed,
    /// Not, or no longer, a member of the consortium.
    NotMember,
    /// The same identity connected again; the newer connection stays.
    Superseded,
}

impl CloseCode {
    const ALL: [Self; 8] = [
        Self::Done,
        Self::Shutdown,
        Self::Busy,
        Self::Idle,
        Self::Malformed,
        Self::NotAllowed,
        Self::NotMember,
        Self::Superseded,
    ];

    /// The number on the wire. Never changes.
    pub const fn number(self) -> u32 {
        match self {
            Self::Done => 0,
            Self::Shutdown => 1,
            Self::Busy => 2,
            Self::Idle => 3,
            Self::Malformed => 4,
            Self::NotAllowed => 5,
            Self::NotMember => 6,
            Self::Superseded => 7,
        }
    }

    /// The code of that number.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|code| u64::from(code.number()) == number)
    }

    /// Whether the same peer may succeed later.
    pub const fn is_temporary(self) -> bool {
        match self {
            Self::Done | Self::Shutdown | Self::Busy | Self::Idle => true,
            Self::Malformed | Self::NotAllowed | Self::NotMember | Self::Superseded => false,
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Shutdown => "peer shuts down",
            Self::Busy => "peer is busy",
            Self::Idle => "idle for too long",
            Self::Malformed => "malformed bytes",
            Self::NotAllowed => "message not allowed for this role",
            Self::NotMember => "not a member of the consortium",
            Self::Superseded => "superseded by a newer connection",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_keep_their_numbers() {
        for (number, code) in CloseCode::ALL.into_iter().enumerate() {
            assert_eq!(code.number() as usize, number);
            assert_eq!(CloseCode::from_number(number as u64), Some(code));
        }
        assert_eq!(CloseCode::from_number(8), None);
    }

    #[test]
    fn a_party_speaks_the_newest_version_it_knows_and_the_one_before() {
        let names = |newest| {
            let newest = Version::new(NonZeroU8::new(newest).unwrap());
            Spoken::up_to(newest).alpn()
        };
        assert_eq!(names(1), [b"fmct/1"]);
        assert_eq!(names(2), [b"fmct/2", b"fmct/1"]);
        assert_eq!(names(255), [b"fmct/255", b"fmct/254"]);
        assert_eq!(Spoken::default().alpn(), names(Version::NEWEST.number()));
    }

    #[test]
    fn only_spoken_versions_are_found_by_their_alpn() {
        let [first, third] = [1, 3].map(|number| Version::new(NonZeroU8::new(number).unwrap()));
        let spoken = Spoken::up_to(third);
        assert_eq!(spoken.named(b"fmct/3"), Some(third));
        assert_eq!(spoken.named(&first.alpn()), None);
        assert_eq!(spoken.named(b"fmct/03"), None);
        assert_eq!(spoken.named(b""), None);
    }
}
