//! Real training as the federation's trainer: the code of the single-site commands, told what to do
//! by a plan.

mod classifying;
mod fault;
mod moments;
mod pretraining;
mod recipe;

use std::sync::Arc;

use burn::tensor::Device;
use protocol::params::Schema;
use protocol::plan;

use super::trainer::{EvaluateJob, Flow, Report, TrainError, TrainJob, Trained, Trainer};
use crate::evaluate::Part;
use crate::train::data::{Labelled, Source, Subset};
use crate::train::{Objective, Plan};

use classifying::report;
use fault::failed;
use recipe::task_names;

pub use recipe::{first_checkpoint, local_plan, site_seed};

/// Trains and evaluates on one site's own patients.
pub struct LocalTraining {
    open: Box<Open>,
    opened: Option<(plan::Preset, Labelled)>,
    device: Device,
}

/// Opens a site's cohort in the geometry and at the size of a training plan.
type Open = dyn Fn(&Plan) -> Result<Labelled, crate::train::TrainError> + Send;

impl LocalTraining {
    /// A trainer on a cohort of one geometry and size.
    #[must_use]
    pub fn new(cohort: Labelled, device: Device) -> Self {
        Self::opening(move |_| Ok(cohort.clone()), device)
    }

    /// A trainer that opens the site's cohort as each federation's preset wants it; it is opened
    /// when a plan is looked at, so that a site joins no run for which its scans are not prepared.
    #[must_use]
    pub fn opening(
        open: impl Fn(&Plan) -> Result<Labelled, crate::train::TrainError> + Send + 'static,
        device: Device,
    ) -> Self {
        Self {
            open: Box::new(open),
            opened: None,
            device,
        }
    }

    fn cohort(&mut self, config: &plan::Config) -> Result<Labelled, TrainError> {
        if let Some((preset, cohort)) = &self.opened
            && *preset == config.preset
        {
            return Ok(cohort.clone());
        }
        let cohort = (self.open)(&local_plan(config, config.seed)?).map_err(failed)?;
        self.opened = Some((config.preset, cohort.clone()));
        Ok(cohort)
    }
}

fn training_scans(cohort: &Labelled) -> Arc<dyn Source> {
    let rows = cohort.rows().iter().enumerate();
    let training = rows.filter(|(_, row)| row.part == Part::Train);
    let scans = training.map(|(scan, _)| scan).collect();
    Arc::new(Subset::new(Arc::clone(cohort.source()), scans))
}

fn labelled(cohort: &Labelled, config: &plan::Config) -> Result<Labelled, TrainError> {
    cohort.of_tasks(&task_names(config)?).map_err(failed)
}

/// Whether a tensor of a classifier is its head's.
fn is_head(name: &str) -> bool {
    name.starts_with(HEADS)
}

impl Trainer for LocalTraining {
    fn schema(&mut self, plan: &plan::Plan) -> Result<Schema, TrainError> {
        let config = plan.config();
        let cohort = self.cohort(config)?;
        if config.evaluation.is_some() {
            labelled(&cohort, config)?;
        }
        let first = first_checkpoint(config, None, &self.device)?;
        let frozen = |name: &str| config.objective == plan::Objective::Probe && !is_head(name);
        let sent = |name: &str| !config.is_local(name);
        let mut names = first.schema().tensors().iter().map(|tensor| tensor.name());
        if let Some(name) = names.find(|name| frozen(name) && sent(name)) {
            // Zeros, and as many of them as the backbone has weights.
            return Err(TrainError::Failed(format!(
                "plan: local_parameters: must hold a frozen backbone (\"backbone.*\"), which {name} is not in"
            )));
        }
        Ok(first.schema().clone())
    }

    fn train(&mut self, job: &TrainJob<'_>, flow: &mut Flow<'_>) -> Result<Trained, TrainError> {
        let config = job.plan.config();
        let cohort = self.cohort(config)?;
        match config.objective {
            plan::Objective::Dino => self.pretrain(&cohort, Objective::Dino, job, flow),
            plan::Objective::Mae => self.pretrain(&cohort, Objective::Mae, job, flow),
            plan::Objective::Finetune => self.finetune(&cohort, job, flow, false),
            plan::Objective::Probe => self.finetune(&cohort, job, flow, true),
            plan::Objective::Evaluate => Err(TrainError::Failed(
                "a plan to evaluate asked for training".to_owned(),
            )),
        }
    }

    /// Models in training are judged on the validation part, so that choosing a round never looks
    /// at the test part; a plan that only evaluates looks at the test part.
    fn evaluate(
        &mut self,
        job: &EvaluateJob<'_>,
        flow: &mut Flow<'_>,
    ) -> Result<Report, TrainError> {
        let config = job.plan.config();
        let set = labelled(&self.cohort(config)?, config)?;
        let headless = matches!(
            config.objective,
            plan::Objective::Dino | plan::Objective::Mae
        );
        if headless && config.cohort.evaluators.contains(job.site) {
            tracing::info!(
                "an evaluation-only site trains no probe: no metrics of a headless model"
            );
            return Ok(Report { tasks: Vec::new() });
        }
        let part = match config.objective {
            plan::Objective::Evaluate => Part::Test,
            _ => Part::Validation,
        };
        let scores = self.scores(job, &set, part)?;
        if flow(1, 1).is_break() {
            return Err(TrainError::Canceled);
        }
        let bins = config
            .evaluation
            .as_ref()
            .map_or(1, |evaluation| evaluation.histogram_bins);
        report(&set, &set.part(part), &scores, bins as usize)
    }
}

/// Name of DINO's center among the tensors of a run; plans list it under `statistics`.
pub const CENTER: &str = "center";

/// Names of a classifier's heads start with it.
const HEADS: &str = "heads.";
