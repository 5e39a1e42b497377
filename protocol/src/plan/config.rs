//! The schema of a plan file: one struct for each table, one enum for each closed choice.

use serde::{Deserialize, Serialize};

use super::{Aggregation, Cosine, Limits, Pattern, Strategy, Warmup};
use crate::encoding::Encoding;
use crate::ids::{Digest, SiteId};

/// A plan file as written, not yet checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What people call this run: letters, digits and hyphens.
    pub name: String,
    /// What is trained.
    pub objective: Objective,
    /// Architecture, by the name sites know it under; they refuse one that they do not know.
    pub model: String,
    /// Geometry and sizes.
    pub preset: Preset,
    /// Digest of the first checkpoint's safetensors file.
    pub initial: Digest,
    /// Rounds of training; 0 only for `objective = "evaluate"`.
    #[serde(default)]
    pub rounds: u32,
    /// From which every site derives its own randomness.
    #[serde(default)]
    pub seed: u64,
    /// Tensors that stay at the sites, by name pattern (FedBN, Li et al. 2021).
    #[serde(default)]
    pub local_parameters: Vec<Pattern>,
    /// Tensors that are statistics, not weights, by name pattern: always averaged, sent as exact
    /// floats, outside the norm bound. DINO's `center` must be one, or stay at the sites.
    #[serde(default)]
    pub statistics: Vec<Pattern>,
    /// Who takes part, and how long they are waited for.
    pub cohort: Cohort,
    /// What a site does in one round.
    #[serde(default)]
    pub local: Option<Local>,
    /// Schedules over the global step.
    #[serde(default)]
    pub schedule: Option<Schedule>,
    /// How DINO's own state is treated; only for `objective = "dino"`.
    #[serde(default)]
    pub dino: Option<Dino>,
    /// How updates become the next model.
    #[serde(default)]
    pub strategy: Strategy,
    /// How updates are weighted and bounded before the strategy sees them.
    #[serde(default)]
    pub aggregation: Aggregation,
    /// How numbers travel.
    #[serde(default)]
    pub encoding: Encodings,
    /// What the coordinator refuses.
    #[serde(default)]
    pub limits: Limits,
    /// When and how the model is evaluated at the sites.
    #[serde(default)]
    pub evaluation: Option<Evaluation>,
}

/// What is trained.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// Self-distillation of a student from a teacher.
    Dino,
    /// Only evaluation: no round of training.
    Evaluate,
    /// A disease head and the whole backbone.
    Finetune,
    /// Masked reconstruction.
    Mae,
    /// A disease head on a frozen backbone.
    Probe,
}

/// Geometry and sizes, as core-model defines them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// The published geometry.
    Paper,
    /// The released code's geometry.
    Repo,
    /// CPU-sized, for small studies.
    Small,
    /// CPU-sized, for tests and the demo.
    Tiny,
}

/// Who takes part, and how long they are waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cohort {
    /// When a round may start and end.
    pub rule: CohortRule,
    /// Sites that train.
    pub sites: Vec<SiteId>,
    /// Sites that only evaluate: their data never train.
    #[serde(default)]
    pub evaluators: Vec<SiteId>,
    /// Fewest training sites whose updates make a round; all of them under `rule = "full"`.
    #[serde(default)]
    pub quorum: Option<u32>,
    /// How long a round with a quorum waits for more sites before it starts.
    #[serde(default = "Cohort::default_gather_seconds")]
    pub gather_seconds: u64,
    /// Longest time from the start of training to the end of the round.
    #[serde(default = "Cohort::default_deadline_seconds")]
    pub round_deadline_seconds: u64,
    /// Longest time a site may make no progress, neither a step nor a byte.
    #[serde(default = "Cohort::default_idle_seconds")]
    pub idle_timeout_seconds: u64,
}

/// When a round may start and end.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CohortRule {
    /// Every training site takes part in every round: slow sites are waited for, so the result
    /// depends on no clock.
    Full,
    /// A quorum is enough; stragglers are left out of the round, not of the run.
    Quorum,
}

/// What a site does in one round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Local {
    /// Optimizer steps in a round; or give `epochs`.
    #[serde(default)]
    pub steps: Option<u32>,
    /// Passes over the site's own data in a round; or give `steps`.
    #[serde(default)]
    pub epochs: Option<u32>,
    /// How far schedules move in a round that is counted in epochs: sites differ in size, the
    /// global step must not.
    #[serde(default)]
    pub nominal_steps: Option<u32>,
    /// Samples in a batch.
    pub batch_size: u32,
    /// What happens to the optimizer's moments between rounds.
    #[serde(default)]
    pub optimizer_state: OptimizerState,
}

/// What happens to a site's optimizer moments between rounds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerState {
    /// Carried over at the site.
    Keep,
    /// Zero at the start of each round.
    #[default]
    Reset,
}

/// Schedules over the *global* step: they never restart with a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Linear warm-up, then half a cosine.
    pub learning_rate: Warmup,
    /// Half a cosine.
    #[serde(default = "Schedule::default_weight_decay")]
    pub weight_decay: Cosine,
}

