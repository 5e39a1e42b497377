//! Real training as the federation's trainer: the code of the single-site commands, told what to do
//! by a plan.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use core_model::heads::ProbeKind;
use core_model::metrics::{MetricsError, Ranked, ScoreBins};
use core_model::state::{NamedTensor, StateDict};
use protocol::SiteId;
use protocol::params::{Params, Schema, SchemaError};
use protocol::plan::{self, OptimizerState, Strategy};

use super::trainer::{
    EvaluateJob, Flow, Report, TaskReport, TrainError, TrainJob, Trained, Trainer,
};
use crate::evaluate::Part;
use crate::params::{from_state, to_state};
use crate::train::data::{Labelled, Source, Subset, stream};
use crate::train::downstream::{Draw, FeatureTable, Finetuning, Learner, Probing, Start};
use crate::train::pretrain::{Feed, Pretraining, Schedule, Skipped};
use crate::train::{Config, Objective, Plan, Preset};
use crate::weights::{self, Section};

/// Trains and evaluates on one site's own patients.
pub struct LocalTraining {
    cohort: Labelled,
    device: Device,
}

impl LocalTraining {
    /// A trainer on a site's cohort.
    #[must_use]
    pub fn new(cohort: Labelled, device: Device) -> Self {
        Self { cohort, device }
    }

    fn pretrain(
        &self,
        objective: Objective,
        job: &TrainJob<'_>,
        flow: &mut Flow<'_>,
    ) -> Result<Trained, TrainError> {
        let config = job.plan.config();
        let plan = local_plan(config, site_seed(config.seed, job.site))?;
        let source = self.training_scans();
        let feed = Arc::new(Feed::new(&plan, objective, Arc::clone(&source)));
        let mut training =
            Pretraining::with_schedule(&plan, objective, schedule(config), &self.device)
                .map_err(failed)?;
        let (parameters, center) = split_center(&job.start.params);
        training.load(&parameters).map_err(failed)?;
        if let Some(center) = center {
            training.set_center(&center).map_err(failed)?;
        }
        if let Some(teacher) = &job.start.teacher {
            // Tensors that stay at the site have no global teacher: the student's stand in.
            let mut all = parameters.clone();
            all.extend(to_state(teacher));
            training.set_teacher(&all).map_err(failed)?;
        }
        self.pull(&mut training, job, &parameters)?;
        if let Some(moments) = kept_moments(job)? {
            training.set_moments(moments).map_err(failed)?;
        }
        training.set_steps_done(job.first_step);

        let steps = local_steps(config, source.len());
        let (mut done, mut rates, mut canceled) = (0, 0.0, false);
        let stretch = training
            .train(
                &feed,
                steps,
                &mut Skipped::default(),
                &mut |_, report, _| {
                    done += 1;
                    rates += report.rates.lr;
                    let next = flow(done, steps);
                    canceled = next.is_break();
                    next
                },
            )
            .map_err(failed)?;
        if canceled {
            return Err(TrainError::Canceled);
        }
        keep_moments(job, &training.moments())?;
        let mut result = training.parameters();
        if let Some(center) = training.center() {
            result.insert(CENTER.to_owned(), vector(center));
        }
        let teacher = match (&job.start.teacher, training.teacher()) {
            (Some(asked), Some(mut teacher)) => {
                teacher.retain(|name, _| asked.tensor(name).is_some());
                Some(from_state(teacher).map_err(failed)?)
            }
            _ => None,
        };
        Ok(Trained {
            params: from_state(result).map_err(failed)?,
            teacher,
            examples: stretch.scans,
            steps: done,
            learning_rate_sum: rates,
        })
    }

    /// What the strategy adds to the sites' gradients.
    fn pull(
        &self,
        training: &mut Pretraining,
        job: &TrainJob<'_>,
        parameters: &StateDict,
    ) -> Result<(), TrainError> {
        match &job.plan.config().strategy {
            Strategy::Fedprox { mu } => training.pull_towards(parameters, *mu).map_err(failed),
            Strategy::Scaffold { .. } => {
                let Some(correction) = &job.start.correction else {
                    return Ok(());
                };
                let schema = job.start.params.schema();
                let config = job.plan.config();
                let mut rest = correction.as_slice();
                let mut named = StateDict::new();
                for (name, tensor) in parameters {
                    let count = tensor.values.len();
                    let known = schema.position(name).is_some();
                    let trained = known && !config.is_local(name) && !config.is_statistic(name);
                    let values = if trained {
                        let (head, tail) = rest.split_at(count);
                        rest = tail;
                        head.to_vec()
                    } else {
                        vec![0.0; count]
                    };
                    let shape = tensor.shape.clone();
                    named.insert(name.clone(), NamedTensor { shape, values });
                }
                training.correct_by(&named).map_err(failed)
            }
            _ => Ok(()),
        }
    }

