//! A pre-training run of one site: data, checkpoints, progress, the collapse watch.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use core_model::state::{NamedTensor, StateDict};
use serde::{Deserialize, Serialize};

use super::backbone::BACKBONE;
use super::{Feed, Objective, Pretraining, Skipped, StepReport, Stretch};
use crate::evaluate::Part;
use crate::train::data::{Labelled, Source, Subset, in_fraction};
use crate::train::record::{Checkpoint, Progress, Stop, Verdict, Vitals, insert_part};
use crate::train::{Config, Plan, TrainError};
use crate::weights::{self, HEADS};

/// A run in a folder of its own.
///
/// The folder holds `config.toml` (resolved), `last.safetensors` (checkpoint), `log.jsonl`,
/// `tensorboard/`, and at the end `backbone.safetensors`.
#[derive(Clone, Debug)]
pub struct PretrainRun {
    /// What to do.
    pub plan: Plan,
    /// What is optimized.
    pub objective: Objective,
    /// The run's folder.
    pub dir: PathBuf,
    /// Whether to go on from the folder's checkpoint.
    pub resume: bool,
    /// Ends the run early, after a checkpoint.
    pub stop: Stop,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Steps done, of the whole run.
    pub step: u64,
    /// Steps of the whole run.
    pub total: u64,
    /// The stretch of this process.
    pub stretch: Stretch,
    /// Scans that could not be read.
    pub skipped: Skipped,
}

/// The part of a checkpoint that is no tensor. Random streams and the loader's position are
/// functions of the seed and the step.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    kind: Kind,
    objective: Objective,
    config: Config,
    scans: usize,
    step: u64,
    skipped: Skipped,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Pretraining,
}

/// The scans that pre-training sees: the training part, of the first `fraction` of its patients.
#[must_use]
pub fn pretraining_scans(set: &Labelled, fraction: f64) -> Arc<dyn Source> {
    let wanted = |scan: &usize| {
        let row = &set.rows()[*scan];
        row.part == Part::Train && in_fraction(&row.patient, fraction)
    };
    let scans = (0..set.rows().len()).filter(wanted).collect();
    Arc::new(Subset::new(Arc::clone(set.source()), scans))
}

/// Checkpoint in a run's folder.
pub const CHECKPOINT: &str = "last.safetensors";
const CONFIG: &str = "config.toml";

