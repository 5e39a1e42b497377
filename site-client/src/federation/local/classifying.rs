//! Rounds of fine-tuning and probing, and the evaluation of any model on held-out patients.

use std::collections::BTreeMap;
use std::sync::Arc;

use core_model::heads::ProbeKind;
use core_model::metrics::{Ranked, ScoreBins};
use core_model::state::{NamedTensor, StateDict};

use super::fault::failed;
use super::moments::{keep_moments, kept_moments};
use super::recipe::{local_plan, local_steps, site_seed};
use super::{LocalTraining, is_head, labelled};
use crate::evaluate::Part;
use crate::federation::{EvaluateJob, Flow, Report, TaskReport, TrainError, TrainJob, Trained};
use crate::params::{from_state, to_state};
use crate::train::Plan;
use crate::train::data::Labelled;
use crate::train::downstream::{Draw, FeatureTable, Finetuning, Learner, Probing, Start};
use crate::weights::{self, Section};

impl LocalTraining {
    pub(super) fn finetune(
        &self,
        cohort: &Labelled,
        job: &TrainJob<'_>,
        flow: &mut Flow<'_>,
        frozen: bool,
    ) -> Result<Trained, TrainError> {
        let config = job.plan.config();
        let plan = local_plan(config, site_seed(config.seed, job.site))?;
        let set = labelled(cohort, config)?;
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
            let heads = given.iter().filter(|(name, _)| is_head(name));
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
    pub(super) fn scores(
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
        if given.keys().any(|name| is_head(name)) {
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

/// Histograms on the logit scale and the exact area, task by task.
///
/// A patient counts once in each class: by the mean logit of the scans that have the disease, and by
/// that of those without it. So cells are patients, and those of a class are independent.
pub(super) fn report(
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
        let mut patients: BTreeMap<(&str, bool), (f64, f64)> = BTreeMap::new();
        for (row, scan) in scans.iter().enumerate() {
            let known = &set.rows()[*scan];
            if let Some(label) = known.labels[task] {
                let (sum, seen) = patients.entry((&known.patient, label)).or_default();
                *sum += logit(scores[row * count + task]);
                *seen += 1.0;
            }
        }
        let means = patients
            .iter()
            .map(|((_, label), (sum, scans))| (*label, sum / scans));
        let (labels, logits): (Vec<bool>, Vec<f64>) = means.unzip();
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

fn prefixed(state: &StateDict, prefix: &str) -> StateDict {
    let strip = |(name, tensor): (&String, &NamedTensor)| {
        Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()))
    };
    state.iter().filter_map(strip).collect()
}

/// Keeps the logit of a certain score, 0 or 1, finite; no other double reaches it.
const LOGIT_RANGE: f64 = 40.0;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use core_model::phantom::Site;

    use super::*;
    use crate::train::data::Phantoms;

    #[test]
    fn cells_count_patients_however_often_they_were_scanned() {
        let site = Site::builtin("langone").unwrap();
        let set = Labelled::phantoms(Phantoms::new(site, 3, 60, 24, 3));
        let scans: Vec<usize> = (0..set.rows().len()).collect();
        let (tasks, scores) = (
            set.tasks().len(),
            vec![0.3; scans.len() * set.tasks().len()],
        );
        let report = report(&set, &scans, &scores, 16).unwrap();
        assert_eq!(report.tasks.len(), tasks);
        let mut repeated = 0;
        for (task, found) in report.tasks.iter().enumerate() {
            for (class, cells) in [(true, &found.positive), (false, &found.negative)] {
                let of_class =
                    |row: &&crate::train::data::LabelledScan| row.labels[task] == Some(class);
                let rows: Vec<_> = set.rows().iter().filter(of_class).collect();
                let patients: BTreeSet<_> = rows.iter().map(|row| &row.patient).collect();
                assert_eq!(cells.iter().sum::<u32>() as usize, patients.len());
                repeated += rows.len() - patients.len();
            }
        }
        assert!(repeated > 0, "somebody was scanned twice");
    }
}