    fn finetune(
        &self,
        job: &TrainJob<'_>,
        flow: &mut Flow<'_>,
        frozen: bool,
    ) -> Result<Trained, TrainError> {
        let config = job.plan.config();
        let plan = local_plan(config, site_seed(config.seed, job.site))?;
        let set = self.labelled(config)?;
        let batch = plan.config().finetune.batch as u64;
        let steps = local_steps(config, set.part(Part::Train).len());
        let given = to_state(&job.start.params);
        let total = config.total_steps();
        let mut learner = self.learner(&plan, &set, &given, (config.seed, total), frozen)?;
        learner.set_steps_done(job.first_step);
        if let Some(moments) = kept_moments(job)? {
            learner.set_moments(&moments)?;
        }
        let draw = Draw::balanced(&set, (steps * batch) as usize).map_err(failed)?;
        let seed = plan.config().seed;
        let round = u64::from(job.round.0);
        let scans = draw.epoch(seed, round);
        // One batch at a time, so that a withdrawn task stops between two steps.
        for (done, chunk) in scans.chunks(batch as usize).enumerate() {
            let place = job.first_step + done as u64;
            learner.train(&set, chunk, place)?;
            if flow(done as u64 + 1, steps).is_break() {
                return Err(TrainError::Canceled);
            }
        }
        keep_moments(job, &learner.moments())?;
        let mut result = given;
        result.extend(learner.parameters());
        let rate = |step| {
            config
                .schedule
                .as_ref()
                .map_or(0.0, |s| s.learning_rate.at(step, total))
        };
        Ok(Trained {
            params: from_state(result).map_err(failed)?,
            teacher: None,
            examples: scans.len() as u64,
            steps,
            learning_rate_sum: (job.first_step..job.first_step + steps).map(rate).sum(),
        })
    }

    /// A classifier with the given weights: all of it learns, or only its head.
    fn learner(
        &self,
        plan: &Plan,
        set: &Labelled,
        given: &StateDict,
        seeds: (u64, u64),
        frozen: bool,
    ) -> Result<Classifier, TrainError> {
        let (tasks, kind) = (set.tasks().len(), ProbeKind::Linear);
        if frozen {
            let backbone = prefixed(given, "backbone.");
            let features = self.features(plan, &backbone, set)?;
            let mut probing =
                Probing::new(plan, kind, tasks, Arc::new(features), seeds, &self.device);
            let heads = given.iter().filter(|(name, _)| name.starts_with("heads."));
            let heads = heads
                .map(|(name, tensor)| (name.clone(), tensor.clone()))
                .collect();
            probing.load(&heads).map_err(failed)?;
            return Ok(Classifier::Head(Box::new(probing)));
        }
        let mut finetuning =
            Finetuning::new(plan, kind, tasks, Start::Scratch, seeds, &self.device)
                .map_err(failed)?;
        finetuning.load(given).map_err(failed)?;
        Ok(Classifier::Whole(Box::new(finetuning)))
    }

    /// Scores a set of this site's patients with the model of a job.
    fn scores(
        &self,
        job: &EvaluateJob<'_>,
        set: &Labelled,
        part: Part,
    ) -> Result<Vec<f64>, TrainError> {
        let config = job.plan.config();
        let plan = local_plan(config, site_seed(config.seed, job.site))?;
        let given = to_state(job.params);
        let seeds = (config.seed, config.total_steps().max(1));
        let scans = set.part(part);
        if given.keys().any(|name| name.starts_with("heads.")) {
            let learner = self.learner(&plan, set, &given, seeds, false)?;
            return learner.as_learner().scores(set, &scans).map_err(failed);
        }
        // A pre-trained model has no head: a linear probe on this site's own training patients
        // says what its features are worth.
        let backbone = weights::backbone(given, Section::default()).tensors;
        let kind = ProbeKind::Linear;
        let features = self.features(&plan, &backbone, set)?;
        let finetune = &plan.config().finetune;
        let draw = Draw::balanced(set, finetune.draws).map_err(failed)?;
        let total = draw.steps(finetune.epochs, finetune.batch);
        let seeds = (plan.config().seed, total);
        let tasks = set.tasks().len();
        let mut probe = Probing::new(&plan, kind, tasks, Arc::new(features), seeds, &self.device);
        for epoch in 1..=finetune.epochs as u64 {
            let drawn = draw.epoch(plan.config().seed, epoch);
            probe.train(set, &drawn, epoch).map_err(failed)?;
        }
        probe.scores(set, &scans).map_err(failed)
    }

