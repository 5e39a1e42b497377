//! Averaging one step at sites with different scans is the step of all scans together.
//!
//! AdamW is not linear in the gradient, so its steps do not average to the step of the mean gradient,
//! neither here nor in any federation. What is exact is said of the gradient: after one step from
//! none Adam's first moment is (1 − β₁) times it, which gives a plain gradient step to average. Only
//! MAE: DINO's first gradients are clipped, parameter by parameter, and clipping is not linear.

use std::fs;
use std::sync::Arc;

use burn::tensor::Device;
use core_model::state::StateDict;
use fmct_demo::Member;
use protocol::params::{Params, Schema};
use protocol::plan::Plan as Federated;
use site_client::federation::{
    EvaluateJob, Flow, LocalTraining, Report, TrainError, TrainJob, Trained, Trainer,
};
use site_client::params::{from_state, to_state};
use site_client::train::pretrain::{Feed, Pretraining};
use site_client::train::{Config, Objective, Preset};

use crate::exact::{BATCH, STEPS, alone, federated};
use crate::harness::{distance, hospital, rehearse, weights};

const SITES: [&str; 3] = ["langone", "cq500", "rsna"];

/// Training that takes one step of plain gradient descent.
struct PlainStep(LocalTraining);

impl Trainer for PlainStep {
    fn schema(&mut self, plan: &Federated) -> Result<Schema, TrainError> {
        self.0.schema(plan)
    }

    fn train(&mut self, job: &TrainJob<'_>, flow: &mut Flow<'_>) -> Result<Trained, TrainError> {
        let trained = self.0.train(job, flow)?;
        let moments = fs::read(job.keep.join("moments.safetensors")).unwrap();
        let moments = to_state(&Params::from_safetensors(&moments).unwrap());
        let mut params = to_state(&trained.params);
        params.extend(descend(&to_state(&job.start.params), &moments));
        let params = from_state(params).unwrap();
        Ok(Trained { params, ..trained })
    }

    fn evaluate(
        &mut self,
        job: &EvaluateJob<'_>,
        flow: &mut Flow<'_>,
    ) -> Result<Report, TrainError> {
        self.0.evaluate(job, flow)
    }
}

/// The parameters of `start`, one step against the gradient that these moments are of.
fn descend(start: &StateDict, moments: &StateDict) -> StateDict {
    let mae = Config::preset(Preset::Tiny).mae;
    let firsts = moments
        .iter()
        .filter_map(|(key, tensor)| Some((key.strip_prefix("exp_avg.")?, &tensor.values)));
    let step = |(name, first): (&str, &Vec<f32>)| {
        let gradient = || first.iter().map(|m| f64::from(*m) / (1.0 - mae.betas[0]));
        let norm = gradient().map(|g| g * g).sum::<f64>().sqrt();
        assert!(
            norm < 0.99 * mae.clip,
            "{name}: {norm} is clipped, which is not linear"
        );
        let mut tensor = start[name].clone();
        for (value, gradient) in tensor.values.iter_mut().zip(gradient()) {
            *value = (f64::from(*value) - RATE * gradient) as f32;
        }
        (name.to_owned(), tensor)
    };
    firsts.map(step).collect()
}

#[test]
fn one_plain_step_at_sites_with_different_scans_averages_to_the_step_of_all_scans() {
    let objective = Objective::Mae;
    let text = federated(objective, &SITES, "keep");
    let text = std::str::from_utf8(text.text()).unwrap();
    let text = text.replace(&format!("steps = {STEPS}\nb"), "steps = 1\nb");
    let text = text.replace("warmup_steps = 1 ", "warmup_steps = 0 ");
    let plan = Federated::parse(text.as_bytes()).unwrap();
    let cohorts = SITES.map(|site| hospital(site, 10));
    let members = SITES.iter().zip(&cohorts).map(|(site, cohort)| Member {
        site: site.parse().unwrap(),
        trainer: Box::new(PlainStep(LocalTraining::new(
            cohort.clone(),
            Device::flex(),
        ))),
    });
    let (mut rehearsal, _folder) = rehearse(&plan, members.collect());
    let start = weights(&rehearsal);

    // The first batches of all sites as one, seen by one machine.
    let batches = SITES.iter().zip(&cohorts).map(|(site, cohort)| {
        Feed::new(&alone(site, BATCH), objective, Arc::clone(cohort.source())).prepare(0)
    });
    let one = alone("langone", SITES.len() * BATCH);
    let mut pooled = Pretraining::new(&one, objective, 30, &Device::flex()).unwrap();
    pooled.load(&start).unwrap();
    pooled.step(batches.map(Ok)).unwrap();
    let mut expected = start.clone();
    expected.extend(descend(&start, &pooled.moments()));

    let facts = rehearsal.round().unwrap();
    assert!(facts.norms[0] != facts.norms[1], "sites saw the same scans");
    let end = weights(&rehearsal);
    let (off, moved) = (distance(&end, &expected), distance(&start, &expected));
    println!("{off:e} off after {moved:e}");
    assert!(moved > 1e-2, "nothing was learned");
    assert!(off < 1e-5 * moved, "{off:e} off after {moved:e}");
}

/// Large, so that the gradient shows above the rounding of the weights.
const RATE: f64 = 1.0;
