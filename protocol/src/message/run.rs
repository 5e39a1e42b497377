//! Runs and rounds: what a site is asked, and what it says about its work.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::bounded::{List, Text};
use crate::ids::{Digest, Round, RunId};
use crate::signed::{Signed, Statement};
use crate::time::Timestamp;
use crate::transfer::BlobRef;

/// A run that was launched: what the coordinator signs, and the plan it is about.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Plan {
    /// The coordinator's word that this run has this plan.
    pub launch: Signed<Launch>,
    /// The plan file, byte for byte; its digest is in `launch`.
    pub text: List<u8, { 64 << 10 }>,
}

/// Binds a run to its plan.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Launch {
    /// The run.
    pub run: RunId,
    /// Digest of the plan file, which sites approve.
    pub plan: Digest,
    /// Schema of the model.
    pub schema: Digest,
    /// When it was launched.
    pub at: Timestamp,
}

impl Statement for Launch {
    const CONTEXT: &'static str = "launch";
}

/// A site takes part in a run.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Join {
    /// The run.
    pub run: RunId,
    /// The plan it approved.
    pub plan: Digest,
    /// Patients it can train on.
    pub examples: u64,
}

/// A site takes no part in a run any longer.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Leave {
    /// The run.
    pub run: RunId,
    /// Why, for people.
    pub reason: Text<512>,
}

/// Work for one round.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Task {
    /// The run.
    pub run: RunId,
    /// The round.
    pub round: Round,
    /// The plan, which the site must have approved.
    pub plan: Digest,
    /// What to do.
    pub work: Work,
    /// The model to start from.
    pub model: BlobRef,
    /// Global step the model stands at.
    pub step: u64,
    /// When the result is no longer wanted.
    pub deadline: Timestamp,
}

/// What to do with a model.
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Train it, and send the update.
    Train,
    /// Evaluate it on the site's own held-out patients, and send metrics.
    Evaluate,
}

/// Work is no longer wanted.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Withdraw {
    /// The run.
    pub run: RunId,
    /// The round.
    pub round: Round,
    /// Why.
    pub reason: Withdrawal,
}

/// Why work is no longer wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Withdrawal {
    /// The round's deadline passed.
    Deadline,
    /// No progress for the plan's idle timeout.
    Idle,
    /// The run was stopped.
    Stopped,
}

/// A site cannot do its task.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Failed {
    /// The run.
    pub run: RunId,
    /// The round.
    pub round: Round,
    /// Why, for people; without anything of a patient.
    pub reason: Text<512>,
}

/// Where a site is in its task.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Status {
    /// The run.
    pub run: RunId,
    /// The round.
    pub round: Round,
    /// What it is doing.
    pub doing: Doing,
    /// Steps, patients or bytes done.
    pub done: u64,
    /// Steps, patients or bytes in all.
    pub total: u64,
}

/// What a site is doing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    /// Waiting for the next task.
    #[default]
    Waiting,
    /// Fetching the model; counts bytes.
    Fetching,
    /// Training; counts steps.
    Training,
    /// Evaluating; counts patients.
    Evaluating,
    /// Sending its update; counts bytes.
    Uploading,
}

/// What a site measured in one round.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Metrics {
    /// The run.
    pub run: RunId,
    /// The round.
    pub round: Round,
    /// The model it is about.
    pub model: Digest,
    /// Means over many examples, a loss for instance.
    pub scalars: List<Scalar, 64>,
    /// One entry for each disease evaluated; more than 16 are sent in several messages.
    pub tasks: List<TaskMetrics, 16>,
}

/// One mean.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Scalar {
    /// What was averaged.
    pub name: Text<64>,
    /// The mean.
    pub value: f64,
    /// Over how many.
    pub count: u64,
}

/// One disease at one site: counts by score bin, never a score.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct TaskMetrics {
    /// The disease, as the plan names it.
    pub task: Text<64>,
    /// Patients with the disease, by score bin.
    pub positive: List<u32, 1024>,
    /// Patients without it, by score bin.
    pub negative: List<u32, 1024>,
    /// Area under the ROC curve from the site's own scores, unless its policy withholds it.
    pub auc: Option<f64>,
}

/// A run is over.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub struct Finish {
    /// The run.
    pub run: RunId,
    /// Its last round.
    pub round: Round,
    /// Its result.
    pub model: BlobRef,
}