    fn features(
        &self,
        plan: &Plan,
        backbone: &StateDict,
        set: &Labelled,
    ) -> Result<FeatureTable, TrainError> {
        let scans: Vec<usize> = [Part::Train, Part::Validation, Part::Test]
            .into_iter()
            .flat_map(|part| set.part(part))
            .collect();
        let kind = ProbeKind::Linear;
        FeatureTable::compute(plan, Some(backbone), kind, set, &scans, &self.device).map_err(failed)
    }

    fn training_scans(&self) -> Arc<dyn Source> {
        let rows = self.cohort.rows().iter().enumerate();
        let training = rows.filter(|(_, row)| row.part == Part::Train);
        let scans = training.map(|(scan, _)| scan).collect();
        Arc::new(Subset::new(Arc::clone(self.cohort.source()), scans))
    }

    fn labelled(&self, config: &plan::Config) -> Result<Labelled, TrainError> {
        self.cohort.of_tasks(&task_names(config)?).map_err(failed)
    }
}

impl Trainer for LocalTraining {
    fn schema(&mut self, plan: &plan::Plan) -> Result<Schema, TrainError> {
        let first = first_checkpoint(plan.config(), None, &self.device)?;
        Ok(first.schema().clone())
    }

    fn train(&mut self, job: &TrainJob<'_>, flow: &mut Flow<'_>) -> Result<Trained, TrainError> {
        match job.plan.config().objective {
            plan::Objective::Dino => self.pretrain(Objective::Dino, job, flow),
            plan::Objective::Mae => self.pretrain(Objective::Mae, job, flow),
            plan::Objective::Finetune => self.finetune(job, flow, false),
            plan::Objective::Probe => self.finetune(job, flow, true),
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
        let set = self.labelled(config)?;
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

/// What learns in fine-tuning (everything) and in probing (the head).
enum Classifier {
    Head(Box<Probing>),
    Whole(Box<Finetuning>),
}

impl Classifier {
    fn as_learner(&self) -> &dyn Learner {
        match self {
            Self::Head(probing) => &**probing,
            Self::Whole(finetuning) => &**finetuning,
        }
    }

    fn train(&mut self, set: &Labelled, scans: &[usize], place: u64) -> Result<(), TrainError> {
        let learner: &mut dyn Learner = match self {
            Self::Head(probing) => &mut **probing,
            Self::Whole(finetuning) => &mut **finetuning,
        };
        learner.train(set, scans, place).map(drop).map_err(failed)
    }

    fn set_steps_done(&mut self, step: u64) {
        match self {
            Self::Head(probing) => probing.set_steps_done(step),
            Self::Whole(finetuning) => finetuning.set_steps_done(step),
        }
    }

    fn parameters(&self) -> StateDict {
        self.as_learner().parameters()
    }

    fn moments(&self) -> StateDict {
        match self {
            Self::Head(probing) => probing.moments(),
            Self::Whole(finetuning) => finetuning.moments(),
        }
    }

    fn set_moments(&mut self, moments: &StateDict) -> Result<(), TrainError> {
        match self {
            Self::Head(probing) => probing.set_moments(moments),
            Self::Whole(finetuning) => finetuning.set_moments(moments),
        }
        .map_err(failed)
    }
}

/// The seed of a site's own draws within a run.
#[must_use]
pub fn site_seed(seed: u64, site: &SiteId) -> u64 {
    stream(seed, site.as_str(), &[])
}

/// The first checkpoint of a plan: fresh weights from its seed, over `backbone` where one is given.
///
/// # Errors
/// If the plan's architecture cannot do what the plan asks, or the backbone is of another.
pub fn first_checkpoint(
    config: &plan::Config,
    backbone: Option<&StateDict>,
    device: &Device,
) -> Result<Params, TrainError> {
    let plan = local_plan(config, config.seed)?;
    let pretraining = |objective| {
        let mut fresh = Pretraining::with_schedule(&plan, objective, schedule(config), device)
            .map_err(failed)?;
        if let Some(backbone) = backbone {
            let (mut all, prefix) = (
                fresh.parameters(),
                if objective == Objective::Dino {
                    "backbone."
                } else {
                    ""
                },
            );
            all.extend(
                backbone
                    .iter()
                    .map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())),
            );
            fresh.load(&all).map_err(failed)?;
        }
        let mut all = fresh.parameters();
        if let Some(center) = fresh.center() {
            all.insert(CENTER.to_owned(), vector(center));
        }
        Ok(all)
    };
    let all = match config.objective {
        plan::Objective::Dino => pretraining(Objective::Dino)?,
        plan::Objective::Mae => pretraining(Objective::Mae)?,
        plan::Objective::Evaluate | plan::Objective::Finetune | plan::Objective::Probe => {
            let tasks = task_names(config)?.len();
            let start = backbone.map_or(Start::Scratch, Start::Backbone);
            let seeds = (config.seed, config.total_steps().max(1));
            Finetuning::new(&plan, ProbeKind::Linear, tasks, start, seeds, device)
                .map_err(failed)?
                .parameters()
        }
    };
    from_state(all).map_err(failed)
}

fn task_names(config: &plan::Config) -> Result<Vec<Arc<str>>, TrainError> {
    let Some(evaluation) = &config.evaluation else {
        let reason = "the plan names no tasks: evaluation.tasks is absent";
        return Err(TrainError::Failed(reason.to_owned()));
    };
    Ok(evaluation
        .tasks
        .iter()
        .map(|task| task.as_str().into())
        .collect())
}

/// The site's training plan: the preset with what the federation's plan says over it.
fn local_plan(config: &plan::Config, seed: u64) -> Result<Plan, TrainError> {
    let mut local = Config::preset(match config.preset {
        plan::Preset::Paper => Preset::Paper,
        plan::Preset::Repo => Preset::Repo,
        plan::Preset::Small => Preset::Small,
        plan::Preset::Tiny => Preset::Tiny,
    });
    local.seed = seed;
    if let Some(work) = &config.local {
        let batch = work.batch_size as usize;
        let pass = |usual: usize| {
            if batch.is_multiple_of(usual) {
                usual
            } else {
                batch
            }
        };
        (local.dino.device_batch, local.mae.device_batch) =
            (pass(local.dino.device_batch), pass(local.mae.device_batch));
        (local.dino.global_batch, local.mae.global_batch) = (batch, batch);
        local.finetune.batch = batch;
    }
    if let Some(schedule) = &config.schedule {
        let ratio = local.finetune.head_lr / local.finetune.backbone_lr;
        local.finetune.backbone_lr = schedule.learning_rate.peak;
        local.finetune.head_lr = schedule.learning_rate.peak * ratio;
        local.finetune.weight_decay = schedule.weight_decay.start;
    }
    Plan::new(local).map_err(failed)
}

/// The schedules of a federated run, by global step.
fn schedule(config: &plan::Config) -> Schedule {
    let (rate, decay) = config
        .schedule
        .as_ref()
        .map_or(([0.0; 2], [0.0; 2]), |schedule| {
            let (rate, decay) = (schedule.learning_rate, schedule.weight_decay);
            ([rate.peak, rate.end], [decay.start, decay.end])
        });
    let warmup = config
        .schedule
        .as_ref()
        .map_or(0, |schedule| schedule.learning_rate.warmup_steps);
    let dino = config.dino.as_ref();
    Schedule {
        total: config.total_steps(),
        warmup,
        lr: rate,
        weight_decay: decay,
        momentum: dino.map_or([1.0; 2], |d| {
            [d.teacher_momentum.start, d.teacher_momentum.end]
        }),
        temperature: dino.map_or([1.0; 2], |d| {
            [d.teacher_temperature_start, d.teacher_temperature_end]
        }),
        temperature_warmup: dino.map_or(0, |d| d.teacher_temperature_warmup_steps),
        frozen: dino.map_or(0, |d| d.freeze_last_layer_steps),
    }
}

/// Steps of one round at a site with `scans` scans.
fn local_steps(config: &plan::Config, scans: usize) -> u64 {
    let Some(local) = &config.local else { return 0 };
    match (local.steps, local.epochs) {
        (Some(steps), _) => u64::from(steps),
        (None, epochs) => {
            let samples = u64::from(epochs.unwrap_or(1)) * scans as u64;
            samples.div_ceil(u64::from(local.batch_size)).max(1)
        }
    }
}

fn kept_moments(job: &TrainJob<'_>) -> Result<Option<StateDict>, TrainError> {
    let keep = job
        .plan
        .config()
        .local
        .as_ref()
        .map(|local| local.optimizer_state);
    if keep != Some(OptimizerState::Keep) {
        return Ok(None);
    }
    read_moments(&job.kept.join(MOMENTS))
}

fn read_moments(path: &Path) -> Result<Option<StateDict>, TrainError> {
    let Ok(bytes) = fs::read(path) else {
        return Ok(None);
    };
    let damaged = |_| TrainError::Failed("the kept optimizer moments are damaged".to_owned());
    let moments = Params::from_safetensors(&bytes).map_err(damaged)?;
    Ok(Some(to_state(&moments)))
}

fn keep_moments(job: &TrainJob<'_>, moments: &StateDict) -> Result<(), TrainError> {
    let keep = job
        .plan
        .config()
        .local
        .as_ref()
        .map(|local| local.optimizer_state);
    if keep != Some(OptimizerState::Keep) {
        return Ok(());
    }
    let bytes = from_state(moments.clone())
        .map_err(failed)?
        .to_safetensors();
    fs::write(job.keep.join(MOMENTS), bytes)
        .map_err(|_| TrainError::Failed("the optimizer's moments cannot be written".to_owned()))
}

/// Histograms on the logit scale and the exact area, task by task.
fn report(
    set: &Labelled,
    scans: &[usize],
    scores: &[f64],
    bins: usize,
) -> Result<Report, TrainError> {
    let count = set.tasks().len();
    let bins = ScoreBins::logits(bins).map_err(failed)?;
    let logit = |score: f64| {
        (score / (1.0 - score))
            .ln()
            .clamp(-LOGIT_RANGE, LOGIT_RANGE)
    };
    let tasks = set.tasks().iter().enumerate().map(|(task, name)| {
        let known = scans.iter().enumerate().filter_map(|(row, scan)| {
            Some((
                set.rows()[*scan].labels[task]?,
                logit(scores[row * count + task]),
            ))
        });
        let (labels, logits): (Vec<bool>, Vec<f64>) = known.unzip();
        let mut positive = vec![0; bins.count()];
        let mut negative = vec![0; bins.count()];
        for (label, logit) in labels.iter().zip(&logits) {
            let side = if *label { &mut positive } else { &mut negative };
            side[bins.bin(*logit)] += 1;
        }
        let auc = Ranked::new(&labels, &logits)
            .ok()
            .map(|ranked| ranked.areas().roc_auc);
        TaskReport {
            task: name.to_string(),
            positive,
            negative,
            auc,
        }
    });
    Ok(Report {
        tasks: tasks.collect(),
    })
}

/// The parameters and, apart from them, DINO's center.
fn split_center(params: &Params) -> (StateDict, Option<Vec<f32>>) {
    let mut state = to_state(params);
    let center = state.remove(CENTER).map(|tensor| tensor.values);
    (state, center)
}

fn prefixed(state: &StateDict, prefix: &str) -> StateDict {
    let strip = |(name, tensor): (&String, &NamedTensor)| {
        Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()))
    };
    state.iter().filter_map(strip).collect()
}

