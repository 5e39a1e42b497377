//! Facts in, decisions out. Events are what the journal holds; actions are never journalled, they
//! follow from events.

use std::collections::BTreeMap;
use std::fmt;

use protocol::message::Reason;
use protocol::{Digest, Round, SiteId};
use serde::{Deserialize, Serialize};

/// A model between two rounds, and what the server must remember with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Round that made it; 0 for the initial one.
    pub round: Round,
    /// Global step it stands at.
    pub step: u64,
    /// The model, as sites get it.
    pub model: Digest,
    /// The server optimizer's moments, where the strategy has any; never published.
    pub moments: Option<Digest>,
}

/// A site's finished work, staged and validated.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// Round it is for.
    pub round: Round,
    /// Model it started from.
    pub base: Digest,
    /// The staged bytes.
    pub blob: Digest,
    /// The site's signed manifest of them.
    pub manifest: Digest,
    /// The coordinator's signed receipt for them.
    pub receipt: Digest,
    /// How many bytes.
    pub bytes: u64,
    /// Examples trained on.
    pub examples: u64,
    /// Optimizer steps taken.
    pub steps: u64,
    /// Euclidean norm of the change of weights, as the coordinator measured it.
    pub norm: Exact,
}

/// A float that survives the journal bit for bit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Exact(u64);

impl From<f64> for Exact {
    fn from(value: f64) -> Self {
        Self(value.to_bits())
    }
}

impl From<Exact> for f64 {
    fn from(exact: Exact) -> Self {
        Self::from_bits(exact.0)
    }
}

/// What a site found when it evaluated a model on its own held-out patients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// One entry for each task the site may report.
    pub tasks: Vec<TaskReport>,
}

/// One task at one site: counts and score histograms, never a score.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Disease, as the plan names it.
    pub task: String,
    /// Patients with the disease, by score bin.
    pub positive: Vec<u32>,
    /// Patients without it, by score bin.
    pub negative: Vec<u32>,
    /// Area under the ROC curve from the site's own scores; `None` where the site's policy
    /// withholds it.
    pub auc: Option<Exact>,
}

/// What happened, in the order it happened.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A global model of the round was made and is on disk.
    Aggregated {
        /// The new model.
        checkpoint: Checkpoint,
        /// Euclidean norm of the folded change.
        delta_norm: Exact,
    },
    /// The round's deadline passed.
    DeadlinePassed,
    /// A site will not finish this round, or the evaluation of its model.
    Dropped {
        /// The site.
        site: SiteId,
        /// Why.
        reason: Dropped,
    },
    /// A site's evaluation arrived.
    Evaluated {
        /// The site.
        site: SiteId,
        /// Round of the model it evaluated.
        round: Round,
        /// What it found.
        report: Report,
    },
    /// Evaluation has waited long enough.
    EvaluationClosed,
    /// A round with a quorum has waited long enough for more sites.
    GatherClosed,
    /// A site connected and has approved the plan.
    Joined {
        /// The site.
        site: SiteId,
    },
    /// The run exists. Always the first event.
    Launched {
        /// Where it starts.
        checkpoint: Checkpoint,
    },
    /// A site's connection ended.
    Left {
        /// The site.
        site: SiteId,
    },
    /// The round's record is signed.
    Published {
        /// Signature of the coordinator over the record of the round.
        signature: Signature,
    },
    /// Something a site sent was turned down.
    Refused {
        /// The site.
        site: SiteId,
        /// Round it was about.
        round: Round,
        /// Why.
        reason: Reason,
    },
    /// The coordinator process started again: nobody is connected.
    Restarted,
    /// A validated update is durable.
    Staged {
        /// The site it is from.
        site: SiteId,
        /// The update.
        update: Update,
    },
    /// Somebody ended the run before its last round.
    Stopped,
}

/// Bytes of a signature, as hexadecimal text in the journal.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signature(pub String);

impl From<[u8; 64]> for Signature {
    fn from(bytes: [u8; 64]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl Signature {
    /// The signature's bytes; `None` if the text is not one.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let pairs = self.0.as_bytes().chunks(2);
        pairs
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
            .collect()
    }
}

/// Why a site is out of a round or an evaluation. It is in the run still.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Dropped {
    /// The round's deadline passed first.
    Deadline,
    /// The site said that it cannot.
    Failed {
        /// Its own words; a site scrubs them of patient data.
        reason: String,
    },
    /// No progress for the plan's idle timeout.
    Idle,
    /// The site was shut out of the consortium: what it has staged does not count either.
    Revoked,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline => f.write_str("deadline passed"),
            Self::Failed { reason } => write!(f, "failed: {reason}"),
            Self::Idle => f.write_str("no progress"),
            Self::Revoked => f.write_str("revoked"),
        }
    }
}

/// What the shell is to do. Each may come again after a restart, so doing one twice must be the
/// same as doing it once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Fold the staged updates into the next model, then say [`Event::Aggregated`].
    Aggregate {
        /// Round the result belongs to.
        round: Round,
        /// Model the updates started from.
        base: Checkpoint,
        /// Updates in the canonical order of sites.
        updates: BTreeMap<SiteId, Update>,
    },
    /// Have a site evaluate the model.
    Evaluate {
        /// The site.
        site: SiteId,
        /// The model.
        checkpoint: Checkpoint,
    },
    /// The run is over; tell every connected site.
    Finish {
        /// The run's result.
        checkpoint: Checkpoint,
    },
    /// Sign the round's record and let go of blobs nobody needs, then say [`Event::Published`].
    Publish {
        /// The new model.
        checkpoint: Checkpoint,
    },
    /// Have a site train.
    Train {
        /// The site.
        site: SiteId,
        /// Round the work is for.
        round: Round,
        /// Model to start from.
        base: Checkpoint,
    },
    /// Have a site stop: its work for this round is no longer wanted.
    Withdraw {
        /// The site.
        site: SiteId,
        /// Why.
        reason: Dropped,
    },
}
