//! The consortium file: the signed, version-counted list of who belongs.
//!
//! It is a TOML file whose first line, a comment to TOML, carries the root key's signature over
//! every byte after it. The signature is checked before a byte of the rest is parsed.

use protocol::ids::NameError;
use protocol::{ConsortiumId, Role, SiteId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::ConsortiumError;
use crate::hex;
use crate::key::{PrivateKey, PublicKey};
use crate::member::{Member, Status};
use crate::time;

/// A consortium file whose signature and rules were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consortium {
    contents: Contents,
    /// The file as it was signed; never re-encoded.
    file: String,
}

impl Consortium {
    /// Longest file, in bytes: it must fit into one control frame.
    pub const MAX_BYTES: usize = 192 * 1024;

    /// Context of the root key's signature.
    pub const CONTEXT: &str = "consortium";

    /// Start of a consortium file.
    pub const MAGIC: &str = "#fmct-consortium-1 ";

    /// Reads a consortium file that `root` must have signed.
    ///
    /// # Errors
    /// [`ConsortiumError`]: too long, not signed by `root`, or not a well-formed list.
    pub fn read(file: &[u8], root: &PublicKey) -> Result<Self, ConsortiumError> {
        if file.len() > Self::MAX_BYTES {
            let (found, limit) = (file.len(), Self::MAX_BYTES);
            return Err(ConsortiumError::TooLong { found, limit });
        }
        let malformed = |what: &str| ConsortiumError::Malformed(what.to_owned());
        let text = str::from_utf8(file).map_err(|_| malformed("not UTF-8"))?;
        let (signature, body) = text
            .strip_prefix(Self::MAGIC)
            .and_then(|rest| rest.split_once('\n'))
            .ok_or_else(|| malformed("the first line is not its signature"))?;
        let signature = hex::decode::<{ PublicKey::SIGNATURE_LENGTH }>(signature)
            .ok_or_else(|| malformed("the signature is not 128 hexadecimal digits"))?;
        root.verify(Self::CONTEXT, body.as_bytes(), &signature)
            .map_err(|_| ConsortiumError::Signature)?;
        Ok(Self {
            contents: Contents::parse(body)?,
            file: text.to_owned(),
        })
    }

    /// Signs a list that was changed, as the version after `self`'s.
    pub(crate) fn sign(contents: Contents, root: &PrivateKey) -> Result<Self, ConsortiumError> {
        let body = contents.to_toml()?;
        let signature = root.sign(Self::CONTEXT, body.as_bytes());
        let file = format!("{}{}\n{body}", Self::MAGIC, hex::encode(&signature));
        Self::read(file.as_bytes(), &root.public())
    }

    /// The file, to be stored and sent on.
    pub fn as_bytes(&self) -> &[u8] {
        self.file.as_bytes()
    }

    /// Name of the consortium.
    pub fn id(&self) -> &ConsortiumId {
        &self.contents.id
    }

    /// Counts up by one with every change, from 1.
    pub fn version(&self) -> u64 {
        self.contents.version
    }

    /// When this version was made.
    pub fn issued(&self) -> Timestamp {
        self.contents.issued
    }

    /// Every key that was ever approved, in the order of approval.
    pub fn members(&self) -> &[Member] {
        &self.contents.members
    }

    /// The member who holds `key`.
    pub fn holder(&self, key: &PublicKey) -> Option<&Member> {
        self.members().iter().find(|member| member.key == *key)
    }

    /// The active member called `id`.
    pub fn active(&self, id: &SiteId) -> Option<&Member> {
        self.members()
            .iter()
            .find(|member| member.id == *id && member.status == Status::Active)
    }

    /// Refuses `newer` unless it may replace `self`: the same consortium, and the same file or a
    /// higher version.
    ///
    /// # Errors
    /// [`ConsortiumError::OtherConsortium`], [`ConsortiumError::Older`], or
    /// [`ConsortiumError::Forked`].
    pub fn accepts(&self, newer: &Self) -> Result<(), ConsortiumError> {
        if newer.id() != self.id() {
            return Err(ConsortiumError::OtherConsortium {
                found: newer.id().to_string(),
                expected: self.id().to_string(),
            });
        }
        let (found, seen) = (newer.version(), self.version());
        if found < seen {
            return Err(ConsortiumError::Older { found, seen });
        }
        if found == seen && newer.file != self.file {
            return Err(ConsortiumError::Forked { version: seen });
        }
        Ok(())
    }

    /// The list of the next version, to be changed and signed.
    pub(crate) fn next(&self, now: Timestamp) -> Contents {
        Contents {
            version: self.version() + 1,
            issued: now,
            ..self.contents.clone()
        }
    }
}

/// What a consortium file says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) id: ConsortiumId,
    pub(crate) version: u64,
    pub(crate) issued: Timestamp,
    pub(crate) members: Vec<Member>,
}

impl Contents {
    fn parse(body: &str) -> Result<Self, ConsortiumError> {
        let file: File = toml::from_str(body)
            .map_err(|error| ConsortiumError::Malformed(error.message().to_owned()))?;
        let members = file
            .members
            .into_iter()
            .map(Entry::check)
            .collect::<Result<Vec<_>, _>>()?;
        for (index, member) in members.iter().enumerate() {
            let earlier = &members[..index];
            let broken = |rule| {
                Err(ConsortiumError::Member {
                    name: member.id.to_string(),
                    rule,
                })
            };
            if earlier.iter().any(|other| other.key == member.key) {
                return broken("its key is listed twice");
            }
            let active = |other: &Member| other.status == Status::Active && other.id == member.id;
            if active(member) && earlier.iter().any(active) {
                return broken("two of its keys are active");
            }
        }
        if file.version == 0 {
            return Err(ConsortiumError::Malformed(
                "version 0, expected at least 1".to_owned(),
            ));
        }
        Ok(Self {
            id: file
                .consortium
                .parse()
                .map_err(|error: NameError| ConsortiumError::Malformed(error.to_string()))?,
            version: file.version,
            issued: time::parse_utc(&file.issued).ok_or_else(|| {
                ConsortiumError::Malformed(format!("issued {:?}, expected RFC 3339", file.issued))
            })?,
            members,
        })
    }

    fn to_toml(&self) -> Result<String, ConsortiumError> {
        let file = File {
            consortium: self.id.to_string(),
            version: self.version,
            issued: time::utc(self.issued),
            members: self.members.iter().map(Entry::from).collect(),
        };
        toml::to_string(&file).map_err(|error| ConsortiumError::Malformed(error.to_string()))
    }
}

/// The file as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    consortium: String,
    version: u64,
    issued: String,
    #[serde(default)]
    members: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    role: Role,
    key: String,
    status: Status,
    expires: String,
}

impl Entry {
    fn check(self) -> Result<Member, ConsortiumError> {
        let broken = |rule| ConsortiumError::Member {
            name: self.name.clone(),
            rule,
        };
        Ok(Member {
            id: self
                .name
                .parse()
                .map_err(|_| broken("its name is not a site's name"))?,
            role: self.role,
            key: self
                .key
                .parse()
                .map_err(|_| broken("its key is not ed25519:<64 digits>"))?,
            status: self.status,
            expires: time::parse_utc(&self.expires)
                .ok_or_else(|| broken("its expiry is not a time in RFC 3339"))?,
        })
    }
}

impl From<&Member> for Entry {
    fn from(member: &Member) -> Self {
        Self {
            name: member.id.to_string(),
            role: member.role,
            key: member.key.to_string(),
            status: member.status,
            expires: time::utc(member.expires),
        }
    }
}
