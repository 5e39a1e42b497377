//! Content addresses: BLAKE3, 32 bytes, written as 64 hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// BLAKE3 of some bytes. A blob's digest is what `b3sum` prints for the file.
#[derive(
    Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd, Encode, Decode, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; Self::LEN]);

impl Digest {
    /// Bytes of a digest.
    pub const LEN: usize = 32;

    /// The digest with these bytes.
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Hashes `bytes` for one purpose: digests of different contexts never collide.
    ///
    /// `context` is a fixed text, unique to its purpose (BLAKE3's key derivation mode).
    pub fn derived(context: &'static str, bytes: &[u8]) -> Self {
        Self(blake3::derive_key(context, bytes))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl From<[u8; Self::LEN]> for Digest {
    fn from(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash.into())
    }
}

/// Text that is not 64 hexadecimal digits.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("digest {found:?}: expected 64 hexadecimal digits")]
pub struct DigestError {
    /// The text found.
    pub found: String,
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        blake3::Hash::from_hex(text)
            .map(Self::from)
            .map_err(|_| DigestError {
                found: text.to_owned(),
            })
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

/// The first 8 digits: enough to tell apart in logs.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:.8}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_that_of_b3sum() {
        let digest = Digest::of(b"");
        let text = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(format!("{digest:?}"), "af1349b9");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "af13", &"g".repeat(64), &"0".repeat(65)] {
            let error = text.parse::<Digest>().unwrap_err();
            assert_eq!(error.found, text);
        }
    }

    #[test]
    fn contexts_are_apart() {
        assert_ne!(
            Digest::derived("fmct test a", b"x"),
            Digest::derived("fmct test b", b"x")
        );
        assert_ne!(Digest::derived("fmct test a", b"x"), Digest::of(b"x"));
    }
}
