//! Who and what a message is about: names, rounds, roles.

use std::fmt;
use std::str::FromStr;

use bincode::de::Decoder;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

mod digest;

pub use digest::{Digest, DigestError};

/// Longest name of a consortium, run or site, in bytes.
pub const MAX_NAME_LEN: usize = 63;

/// Why a name was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// Not between 1 and [`MAX_NAME_LEN`] bytes.
    #[error("{kind} name: {found} bytes long, expected 1 to {MAX_NAME_LEN}")]
    Length {
        /// What was to be named.
        kind: &'static str,
        /// Bytes found.
        found: usize,
    },
    /// A character outside `a-z`, `0-9` and `-`, or a `-` at either end.
    #[error("{kind} name {name:?}: only a-z, 0-9 and inner '-' are allowed")]
    Character {
        /// What was to be named.
        kind: &'static str,
        /// The name found.
        name: String,
    },
}

fn check_name(kind: &'static str, name: &str) -> Result<(), NameError> {
    if name.is_empty() || name.len() > MAX_NAME_LEN {
        return Err(NameError::Length {
            kind,
            found: name.len(),
        });
    }
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if !name.bytes().all(allowed) || name.starts_with('-') || name.ends_with('-') {
        return Err(NameError::Character {
            kind,
            name: name.to_owned(),
        });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        ///
        /// 1 to 63 of `a-z`, `0-9` and `-`, not starting or ending with `-`: a DNS label
        /// (RFC 1123), so that it can stand in host names, file names and certificates as it is.
        #[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd, Encode, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks a name.
            ///
            /// # Errors
            /// If it is empty, too long or has other characters.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                check_name($kind, &name)?;
                Ok(Self(name))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<Context> Decode<Context> for $name {
            fn decode<D: Decoder<Context = Context>>(
                decoder: &mut D,
            ) -> Result<Self, bincode::error::DecodeError> {
                Self::new(String::decode(decoder)?)
                    .map_err(|error| bincode::error::DecodeError::OtherString(error.to_string()))
            }
        }

        bincode::impl_borrow_decode!($name);
    };
}

name! {
    /// A group of hospitals under one root key.
    ConsortiumId, "consortium"
}

name! {
    /// One training run: a plan, launched.
    RunId, "run"
}

name! {
    /// A hospital. Over the network it is only ever taken from a verified certificate.
    SiteId, "site"
}

/// What a certificate allows its holder to be.
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Launches runs, stages updates, aggregates.
    Coordinator,
    /// Trains on its own scans.
    Site,
    /// Reads status, nothing else.
    Observer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Coordinator => "coordinator",
            Self::Site => "site",
            Self::Observer => "observer",
        })
    }
}

/// Number of a round within its run, from 1; 0 is the state before the first.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
    Encode,
    Decode,
    Serialize,
    Deserialize,
)]
#[serde(transparent)]
pub struct Round(pub u32);

impl Round {
    /// The round after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "north", "site-7", "0", &"x".repeat(63)] {
            assert_eq!(SiteId::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a_b",
            "a.b",
            "ä",
            "a b",
            "../x",
            &"x".repeat(64),
        ] {
            assert!(SiteId::new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_refused_name_says_what_and_why() {
        let error = RunId::new("Run 7").unwrap_err();
        assert_eq!(
            error.to_string(),
            "run name \"Run 7\": only a-z, 0-9 and inner '-' are allowed"
        );
        let error = ConsortiumId::new("").unwrap_err();
        assert_eq!(
            error.to_string(),
            "consortium name: 0 bytes long, expected 1 to 63"
        );
    }

    #[test]
    fn rounds_count_up_and_stop_at_the_end() {
        assert_eq!(Round::default().next(), Round(1));
        assert_eq!(Round(u32::MAX).next(), Round(u32::MAX));
    }
}