impl PretrainRun {
    /// Trains to the end of the schedule, or until asked to stop, on the first of `devices` with
    /// the help of the others.
    ///
    /// # Errors
    ///
    /// See [`Pretraining::train`]; also a folder that cannot be written, a checkpoint that is
    /// missing or of another run.
    ///
    /// # Panics
    ///
    /// If there is no device.
    pub fn execute(
        &self,
        source: Arc<dyn Source>,
        devices: &[Device],
    ) -> Result<Outcome, TrainError> {
        let (device, peers) = devices.split_first().expect("at least one device");
        if source.is_empty() {
            return Err(TrainError::data(
                "pre-training: no scans, expected at least one",
            ));
        }
        fs::create_dir_all(&self.dir).map_err(|error| TrainError::io(&self.dir, error))?;
        let config = self.plan.config();
        let scans = source.len();
        let mut training = Pretraining::new(&self.plan, self.objective, scans, device)?;
        training.spread_over(peers)?;
        let mut skipped = Skipped::default();
        let checkpoint = self.dir.join(CHECKPOINT);
        if self.resume {
            skipped = self.restore(&mut training, &checkpoint, scans)?;
        } else if checkpoint.exists() {
            let reason = "belongs to an earlier run; resume it or choose another folder".into();
            return Err(TrainError::Checkpoint {
                path: checkpoint,
                reason,
            });
        }
        write(&self.dir.join(CONFIG), config.to_toml()?.as_bytes())?;

        let (first, total) = (training.steps_done(), training.total_steps());
        let every = config.pretrain.log_every;
        let mut progress = Progress::start(Some(&self.dir), first, total, every)
            .map_err(|error| TrainError::io(&self.dir, error))?;
        let feed = Arc::new(Feed::new(&self.plan, self.objective, source));
        let mut watch = Watch::default();
        let mut saved = (first > 0).then_some(first);
        let trained = training.train(
            &feed,
            total.saturating_sub(first),
            &mut skipped,
            &mut |training, report, skipped| {
                let logged = report.step.is_multiple_of(every) || report.step == total;
                let vitals = logged.then(|| watch.look(training, &feed)).flatten();
                progress.step(report.step, &figures(report, vitals));
                // There is nothing left to stop after the last step.
                let stop = self.stop.requested() && report.step < total;
                if report.step.is_multiple_of(config.pretrain.checkpoint_every) || stop {
                    let state = self.state(scans, report.step, skipped);
                    if save(training, &state, &checkpoint) {
                        saved = Some(report.step);
                    }
                }
                if stop {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        );
        let stretch = trained.map_err(|error| match error {
            TrainError::Diverged {
                step,
                figure,
                value,
                scans,
                ..
            } => TrainError::Diverged {
                step,
                figure,
                value,
                scans,
                checkpoint: saved.map(|_| checkpoint.clone()),
            },
            other => other,
        })?;
        progress.finish();
        let step = training.steps_done();
        if !stretch.stopped {
            let state = self.state(scans, step, &skipped);
            checkpoint_of(&training, &state)
                .save(&checkpoint)
                .map_err(|error| TrainError::io(&checkpoint, error))?;
            save_weights(&self.plan, &training.backbone(), &self.dir.join(BACKBONE))?;
        }
        Ok(Outcome {
            step,
            total,
            stretch,
            skipped,
        })
    }

    fn state(&self, scans: usize, step: u64, skipped: &Skipped) -> State {
        State {
            kind: Kind::Pretraining,
            objective: self.objective,
            config: self.plan.config().clone(),
            scans,
            step,
            skipped: skipped.clone(),
        }
    }

    fn restore(
        &self,
        training: &mut Pretraining,
        path: &Path,
        scans: usize,
    ) -> Result<Skipped, TrainError> {
        let checkpoint = Checkpoint::load(path)?;
        let state: State = checkpoint.state(path)?;
        let differs = |what: &str, expected: String, found: String| TrainError::Checkpoint {
            path: path.to_owned(),
            reason: format!("{what}: expected {expected}, found {found}"),
        };
        if state.objective != self.objective {
            let (expected, found) = (self.objective, state.objective);
            return Err(differs(
                "objective",
                format!("{expected:?}"),
                format!("{found:?}"),
            ));
        }
        if state.scans != scans {
            return Err(differs(
                "training scans",
                scans.to_string(),
                state.scans.to_string(),
            ));
        }
        if same_run(&state.config) != same_run(self.plan.config()) {
            let (expected, found) = (self.plan.config().to_toml()?, state.config.to_toml()?);
            let mut lines = expected.lines().zip(found.lines());
            let (expected, found) = lines.find(|(a, b)| a != b).unwrap_or(("", ""));
            return Err(differs(
                "configuration",
                expected.to_owned(),
                found.to_owned(),
            ));
        }
        let named = |error: TrainError| TrainError::Checkpoint {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        training.load(&checkpoint.part("model")).map_err(named)?;
        training
            .set_moments(checkpoint.part("moments"))
            .map_err(named)?;
        training.set_steps_done(state.step);
        if self.objective == Objective::Dino {
            training
                .set_teacher(&checkpoint.part("teacher"))
                .map_err(named)?;
            let center = checkpoint
                .tensors
                .get("center")
                .map(|center| center.values.as_slice());
            training
                .set_center(center.unwrap_or_default())
                .map_err(named)?;
        }
        Ok(state.skipped)
    }
}

/// Warns once when a DINO run collapses.
#[derive(Default)]
struct Watch {
    warned: bool,
}

impl Watch {
    fn look(&mut self, training: &Pretraining, feed: &Feed) -> Option<Vitals> {
        /// Scans that show whether they differ; passes of fewer are put together.
        const SCANS: usize = 8;
        if training.objective() == Objective::Mae {
            return None;
        }
        // Batches of this very step, prepared once more: rare, and it keeps every step lean.
        let first = (training.steps_done() - 1) * training.passes();
        let batch = training.plan().config().dino.device_batch;
        let passes = training.passes().min(SCANS.div_ceil(batch) as u64);
        let vitals = training.vitals((first..first + passes).map(|pass| feed.prepare(pass)))?;
        let verdict = vitals.verdict(training.plan().dino_head().prototypes);
        if matches!(verdict, Verdict::Constant | Verdict::Uniform) && !self.warned {
            self.warned = true;
            tracing::warn!(
                ?verdict,
                entropy = vitals.entropy,
                mean_entropy = vitals.mean_entropy,
                feature_std = vitals.feature_std,
                "the teacher's outputs do not tell scans apart: the run may have collapsed"
            );
        }
        Some(vitals)
    }
}

fn figures(report: &StepReport, vitals: Option<Vitals>) -> Vec<(&'static str, f64)> {
    let rates = report.rates;
    let mut figures = vec![
        ("loss", report.loss),
        ("lr", rates.lr),
        ("weight_decay", rates.weight_decay),
    ];
    if let Some(vitals) = vitals {
        figures.extend([
            ("teacher_momentum", rates.momentum),
            ("teacher_temperature", rates.temperature),
            ("teacher_entropy", vitals.entropy),
            ("teacher_mean_entropy", vitals.mean_entropy),
            ("center_norm", vitals.center_norm),
            ("feature_std", vitals.feature_std),
        ]);
    }
    figures
}

/// Everything a run goes on from.
fn checkpoint_of(training: &Pretraining, state: &State) -> Checkpoint {
    let mut tensors = StateDict::new();
    insert_part(&mut tensors, "model", training.parameters());
    insert_part(&mut tensors, "moments", training.moments());
    if let Some(teacher) = training.teacher() {
        insert_part(&mut tensors, "teacher", teacher);
    }
    if let Some(values) = training.center() {
        tensors.insert(
            "center".into(),
            NamedTensor {
                shape: vec![values.len()],
                values,
            },
        );
    }
    Checkpoint::new(state, tensors)
}

/// A checkpoint that cannot be written is no reason to lose the run: the old one still stands.
fn save(training: &Pretraining, state: &State, path: &Path) -> bool {
    match checkpoint_of(training, state).save(path) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, step = state.step, "no checkpoint; the previous one is intact");
            false
        }
    }
}

/// The configuration without what may change between two halves of a run.
fn same_run(config: &Config) -> Config {
    let mut config = config.clone();
    config.device.clear();
    config.data.workers = 1;
    config.data.queue = 1;
    config.data.memory_mib = 0;
    config.pretrain.checkpoint_every = 1;
    config.pretrain.log_every = 1;
    config.pretrain.devices = 1;
    config
}

/// Weights alone, in the layout of the released checkpoints.
fn save_weights(plan: &Plan, backbone: &StateDict, path: &Path) -> Result<(), TrainError> {
    let notes = BTreeMap::from([(HEADS.to_owned(), plan.vit().heads.to_string())]);
    weights::write(path, backbone, &notes).map_err(|error| TrainError::Checkpoint {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    fs::write(path, bytes).map_err(|error| TrainError::io(path, error))
}

#[cfg(test)]
mod tests;
