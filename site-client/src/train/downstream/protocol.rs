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

/// A trial with what all its trainings share: the frozen features of a probe, which are the same for
/// every task and are computed once.
#[derive(Clone, Debug)]
pub struct Ready<'a> {
    trial: Trial<'a>,
    frozen: Option<Frozen>,
}

#[derive(Clone, Debug)]
struct Frozen {
    kind: ProbeKind,
    site: Arc<FeatureTable>,
    external: Arc<[FeatureTable]>,
}

/// A model after training, selected on the validation part; the test part is unseen.
#[derive(Debug)]
pub struct Fitted {
    /// The kept epoch and the validation curve.
    pub fit: Fit,
    learned: Learned,
}

#[derive(Debug)]
enum Learned {
    /// On the features of its own site; those of the external sites.
    Heads(Box<Probing>, Arc<[FeatureTable]>),
    Whole(Box<Finetuning>),
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

impl<'a> Trial<'a> {
    /// Trains on the scans `draw` draws, keeps the best epoch, and scores the test part of `set`
    /// and of each external site once.
    ///
    /// # Errors
    ///
    /// A part without both classes, more than 1 % of the labelled scans unreadable (for a probe: any),
    /// weights of another architecture, a loss or a gradient that is no number.
    pub fn run(
        &self,
        set: &Labelled,
        external: &[Labelled],
        draw: &Draw,
        observe: &mut dyn FnMut(usize, f64, f64),
    ) -> Result<Trained, TrainError> {
        set.require_classes()?;
        self.ready(set, external)?.run(set, external, draw, observe)
    }

    /// Computes what trainings on tasks of `set` share: for a probe, the features of its labelled
    /// scans and of the test parts of the external sites.
    ///
    /// # Errors
    ///
    /// Weights of another architecture, a scan that cannot be read.
    pub fn ready(&self, set: &Labelled, external: &[Labelled]) -> Result<Ready<'a>, TrainError> {
        let trial = self.clone();
        let Some(kind) = self.protocol.probe() else {
            let frozen = None;
            return Ok(Ready { trial, frozen });
        };
        let site = Arc::new(self.features(kind, set, &set.labelled())?);
        let test = |set: &Labelled| self.features(kind, set, &set.part(Part::Test));
        let external = external.iter().map(test).collect::<Result<_, _>>()?;
        let frozen = Some(Frozen {
            kind,
            site,
            external,
        });
        Ok(Ready { trial, frozen })
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

impl Ready<'_> {
    /// Trains on the scans `draw` draws, keeps the best epoch, and scores the test part of `set`
    /// and of each external site once. The sets are those this was made for, or some of their tasks.
    ///
    /// # Errors
    ///
    /// See [`Trial::run`].
    pub fn run(
        &self,
        set: &Labelled,
        external: &[Labelled],
        draw: &Draw,
        observe: &mut dyn FnMut(usize, f64, f64),
    ) -> Result<Trained, TrainError> {
        set.require_classes()?;
        let fitted = self.fit(set, draw, observe)?;
        Ok(Trained {
            predictions: fitted.test(set, external)?,
            parameters: fitted.parameters(),
            fit: fitted.fit,
        })
    }

    /// Trains on the scans `draw` draws and keeps the best epoch.
    ///
    /// # Errors
    ///
    /// A validation part without both classes, more than 1 % of the labelled scans unreadable, weights
    /// of another architecture, a loss or a gradient that is no number.
    pub fn fit(
        &self,
        set: &Labelled,
        draw: &Draw,
        observe: &mut dyn FnMut(usize, f64, f64),
    ) -> Result<Fitted, TrainError> {
        let Trial {
            plan,
            backbone,
            seed,
            device,
            ..
        } = self.trial;
        let config = &plan.config().finetune;
        let timing = (seed, draw.steps(config.epochs, config.batch));
        let (tasks, epochs) = (set.tasks().len(), config.epochs);
        let mut learned = match &self.frozen {
            Some(frozen) => {
                let features = Arc::clone(&frozen.site);
                let heads = Probing::new(plan, frozen.kind, tasks, features, timing, device);
                Learned::Heads(Box::new(heads), Arc::clone(&frozen.external))
            }
            None => {
                let start = backbone.map_or(Start::Scratch, Start::Backbone);
                let kind = ProbeKind::Linear;
                let whole = Finetuning::new(plan, kind, tasks, start, timing, device)?;
                Learned::Whole(Box::new(whole))
            }
        };
        let learner: &mut dyn Learner = match &mut learned {
            Learned::Heads(heads, _) => &mut **heads,
            Learned::Whole(whole) => &mut **whole,
        };
        let fit = fit(learner, set, draw, epochs, seed, observe)?;
        Ok(Fitted { fit, learned })
    }
}

impl Fitted {
    /// Scores the test part of the site, then of each external site; a scan that cannot be read is
    /// named in the log and has no score.
    ///
    /// # Errors
    ///
    /// More than 1 % of a site's labelled scans unreadable.
    pub fn test(
        &self,
        set: &Labelled,
        external: &[Labelled],
    ) -> Result<Vec<Prediction>, TrainError> {
        let mut predictions = Vec::new();
        for (place, test) in std::iter::once(set).chain(external).enumerate() {
            let scans = test.part(Part::Test);
            let (scans, scores) = match (&self.learned, place) {
                (Learned::Heads(heads, _), 0) => heads.readable_scores(test, &scans)?,
                (Learned::Heads(heads, tables), _) => {
                    let scores = heads.scores_on(&tables[place - 1], &scans);
                    (scans, scores)
                }
                (Learned::Whole(whole), _) => whole.readable_scores(test, &scans)?,
            };
            predictions.extend(test.predictions(&scans, &scores));
        }
        Ok(predictions)
    }

    /// All that learned, by name.
    #[must_use]
    pub fn parameters(&self) -> StateDict {
        match &self.learned {
            Learned::Heads(heads, _) => heads.parameters(),
            Learned::Whole(whole) => whole.parameters(),
        }
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