fn vector(values: Vec<f32>) -> NamedTensor {
    NamedTensor {
        shape: vec![values.len()],
        values,
    }
}

/// What went wrong, in words for the coordinator: the site's log has the scans and files.
fn failed(error: impl Into<Fault>) -> TrainError {
    let Fault { inside, outside } = error.into();
    tracing::error!(reason = inside, "training failed");
    TrainError::Failed(outside)
}

/// A fault as this site's log tells it, and as it may be told outside.
struct Fault {
    inside: String,
    outside: String,
}

impl From<crate::train::TrainError> for Fault {
    fn from(error: crate::train::TrainError) -> Self {
        use crate::train::TrainError as Error;
        let outside = match &error {
            Error::Config { .. } | Error::Device { .. } => error.to_string(),
            Error::Diverged { step, loss, .. } => {
                format!("step {step}: loss is {loss}, expected a finite number")
            }
            Error::Unreadable { scans, total } => {
                format!("{} of {total} scans cannot be read", scans.len())
            }
            _ => "the site's scans, labels or files do not allow it; its log says why".to_owned(),
        };
        Self {
            inside: error.to_string(),
            outside,
        }
    }
}

impl From<MetricsError> for Fault {
    fn from(error: MetricsError) -> Self {
        Self {
            inside: error.to_string(),
            outside: error.to_string(),
        }
    }
}

impl From<SchemaError> for Fault {
    fn from(error: SchemaError) -> Self {
        Self {
            inside: error.to_string(),
            outside: error.to_string(),
        }
    }
}

/// Name of DINO's center among the tensors of a run; plans list it under `statistics`.
pub const CENTER: &str = "center";

const MOMENTS: &str = "moments.safetensors";

/// Keeps the logit of a certain score, 0 or 1, finite; no other double reaches it.
const LOGIT_RANGE: f64 = 40.0;
