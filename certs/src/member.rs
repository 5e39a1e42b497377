//! Members of a consortium: who holds which key, in which role.

use std::fmt;

use protocol::{ConsortiumId, Role, SiteId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::key::PublicKey;

/// One key of the consortium file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Whose key it is.
    pub id: SiteId,
    /// What its holder may do.
    pub role: Role,
    /// The key.
    pub key: PublicKey,
    /// Whether it still counts.
    pub status: Status,
    /// When the last certificate issued for it, as of this file, runs out. Not held against the
    /// coordinator, whose certificate may be newer than the file.
    pub expires: Timestamp,
}

/// Whether a key still speaks for its member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It does.
    Active,
    /// It does not, and never will again.
    Revoked,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Revoked => "revoked",
        })
    }
}

/// The DNS name that every coordinator certificate of a consortium carries, wherever the
/// coordinator runs. `internal` is reserved for private use (ICANN board resolution 2024.07.29.06).
pub fn server_name(consortium: &ConsortiumId) -> String {
    format!("{consortium}.fmct.internal")
}
