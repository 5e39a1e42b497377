//! Versions of the protocol, and the codes a connection is closed with.

use std::fmt;

/// A version of the protocol, named by ALPN in the handshake.
///
/// A party speaks the newest version and the one before it, and prefers the newest.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Version {
    /// 2026-11: the first.
    V1,
}

impl Version {
    /// Every version there has been, the newest first.
    pub const HISTORY: &'static [Self] = &[Self::V1];
    /// The newest version.
    pub const NEWEST: Self = Self::HISTORY[0];

    /// The versions spoken, the preferred first: the newest and the one before it.
    pub fn spoken() -> impl ExactSizeIterator<Item = Self> {
        Self::HISTORY.iter().copied().take(2)
    }

    /// Name in the TLS handshake (RFC 7301).
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Self::V1 => b"fmct/1",
        }
    }

    /// The version of that name, if it is spoken.
    pub fn from_alpn(alpn: &[u8]) -> Option<Self> {
        Self::spoken().find(|version| version.alpn() == alpn)
    }

    /// Number in each frame.
    pub const fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
        }
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
    fn versions_are_found_by_their_alpn() {
        assert_eq!(Version::from_alpn(b"fmct/1"), Some(Version::V1));
        assert_eq!(Version::from_alpn(b"fmct/0"), None);
        assert_eq!(Version::spoken().next(), Some(Version::NEWEST));
    }
}
