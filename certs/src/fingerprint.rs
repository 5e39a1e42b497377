//! Fingerprints of keys and certificates, and how people compare them.

use std::fmt;
use std::str::FromStr;

use crate::error::KeyError;
use crate::{hex, key, words};

/// A SHA-256 digest of a public key or of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(key::sha256(bytes))
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 128 bits as sixteen words of the PGP word list, to be read out over the telephone.
    pub fn words(&self) -> String {
        let words: Vec<&str> = self.0[..Pin::WORDS]
            .iter()
            .enumerate()
            .map(|(position, byte)| words::word(position, *byte))
            .collect();
        words.join(" ")
    }
}

/// 64 hexadecimal digits, the same as `openssl x509 -fingerprint -sha256` without its colons.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// What somebody was told of a fingerprint: all 64 digits, or the sixteen words.
///
/// ```
/// # use certs::{Pin, PrivateKey};
/// let fingerprint = PrivateKey::generate()?.public().fingerprint();
/// let told: Pin = fingerprint.words().to_uppercase().parse()?;
/// assert!(told.matches(&fingerprint));
/// # Ok::<(), certs::KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Pin(Vec<u8>);

impl Pin {
    /// Words that a fingerprint is read out in: 128 bits, out of reach of a second pre-image.
    pub const WORDS: usize = 16;

    /// Whether `fingerprint` is the one that was told.
    pub fn matches(&self, fingerprint: &Fingerprint) -> bool {
        fingerprint.0.starts_with(&self.0)
    }
}

impl From<Fingerprint> for Pin {
    fn from(fingerprint: Fingerprint) -> Self {
        Self(fingerprint.0.to_vec())
    }
}

impl FromStr for Pin {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let digits = text.trim().replace(':', "");
        if let Some(bytes) = hex::decode::<32>(&digits) {
            return Ok(Self(bytes.to_vec()));
        }
        let spoken: Vec<&str> = text.split_ascii_whitespace().collect();
        if spoken.len() != Self::WORDS {
            return Err(KeyError::Fingerprint {
                found: spoken.len(),
            });
        }
        spoken
            .iter()
            .enumerate()
            .map(|(position, word)| {
                words::byte(position, word).ok_or_else(|| KeyError::FingerprintWord {
                    position: position + 1,
                    word: (*word).to_owned(),
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// The digits if all were told, else the words.
impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() == 32 {
            return f.write_str(&hex::encode(&self.0));
        }
        for (position, byte) in self.0.iter().enumerate() {
            let space = if position == 0 { "" } else { " " };
            write!(f, "{space}{}", words::word(position, *byte))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pin_is_taken_as_digits_colons_or_words() {
        let fingerprint = Fingerprint::of(b"root");
        let digits = fingerprint.to_string();
        let pairs: Vec<&str> = digits
            .as_bytes()
            .chunks(2)
            .map(|p| str::from_utf8(p).unwrap())
            .collect();
        for told in [
            digits.clone(),
            pairs.join(":").to_uppercase(),
            fingerprint.words(),
        ] {
            let pin: Pin = told.parse().unwrap();
            assert!(pin.matches(&fingerprint), "{told}");
            assert!(!pin.matches(&Fingerprint::of(b"another root")), "{told}");
            assert_eq!(pin.to_string().parse(), Ok(pin));
        }
    }

    #[test]
    fn shortened_or_misheard_fingerprint_is_refused() {
        let words = Fingerprint::of(b"root").words();
        let fifteen = words.rsplit_once(' ').unwrap().0;
        assert_eq!(
            fifteen.parse::<Pin>(),
            Err(KeyError::Fingerprint { found: 15 })
        );
        assert_eq!(
            "00ff".parse::<Pin>(),
            Err(KeyError::Fingerprint { found: 1 })
        );
        let swapped: Vec<&str> = words.split(' ').rev().collect();
        assert!(matches!(
            swapped.join(" ").parse::<Pin>(),
            Err(KeyError::FingerprintWord { position: 1, .. })
        ));
    }
}
