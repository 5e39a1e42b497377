//! A pre-training run of one site: data, checkpoints, progress, the collapse watch.

mod kept;

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, iter};

use burn::tensor::Device;
use core_model::state::StateDict;

use super::backbone::BACKBONE;
use super::{Feed, Objective, Pretraining, Skipped, StepReport, Stretch};
use crate::evaluate::Part;
use crate::train::data::{Labelled, Source, Subset, in_fraction};
use crate::train::record::{Alarm, Checkpoint, Progress, Stop, Vitals};
use crate::train::{Plan, TrainError};
use crate::weights::{self, HEADS, WeightsError};
use kept::State;

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
    /// Step of the checkpoint in the folder; none where none could be written.
    pub saved: Option<u64>,
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
        let mut training = Pretraining::new(&self.plan, self.objective, source.len(), device)?;
        training.spread_over(peers)?;
        let mut state = State::new(self.objective, config, &*source);
        let mut skipped = Skipped::default();
        let checkpoint = self.dir.join(CHECKPOINT);
        if self.resume {
            skipped = state.restore(&mut training, &checkpoint)?;
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
                let due = report.step.is_multiple_of(config.pretrain.checkpoint_every) || stop;
                if due
                    && save(
                        &state.checkpoint(training, skipped),
                        report.step,
                        &checkpoint,
                    )
                {
                    saved = Some(report.step);
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
            self.end(&state.checkpoint(&training, &skipped), &training.backbone())?;
            saved = Some(step);
        }
        Ok(Outcome {
            step,
            total,
            stretch,
            skipped,
            saved,
        })
    }

    /// Writes what a run ends with. A file that cannot be written keeps no other from it: where the
    /// disk is too full for a checkpoint, the weights alone may fit.
    fn end(&self, checkpoint: &Checkpoint, backbone: &StateDict) -> Result<(), TrainError> {
        let paths = [CHECKPOINT, BACKBONE].map(|name| self.dir.join(name));
        let faults = [
            checkpoint
                .save(&paths[0])
                .map_err(|error| format!("{}: {error}", paths[0].display())),
            save_weights(&self.plan, backbone, &paths[1]).map_err(|error| causes(&error)),
        ];
        let (mut failed, mut written) = (Vec::new(), Vec::new());
        for (path, fault) in paths.into_iter().zip(faults) {
            match fault {
                Ok(()) => written.push(path),
                Err(fault) => failed.push(fault),
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        Err(TrainError::Unwritten { failed, written })
    }
}

/// Warns when a DINO run collapses.
#[derive(Default)]
struct Watch {
    alarm: Alarm,
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
        if self.alarm.sounds(verdict) {
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

/// A checkpoint that cannot be written is no reason to lose the run: the old one still stands.
fn save(checkpoint: &Checkpoint, step: u64, path: &Path) -> bool {
    match checkpoint.save(path) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, step, "no checkpoint; the previous one is intact");
            false
        }
    }
}

/// Weights alone, in the layout of the released checkpoints.
fn save_weights(plan: &Plan, backbone: &StateDict, path: &Path) -> Result<(), WeightsError> {
    let notes = BTreeMap::from([(HEADS.to_owned(), plan.vit().heads.to_string())]);
    weights::write(path, backbone, &notes)
}

/// An error and what caused it.
fn causes(error: &dyn Error) -> String {
    let causes = iter::successors(Some(error), |error| (*error).source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    fs::write(path, bytes).map_err(|error| TrainError::io(path, error))
}

#[cfg(test)]
mod tests;
