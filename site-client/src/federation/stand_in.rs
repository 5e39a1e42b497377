//! A trainer that needs no model: deterministic arithmetic, for simulations and tests of rounds.

use std::ops::ControlFlow;

use protocol::plan::Plan;
use protocol::{Params, Schema};

use super::approval::Approval;
use super::session::Ready;
use super::trainer::{
    EvaluateJob, Flow, Report, TaskReport, TrainError, TrainJob, Trained, Trainer,
};

/// Moves every weight by a number that only site, round and place decide.
#[derive(Clone, Debug)]
pub struct StandIn {
    /// The model it pretends to train.
    pub schema: Schema,
    /// Examples it claims to have trained on.
    pub examples: u64,
}

impl Trainer for StandIn {
    fn schema(&mut self, _: &Plan) -> Result<Schema, TrainError> {
        Ok(self.schema.clone())
    }

    fn train(&mut self, job: &TrainJob<'_>, flow: &mut Flow<'_>) -> Result<Trained, TrainError> {
        let steps = job.plan.config().steps_per_round();
        let (schema, mut values) = job.start.params.clone().into_parts();
        let salt = seed(job.site.as_str(), job.round.0);
        for (index, value) in values.iter_mut().enumerate() {
            let mixed = (index as u64 ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *value += (mixed >> 40) as f32 / (1_u64 << 24) as f32 - 0.5;
        }
        if flow(steps, steps) == ControlFlow::Break(()) {
            return Err(TrainError::Canceled);
        }
        let params =
            Params::new(schema, values).map_err(|error| TrainError::Failed(error.to_string()))?;
        Ok(Trained {
            params,
            teacher: None,
            examples: self.examples.max(1),
            steps,
            learning_rate_sum: steps as f64 * 0.01,
        })
    }

    fn evaluate(
        &mut self,
        job: &EvaluateJob<'_>,
        flow: &mut Flow<'_>,
    ) -> Result<Report, TrainError> {
        if flow(1, 1) == ControlFlow::Break(()) {
            return Err(TrainError::Canceled);
        }
        let Some(evaluation) = &job.plan.config().evaluation else {
            return Ok(Report { tasks: Vec::new() });
        };
        let bins = evaluation.histogram_bins as usize;
        let counts = |high: usize| (0..bins).map(|bin| u32::from(bin == high) * 10).collect();
        let tasks = evaluation.tasks.iter().map(|task| TaskReport {
            task: task.clone(),
            positive: counts(bins - 1),
            negative: counts(0),
            auc: Some(1.0),
        });
        Ok(Report {
            tasks: tasks.collect(),
        })
    }
}

/// Approves every plan, for networks of stand-ins: they have no patients.
#[derive(Clone, Copy, Debug)]
pub struct Everything;

impl Approval for Everything {
    fn allows(&self, _: &Plan) -> Result<(), String> {
        Ok(())
    }

    fn lets_out(&self, _: &Ready) -> Result<(), String> {
        Ok(())
    }

    fn suppress(&self, report: Report) -> Report {
        report
    }
}

/// FNV-1a (RFC 9923) of a name and a number.
fn seed(name: &str, number: u32) -> u64 {
    name.bytes()
        .chain(number.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}
