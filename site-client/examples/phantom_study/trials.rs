//! One job: a pre-training, or a training from it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use burn::tensor::Device;
use core_model::heads::ProbeKind;
use core_model::state::StateDict;
use site_client::evaluate::{Part, Prediction, Predictions};
use site_client::train::data::{Labelled, stream};
use site_client::train::downstream::{
    Draw, Finetuning, Protocol, Rule, Start as Weights, Trial, classify, fit,
};
use site_client::train::pretrain::{PretrainRun, backbone_of};
use site_client::train::record::Stop;
use site_client::train::{Config, FinetuneConfig, Plan};

use super::cohorts::Cohorts;
use super::jobs::{Job, SHOT_TASKS, SHOTS, Start, Sweep, Sweeps, Way};

/// What every job needs.
pub(crate) struct Study<'a> {
    pub(crate) out: &'a Path,
    pub(crate) plan: Plan,
    pub(crate) sweeps: Sweeps,
    pub(crate) cohorts: Cohorts,
    pub(crate) device: Device,
    pub(crate) stop: Stop,
}

impl Study<'_> {
    /// Whether a job's outcome is there.
    pub(crate) fn done(&self, job: &Job) -> bool {
        match job {
            Job::Pretrain(start) => self.weights(start).exists(),
            Job::Trial(..) => self.note(job).exists(),
        }
    }

    /// Does a job; returns the validation AUC it was selected by.
    pub(crate) fn do_job(&self, job: &Job) -> anyhow::Result<Option<f64>> {
        match job {
            Job::Pretrain(start) => self.pretrain(start).map(|()| None),
            Job::Trial(start, way, subset) => {
                let (validation, mut rows) = self
                    .trial(*start, *way, *subset)
                    .with_context(|| job.to_string())?;
                for row in &mut rows {
                    row.model = Some(start.to_string().into());
                }
                if !rows.is_empty() {
                    Predictions { rows }.write(&self.note(job).with_extension("csv"))?;
                }
                // Written last and whole: it says that the job is done.
                let partial = self.note(job).with_extension("partial");
                fs::write(&partial, validation.to_string())?;
                fs::rename(partial, self.note(job))?;
                Ok(Some(validation))
            }
        }
    }

    fn note(&self, job: &Job) -> PathBuf {
        self.out.join("trials").join(format!("{job}.val"))
    }

    fn folder(&self, start: &Start) -> PathBuf {
        self.out.join("pretrain").join(start.to_string())
    }

    fn weights(&self, start: &Start) -> PathBuf {
        self.folder(start).join("backbone.safetensors")
    }

    fn plan(&self, seed: u64, finetune: Option<FinetuneConfig>) -> anyhow::Result<Plan> {
        let config = self.plan.config();
        Ok(Plan::new(Config {
            seed,
            finetune: finetune.unwrap_or_else(|| config.finetune.clone()),
            ..config.clone()
        })?)
    }

    fn pretrain(&self, start: &Start) -> anyhow::Result<()> {
        let (objective, percent) = start.pretrained.expect("a start that is pre-trained");
        let dir = self.folder(start);
        let run = PretrainRun {
            plan: self.plan(start.seed, None)?,
            objective,
            resume: dir.join("last.safetensors").exists(),
            dir,
            stop: self.stop.clone(),
        };
        let outcome = run.execute(
            self.cohorts.pool(percent),
            std::slice::from_ref(&self.device),
        )?;
        let waited = outcome.stretch.waited.as_secs_f64();
        tracing::info!(%start, loss = outcome.stretch.loss, waited, "pre-trained");
        Ok(())
    }

    fn backbone(&self, start: &Start) -> anyhow::Result<Option<StateDict>> {
        let dir = self.folder(start);
        Ok(start.pretrained.map(|_| backbone_of(&dir)).transpose()?)
    }

    fn trial(&self, start: Start, way: Way, subset: u64) -> anyhow::Result<(f64, Vec<Prediction>)> {
        let internal = self.cohorts.internal();
        let external = self.cohorts.external();
        match way {
            Way::Paper => self.fine_tune(start, subset, None, external),
            Way::Combination(sweep, index) => {
                let finetune = &self.sweeps.of(sweep)[index];
                let validation = self.validate(start, subset, finetune.clone())?;
                Ok((validation, Vec::new()))
            }
            Way::Tuned(sweep) => {
                let best = self.best_combination(sweep, start, subset)?;
                self.fine_tune(start, subset, Some(best), external)
            }
            Way::Linear => self.probe(start, subset, Protocol::LinearProbe),
            Way::Attentive => self.probe(start, subset, Protocol::AttentiveProbe),
            Way::InSite(place) => {
                let set = self.cohorts.subset(&external[place], subset)?;
                let draw = Draw::balanced(&set, self.plan.config().finetune.draws)?;
                self.train(start, subset, Protocol::Finetune, None, (&set, &[], &draw))
            }
            Way::Shots { task, k } => {
                let set = of_task(internal, task)?;
                let (few, _) = set.classes(0, Part::Train)?.few(1, subset, SHOTS[k]);
                let shots = Draw::Shots(few);
                self.train(start, subset, Protocol::Finetune, None, (&set, &[], &shots))
            }
            Way::SimpleShot => Ok((0.0, self.simple_shot(start, subset)?)),
        }
    }

    fn fine_tune(
        &self,
        start: Start,
        subset: u64,
        finetune: Option<FinetuneConfig>,
        external: &[Labelled],
    ) -> anyhow::Result<(f64, Vec<Prediction>)> {
        let set = self.cohorts.subset(self.cohorts.internal(), subset)?;
        let draw = Draw::balanced(&set, self.plan.config().finetune.draws)?;
        let on = (&set, external, &draw);
        self.train(start, subset, Protocol::Finetune, finetune, on)
    }

    fn probe(
        &self,
        start: Start,
        subset: u64,
        protocol: Protocol,
    ) -> anyhow::Result<(f64, Vec<Prediction>)> {
        let set = self.cohorts.subset(self.cohorts.internal(), subset)?;
        let draw = Draw::balanced(&set, self.plan.config().finetune.draws)?;
        self.train(
            start,
            subset,
            protocol,
            None,
            (&set, self.cohorts.external(), &draw),
        )
    }

    /// Trains, keeps the best epoch by validation, scores the test parts once.
    fn train(
        &self,
        start: Start,
        subset: u64,
        protocol: Protocol,
        finetune: Option<FinetuneConfig>,
        (set, external, draw): (&Labelled, &[Labelled], &Draw),
    ) -> anyhow::Result<(f64, Vec<Prediction>)> {
        let (plan, backbone) = (self.plan(start.seed, finetune)?, self.backbone(&start)?);
        let trial = Trial {
            plan: &plan,
            protocol,
            backbone: backbone.as_ref(),
            seed: trial_seed(start, subset),
            device: &self.device,
        };
        let trained = trial.run(set, external, draw, &mut |_, _, _| {})?;
        Ok((trained.fit.validation_auc, trained.predictions))
    }

    /// Validation AUC of one combination of a sweep; the test parts stay unseen.
    fn validate(&self, start: Start, subset: u64, finetune: FinetuneConfig) -> anyhow::Result<f64> {
        let set = self.cohorts.subset(self.cohorts.internal(), subset)?;
        let draw = Draw::balanced(&set, finetune.draws)?;
        let (epochs, steps) = (finetune.epochs, draw.steps(finetune.epochs, finetune.batch));
        let (plan, backbone) = (
            self.plan(start.seed, Some(finetune))?,
            self.backbone(&start)?,
        );
        let weights = backbone
            .as_ref()
            .map_or(Weights::Scratch, Weights::Backbone);
        let seed = trial_seed(start, subset);
        let (kind, tasks) = (ProbeKind::Linear, set.tasks().len());
        let mut learner =
            Finetuning::new(&plan, kind, tasks, weights, (seed, steps), &self.device)?;
        let fitted = fit(&mut learner, &set, &draw, epochs, seed, &mut |_, _, _| {})?;
        Ok(fitted.validation_auc)
    }

    fn best_combination(
        &self,
        sweep: Sweep,
        start: Start,
        subset: u64,
    ) -> anyhow::Result<FinetuneConfig> {
        let mut best: Option<(f64, &FinetuneConfig)> = None;
        let trials = self.sweeps.trials(sweep, start, subset);
        for (job, finetune) in trials.iter().zip(self.sweeps.of(sweep)) {
            let validation: f64 = fs::read_to_string(self.note(job))?.parse()?;
            if best.is_none_or(|(kept, _)| validation > kept) {
                best = Some((validation, finetune));
            }
        }
        Ok(best.context("an empty sweep")?.1.clone())
    }

    /// Every disease of the curves and every K, on features computed once.
    fn simple_shot(&self, start: Start, repeat: u64) -> anyhow::Result<Vec<Prediction>> {
        let internal = self.cohorts.internal();
        let (plan, backbone) = (self.plan(start.seed, None)?, self.backbone(&start)?);
        let trial = Trial {
            plan: &plan,
            protocol: Protocol::LinearProbe,
            backbone: backbone.as_ref(),
            seed: trial_seed(start, repeat),
            device: &self.device,
        };
        let test = internal.part(Part::Test);
        let scans = [internal.part(Part::Train), test.clone()].concat();
        let features = trial.features(ProbeKind::Linear, internal, &scans)?;
        let mut predictions = Vec::new();
        for task in 0..SHOT_TASKS.len() {
            let set = of_task(internal, task)?;
            let classes = set.classes(0, Part::Train)?;
            for k in SHOTS {
                let (few, _) = classes.few(1, repeat, k);
                let scores = classify(Rule::SimpleShot, &features, &few, &test);
                let mut rows = set.predictions(&test, &scores);
                for row in &mut rows {
                    row.run = Some(k.to_string().into());
                }
                predictions.extend(rows);
            }
        }
        Ok(predictions)
    }
}

fn of_task(set: &Labelled, task: usize) -> anyhow::Result<Labelled> {
    Ok(set.of_tasks(&[SHOT_TASKS[task].into()])?)
}

/// Draws first weights of the head, and of the whole model from scratch.
fn trial_seed(start: Start, subset: u64) -> u64 {
    stream(start.seed, "trial", &[subset])
}
