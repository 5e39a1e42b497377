//! Pre-training rounds: DINO and MAE.

use std::sync::Arc;

use core_model::state::{NamedTensor, StateDict};
use protocol::params::Params;
use protocol::plan::Strategy;

use super::fault::failed;
use super::moments::{keep_moments, kept_moments};
use super::recipe::{local_plan, local_steps, schedule, site_seed};
use super::{CENTER, LocalTraining, training_scans};
use crate::federation::{Flow, TrainError, TrainJob, Trained};
use crate::params::{from_state, to_state};
use crate::train::Objective;
use crate::train::data::Labelled;
use crate::train::pretrain::{Feed, Pretraining, Skipped};

impl LocalTraining {
    pub(super) fn pretrain(
        &self,
        cohort: &Labelled,
        objective: Objective,
        job: &TrainJob<'_>,
        flow: &mut Flow<'_>,
    ) -> Result<Trained, TrainError> {
        let config = job.plan.config();
        let plan = local_plan(config, site_seed(config.seed, job.site))?;
        let source = training_scans(cohort);
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
}

/// The parameters and, apart from them, DINO's center.
fn split_center(params: &Params) -> (StateDict, Option<Vec<f32>>) {
    let mut state = to_state(params);
    let center = state.remove(CENTER).map(|tensor| tensor.values);
    (state, center)
}

/// A tensor of one axis.
pub(super) fn vector(values: Vec<f32>) -> NamedTensor {
    NamedTensor {
        shape: vec![values.len()],
        values,
    }
}
