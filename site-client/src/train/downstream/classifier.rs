//! A trained classifier on disk: everything that scoring another cohort needs.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use core_model::heads::ProbeKind;
use core_model::state::StateDict;
use serde::{Deserialize, Serialize};

use super::features::starting_backbone;
use super::finetuning::{Finetuning, Start};
use super::learner::Learner;
use super::protocol::Protocol;
use crate::evaluate::Prediction;
use crate::train::data::Labelled;
use crate::train::record::Checkpoint;
use crate::train::{Config, Plan, TrainError};

/// Backbone and heads after training.
#[derive(Debug)]
pub struct Classifier {
    note: Note,
    tasks: Vec<Arc<str>>,
    learner: Finetuning,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    kind: Kind,
    protocol: Protocol,
    tasks: Vec<String>,
    config: Config,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Classifier,
}

impl Classifier {
    /// Writes what a trial left; a probe's frozen backbone is written with it.
    ///
    /// # Errors
    ///
    /// A file that cannot be written, a backbone of another architecture.
    pub fn save(
        path: &Path,
        plan: &Plan,
        protocol: Protocol,
        tasks: &[Arc<str>],
        backbone: Option<&StateDict>,
        parameters: &StateDict,
    ) -> Result<(), TrainError> {
        let mut tensors = parameters.clone();
        if protocol != Protocol::Finetune {
            let frozen = starting_backbone(plan, backbone)?.into_iter();
            tensors.extend(frozen.map(|(name, tensor)| (format!("backbone.{name}"), tensor)));
        }
        let note = Note {
            kind: Kind::Classifier,
            protocol,
            tasks: tasks.iter().map(ToString::to_string).collect(),
            config: plan.config().clone(),
        };
        let saved = Checkpoint::new(&note, tensors).save(path);
        saved.map_err(|error| TrainError::io(path, error))
    }

    /// Reads a classifier.
    ///
    /// # Errors
    ///
    /// A file that is missing, broken or no classifier.
    pub fn load(path: &Path, device: &Device) -> Result<Self, TrainError> {
        let checkpoint = Checkpoint::load(path)?;
        let note: Note = checkpoint.state(path)?;
        let plan = Plan::new(note.config.clone())?;
        let kind = match note.protocol {
            Protocol::AttentiveProbe => ProbeKind::Attentive,
            Protocol::Finetune | Protocol::LinearProbe => ProbeKind::Linear,
        };
        let tasks = note.tasks.len();
        let mut learner = Finetuning::new(&plan, kind, tasks, Start::Scratch, (0, 1), device)?;
        learner
            .load(&checkpoint.tensors)
            .map_err(|error| TrainError::Checkpoint {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        let tasks = note.tasks.iter().map(|task| task.as_str().into()).collect();
        Ok(Self {
            note,
            tasks,
            learner,
        })
    }

    /// The plan it was trained by.
    ///
    /// # Errors
    ///
    /// A configuration that this version no longer accepts.
    pub fn plan(&self) -> Result<Plan, TrainError> {
        Plan::new(self.note.config.clone())
    }

    /// Its tasks.
    #[must_use]
    pub fn tasks(&self) -> &[Arc<str>] {
        &self.tasks
    }

    /// How it was trained.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.note.protocol
    }

    /// Predictions for labelled scans of a set, of its tasks that the set has labels of. A scan that
    /// cannot be read is named in the log and has none.
    ///
    /// # Errors
    ///
    /// More than 1 % of the labelled scans unreadable.
    pub fn predict(&self, set: &Labelled, scans: &[usize]) -> Result<Vec<Prediction>, TrainError> {
        let (set, _) = set.over_tasks(self.tasks());
        let (scans, scores) = self.learner.readable_scores(&set, scans)?;
        Ok(set.predictions(&scans, &scores))
    }
}
