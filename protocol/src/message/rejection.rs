//! Refusals: typed, so that both ends can show and count them.

use std::fmt;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::bounded::Text;
use crate::ids::{Digest, Round, RunId};

/// Something was refused. It is the sender's fault, or its bad luck; it never ends a run.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Rejection {
    /// What was refused.
    pub subject: Subject,
    /// Why.
    pub reason: Reason,
}

/// What was refused.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub enum Subject {
    /// A blob, announced or asked for.
    Blob(Digest),
    /// The whole connection.
    Connection,
    /// Metrics of a round.
    Metrics(RunId, Round),
    /// A request to join.
    Plan(Digest),
    /// A request for a certificate.
    Renewal,
    /// A task.
    Task(RunId, Round),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(digest) => write!(f, "blob {digest:.8}"),
            Self::Connection => f.write_str("connection"),
            Self::Metrics(run, round) => write!(f, "metrics of {run}, round {round}"),
            Self::Plan(digest) => write!(f, "plan {digest:.8}"),
            Self::Renewal => f.write_str("renewal"),
            Self::Task(run, round) => write!(f, "task of {run}, round {round}"),
        }
    }
}

/// Why something was refused.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "why", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// Not now; later it may be.
    #[error("busy")]
    Busy,
    /// Too many chunks that did not match their hash.
    #[error("{count} chunks did not match their hash")]
    Damaged {
        /// How many.
        count: u32,
    },
    /// Examples out of the plan's bounds.
    #[error("examples must be 1 to {limit}, found {found}")]
    Examples {
        /// What the site said.
        found: u64,
        /// The plan's limit.
        limit: u64,
    },
    /// Contents that break a rule.
    #[error("{defect}")]
    Invalid {
        /// The rule, and what was found.
        #[serde(with = "text")]
        defect: Text<512>,
    },
    /// A manifest not signed by its sender, or of something else.
    #[error("manifest: {defect}")]
    Manifest {
        /// What is wrong with it.
        #[serde(with = "text")]
        defect: Text<512>,
    },
    /// The sender's role may not do this.
    #[error("not allowed for this role")]
    NotAllowed,
    /// Nobody asked for it.
    #[error("no open task: {phase}")]
    NotAsked {
        /// What the run is doing.
        #[serde(with = "text")]
        phase: Text<64>,
    },
    /// The plan does not name the site for this.
    #[error("site is not named in the plan for this")]
    NotInPlan,
    /// The site's policy forbids it.
    #[error("site policy: {rule}")]
    Policy {
        /// Which rule.
        #[serde(with = "text")]
        rule: Text<512>,
    },
    /// Another one of this round is staged already.
    #[error("update {staged} of this round is staged already")]
    Replayed {
        /// The one that counts.
        staged: Digest,
    },
    /// Steps out of the plan's bounds.
    #[error("local steps must be 1 to what the plan allows, found {found}")]
    Steps {
        /// What the site said.
        found: u64,
    },
    /// No room to store it.
    #[error("storage is full")]
    StorageFull,
    /// Longer than allowed.
    #[error("{found} bytes, expected at most {limit}")]
    TooLarge {
        /// Bytes announced.
        found: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// There is no such thing.
    #[error("unknown")]
    Unknown,
    /// It started from another model.
    #[error("starts from model {found}, expected {expected}")]
    WrongBase {
        /// The round's model.
        expected: Digest,
        /// What was found.
        found: Digest,
    },
    /// For another round.
    #[error("for round {found}, expected round {expected}")]
    WrongRound {
        /// The round in work.
        expected: Round,
        /// What was found.
        found: Round,
    },
    /// Of another model.
    #[error("schema {found}, expected {expected}")]
    WrongSchema {
        /// The run's schema.
        expected: Digest,
        /// What was found.
        found: Digest,
    },
}

/// Bounded texts as serde strings, for journals.
mod text {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::bounded::Text;

    pub(super) fn serialize<S: Serializer, const MAX: usize>(
        text: &Text<MAX>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, const MAX: usize>(
        deserializer: D,
    ) -> Result<Text<MAX>, D::Error> {
        String::deserialize(deserializer).map(|text| Text::lossy(&text))
    }
}