/// How DINO's own state is treated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dino {
    /// Where the teacher comes from.
    #[serde(default)]
    pub teacher: Teacher,
    /// Teacher momentum for each step, half a cosine over the run.
    #[serde(default = "Dino::default_momentum")]
    pub teacher_momentum: Cosine,
    /// Teacher temperature: linear from `start` to `end` over `warmup_steps`, then constant.
    #[serde(default = "Dino::default_temperature_start")]
    pub teacher_temperature_start: f64,
    /// Teacher temperature after its warm-up.
    #[serde(default = "Dino::default_temperature_end")]
    pub teacher_temperature_end: f64,
    /// Global steps of that warm-up.
    #[serde(default)]
    pub teacher_temperature_warmup_steps: u64,
    /// Global steps during which the head's last layer does not move.
    #[serde(default)]
    pub freeze_last_layer_steps: u64,
    /// `local-resync` only: how much of a site's teacher survives a synchronization.
    #[serde(default = "Dino::default_resync")]
    pub resync: f64,
}

/// Where a site's teacher comes from at the start of a round.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Teacher {
    /// The coordinator keeps an average of the global students, with momentum
    /// m^(steps of the round), and publishes it with them.
    #[default]
    ServerEma,
    /// The site's own, drawn towards the new global student (MonAcoSFL's re-alignment).
    LocalResync,
    /// The site's own, untouched (Ark+).
    Local,
}

/// How numbers travel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Encodings {
    /// Encoding of updates; what a lossy one loses is kept at the site and added next round.
    pub update: Encoding,
}

/// When and how the model is evaluated at the sites.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Evaluate after every so many rounds, and after the last.
    pub every: u32,
    /// Diseases, as the sites' label tables name them.
    pub tasks: Vec<String>,
    /// Bins of the score histograms.
    #[serde(default = "Evaluation::default_bins")]
    pub histogram_bins: u32,
    /// How long evaluation waits for sites.
    #[serde(default = "Evaluation::default_deadline_seconds")]
    pub deadline_seconds: u64,
    /// Which round's model is the run's result.
    #[serde(default)]
    pub select: Selection,
}

/// Which round's model is the run's result.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// The one with the highest mean AUC over tasks and training sites, each site on its held-out
    /// patients; evaluation-only sites have no say in it. Each evaluated round is compared with the
    /// best before it, over the sites and tasks that both were reported for; a round with none of
    /// the best one's does not count. Where a site withholds an AUC, that of its histograms counts.
    BestMeanAuc,
    /// The last one.
    #[default]
    Last,
}

impl Cohort {
    /// Fewest training sites whose updates make a round.
    pub fn quorum(&self) -> usize {
        match (self.rule, self.quorum) {
            (CohortRule::Quorum, Some(quorum)) => quorum as usize,
            _ => self.sites.len(),
        }
    }

    fn default_gather_seconds() -> u64 {
        30
    }

    fn default_deadline_seconds() -> u64 {
        24 * 60 * 60
    }

    fn default_idle_seconds() -> u64 {
        10 * 60
    }
}

impl Config {
    /// How far the global step moves in one round.
    pub fn steps_per_round(&self) -> u64 {
        self.local
            .as_ref()
            .and_then(|local| local.steps.or(local.nominal_steps))
            .map_or(0, u64::from)
    }

    /// Global steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        u64::from(self.rounds) * self.steps_per_round()
    }

    /// Fewest training sites whose updates can make a model: what it says of each of them.
    pub fn fewest_in_a_model(&self) -> usize {
        match &self.strategy {
            Strategy::Krum { .. } => 1,
            Strategy::MultiKrum { keep, .. } => self.cohort.quorum().min(*keep as usize),
            Strategy::TrimmedMean { trim } => {
                self.cohort.quorum().saturating_sub(2 * *trim as usize)
            }
            _ => self.cohort.quorum(),
        }
    }

    /// Whether a tensor stays at the sites.
    pub fn is_local(&self, tensor: &str) -> bool {
        self.local_parameters
            .iter()
            .any(|pattern| pattern.matches(tensor))
    }

    /// Whether a tensor is a statistic: averaged, never optimized.
    pub fn is_statistic(&self, tensor: &str) -> bool {
        self.statistics
            .iter()
            .any(|pattern| pattern.matches(tensor))
    }

    /// Whether the coordinator keeps and publishes DINO's teacher.
    pub fn publishes_teacher(&self) -> bool {
        self.dino
            .as_ref()
            .is_some_and(|dino| dino.teacher == Teacher::ServerEma)
    }

    /// Whether the model is evaluated after `round` (counted from 1).
    pub fn evaluates_after(&self, round: u32) -> bool {
        self.evaluation.as_ref().is_some_and(|evaluation| {
            round == self.rounds || round.is_multiple_of(evaluation.every)
        })
    }
}

impl Schedule {
    fn default_weight_decay() -> Cosine {
        Cosine {
            start: 0.0,
            end: 0.0,
        }
    }
}

impl Dino {
    fn default_momentum() -> Cosine {
        Cosine {
            start: 0.996,
            end: 1.0,
        }
    }

    fn default_temperature_start() -> f64 {
        0.04
    }

    fn default_temperature_end() -> f64 {
        0.04
    }

    fn default_resync() -> f64 {
        0.9
    }
}

impl Evaluation {
    fn default_bins() -> u32 {
        1024
    }

    fn default_deadline_seconds() -> u64 {
        6 * 60 * 60
    }
}
