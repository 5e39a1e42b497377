//! The paper's protocols, whole: train, select on validation, score the test part once.

use std::sync::Arc;

use burn::tensor::Device;
use core_model::heads::ProbeKind;
use core_model::state::StateDict;
use serde::{Deserialize, Serialize};

use super::classifiers::{Features, Rule, scores as rule_scores};
use super::features::FeatureTable;
use super::finetuning::{Finetuning, Start};
use super::learner::{Draw, Fit, Learner, fit};
use super::probing::Probing;
use crate::evaluate::{Part, Prediction};
use crate::train::data::{Classes, Labelled};
use crate::train::{FinetuneConfig, Plan, TrainError};

/// How a task is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// One attention layer on all frozen tokens.
    AttentiveProbe,
    /// Every weight, with a linear head.
    Finetune,
    /// A linear layer on the frozen class token.
    LinearProbe,
}

/// One training on one site: who learns what, from where, how.
#[derive(Clone, Debug)]
pub struct Trial<'a> {
    /// The configuration.
    pub plan: &'a Plan,
    /// Fine-tuning or a probe.
    pub protocol: Protocol,
    /// Backbone weights; none is training from scratch.
    pub backbone: Option<&'a StateDict>,
    /// Draws scans and first weights of the head.
    pub seed: u64,
    /// Where it runs.
    pub device: &'a Device,
}

/// What a trial leaves.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The kept epoch and the validation curve.
    pub fit: Fit,
    /// All that learned, by name.
    pub parameters: StateDict,
    /// The test part of the site, then of each external site.
    pub predictions: Vec<Prediction>,
}

impl Protocol {
    /// Name in `predictions.csv`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AttentiveProbe => "attentive_probe",
            Self::Finetune => "finetune",
            Self::LinearProbe => "linear_probe",
        }
    }

    fn probe(self) -> Option<ProbeKind> {
        match self {
            Self::AttentiveProbe => Some(ProbeKind::Attentive),
            Self::Finetune => None,
            Self::LinearProbe => Some(ProbeKind::Linear),
        }
    }
}

impl Trial<'_> {
    /// Trains on the scans `draw` draws, keeps the best epoch, and scores the test part of `set`
    /// and of each external site once.
    ///
    /// # Errors
    ///
    /// A part without both classes, a scan that cannot be read, weights of another architecture, a
    /// loss that is no number.
    pub fn run(
        &self,
        set: &Labelled,
        external: &[Labelled],
        draw: &Draw,
        observe: &mut dyn FnMut(usize, f64, f64),
    ) -> Result<Trained, TrainError> {
        for task in 0..set.tasks().len() {
            set.classes(task, Part::Test)?;
        }
        let config = &self.plan.config().finetune;
        let steps = draw.steps(config.epochs, config.batch);
        let timing = (self.seed, steps);
        let tasks = set.tasks().len();
        let tests = std::iter::once(set).chain(external);
        let Some(kind) = self.protocol.probe() else {
            let start = self.backbone.map_or(Start::Scratch, Start::Backbone);
            let kind = ProbeKind::Linear;
            let mut learner = Finetuning::new(self.plan, kind, tasks, start, timing, self.device)?;
            let fit = fit(&mut learner, set, draw, config.epochs, self.seed, observe)?;
            let mut predictions = Vec::new();
            for test in tests {
                let scans = test.part(Part::Test);
                predictions.extend(test.predictions(&scans, &learner.scores(test, &scans)?));
            }
            return Ok(Trained {
                fit,
                parameters: learner.parameters(),
                predictions,
            });
        };
        let scans: Vec<usize> = (0..set.rows().len()).collect();
        let features = Arc::new(self.features(kind, set, &scans)?);
        let mut learner = Probing::new(self.plan, kind, tasks, features, timing, self.device);
        let fit = fit(&mut learner, set, draw, config.epochs, self.seed, observe)?;
        let mut predictions = Vec::new();
        let scans = set.part(Part::Test);
        predictions.extend(set.predictions(&scans, &learner.scores(set, &scans)?));
        for test in external {
            let scans = test.part(Part::Test);
            let features = self.features(kind, test, &scans)?;
            predictions.extend(test.predictions(&scans, &learner.scores_on(&features, &scans)));
        }
        Ok(Trained {
            fit,
            parameters: learner.parameters(),
            predictions,
        })
    }

    /// Frozen features of `scans` for a probe of `kind`.
    ///
    /// # Errors
    ///
    /// Weights of another architecture, a scan that cannot be read.
    pub fn features(
        &self,
        kind: ProbeKind,
        set: &Labelled,
        scans: &[usize],
    ) -> Result<FeatureTable, TrainError> {
        FeatureTable::compute(self.plan, self.backbone, kind, set, scans, self.device)
    }
}

/// Scores of the test part by a rule on frozen class tokens and a few labelled scans.
#[must_use]
pub fn classify(rule: Rule, features: &FeatureTable, few: &Classes, test: &[usize]) -> Vec<f64> {
    let scans = [&*few.negative, &*few.positive, test].concat();
    let values = features.class_tokens(&scans);
    let rows: Vec<usize> = (0..scans.len()).collect();
    let (negative, rest) = rows.split_at(few.negative.len());
    let (positive, queries) = rest.split_at(few.positive.len());
    let features = Features {
        values: &values,
        dim: features.dim(),
    };
    rule_scores(rule, features, negative, positive, queries)
}

/// The combinations of the sweep, over a base configuration.
#[must_use]
pub fn grid(plan: &Plan) -> Vec<FinetuneConfig> {
    let (base, sweep) = (&plan.config().finetune, &plan.config().sweep);
    let mut grid = Vec::new();
    for &optimizer in &sweep.optimizers {
        for &lr in &sweep.learning_rates {
            for &weight_decay in &sweep.weight_decays {
                for &epochs in &sweep.epochs {
                    grid.push(FinetuneConfig {
                        optimizer,
                        backbone_lr: lr,
                        head_lr: lr,
                        weight_decay,
                        epochs,
                        ..base.clone()
                    });
                }
            }
        }
    }
    grid
}
