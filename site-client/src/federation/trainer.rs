//! What the federation asks of training code, and what training code gives back.

use std::ops::ControlFlow;
use std::path::Path;

use protocol::plan::Plan;
use protocol::{Params, Round, RunId, Schema, SiteId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::round::Started;

/// The science of a site: trains and evaluates models on the site's own patients.
///
/// For the same job a trainer gives the same result, so that work redone after a crash is the
/// work that was lost.
pub trait Trainer: Send {
    /// Names and shapes of the model the plan trains, statistics included.
    ///
    /// # Errors
    /// If the plan's model is not one this site knows.
    fn schema(&mut self, plan: &Plan) -> Result<Schema, TrainError>;

    /// Trains for one round.
    ///
    /// # Errors
    /// If training is impossible here, or was canceled through `flow`.
    fn train(&mut self, job: &TrainJob<'_>, flow: &mut Flow<'_>) -> Result<Trained, TrainError>;

    /// Evaluates a model on held-out patients.
    ///
    /// # Errors
    /// If evaluation is impossible here, or was canceled through `flow`.
    fn evaluate(
        &mut self,
        job: &EvaluateJob<'_>,
        flow: &mut Flow<'_>,
    ) -> Result<Report, TrainError>;
}

/// Called after each step (or patient) with those done and those in all; `Break` means stop.
pub type Flow<'a> = dyn FnMut(u64, u64) -> ControlFlow<()> + 'a;

/// One round of training.
pub struct TrainJob<'a> {
    /// The run.
    pub run: &'a RunId,
    /// This site.
    pub site: &'a SiteId,
    /// What to do.
    pub plan: &'a Plan,
    /// The round.
    pub round: Round,
    /// Global step at which it starts.
    pub first_step: u64,
    /// Where to start from.
    pub start: &'a Started,
    /// A directory that lasts from round to round, with what the trainer kept at the end of its
    /// last counted round, byte for byte; empty before the first.
    pub kept: &'a Path,
    /// An empty directory for what the trainer keeps at the end of this one, for instance
    /// optimizer moments, in files and no folders. They are synced before the update may leave, and
    /// replace `kept` when it has arrived.
    pub keep: &'a Path,
}

/// One evaluation.
pub struct EvaluateJob<'a> {
    /// The run.
    pub run: &'a RunId,
    /// This site.
    pub site: &'a SiteId,
    /// What to evaluate, and by which tasks.
    pub plan: &'a Plan,
    /// Round that made the model.
    pub round: Round,
    /// The network to score, all tensors: the one that the coordinator exports.
    pub params: &'a Params,
}

/// The result of one round of training.
pub struct Trained {
    /// All tensors, after the last step.
    pub params: Params,
    /// DINO: the teacher's tensors after the last step, where the plan leaves it to sites.
    pub teacher: Option<Params>,
    /// Examples seen.
    pub examples: u64,
    /// Optimizer steps taken.
    pub steps: u64,
    /// Sum of the learning rates of those steps; SCAFFOLD's control variates need it.
    pub learning_rate_sum: f64,
}

/// What a site found on its held-out patients: counts and histograms, never a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// One entry for each task that may leave the site.
    pub tasks: Vec<TaskReport>,
}

/// One task's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Disease, as the plan names it.
    pub task: String,
    /// Patients with the disease, by score bin.
    pub positive: Vec<u32>,
    /// Patients without it, by score bin.
    pub negative: Vec<u32>,
    /// Area under the ROC curve from the scores themselves.
    pub auc: Option<f64>,
}

/// Why a trainer gave no result.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// It was told to stop.
    #[error("canceled")]
    Canceled,
    /// It cannot; the text goes to the coordinator, so it must not speak of patients or files.
    #[error("{0}")]
    Failed(String),
}
