//! Probing: heads on frozen features.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use core_model::gradients::Gradients;
use core_model::heads::ProbeKind;
use core_model::init::Init;
use core_model::schedule::warmup_cosine;
use core_model::state::{self, StateDict};

use super::features::FeatureTable;
use super::finetuning::{fit, optimizer};
use super::learner::Learner;
use super::loss::{loss, scores, targets};
use super::network::Heads;
use crate::train::data::{Labelled, stream};
use crate::train::optimizer::Optimizer;
use crate::train::{Plan, TrainError};

/// Heads that learn on cached features; the backbone never moves.
#[derive(Debug)]
pub struct Probing {
    plan: Plan,
    device: Device,
    features: Arc<FeatureTable>,
    heads: Heads,
    optimizer: Optimizer,
    step: u64,
    total: u64,
}

impl Probing {
    /// Heads for `tasks` tasks that will train `total` steps; `seed` draws their first weights.
    #[must_use]
    pub fn new(
        plan: &Plan,
        kind: ProbeKind,
        tasks: usize,
        features: Arc<FeatureTable>,
        (seed, total): (u64, u64),
        device: &Device,
    ) -> Self {
        let device = device.clone().autodiff();
        let mut init = Init::seeded(stream(seed, "probe", &[]), &device);
        let heads = Heads::new(kind, tasks, plan, &mut init);
        let optimizer = optimizer(&plan.config().finetune);
        Self {
            plan: plan.clone(),
            device,
            features,
            heads,
            optimizer,
            step: 0,
            total,
        }
    }

    /// Scores of scans by the features of another table, as of another site.
    ///
    /// # Panics
    ///
    /// If a scan has no features.
    #[must_use]
    pub fn scores_on(&self, features: &FeatureTable, scans: &[usize]) -> Vec<f64> {
        let heads = self.heads.valid();
        let device = self.device.clone().inner();
        let batch = self.plan.config().finetune.batch;
        let score = |scans: &[usize]| scores(heads.forward(&features.tokens(scans, &device)));
        scans.chunks(batch).flat_map(score).collect()
    }

    /// The optimizer's moments.
    #[must_use]
    pub fn moments(&self) -> StateDict {
        self.optimizer.state()
    }

    /// Replaces the optimizer's moments; an empty set starts them anew.
    ///
    /// # Errors
    ///
    /// Tensors that are no moments.
    pub fn set_moments(&mut self, moments: &StateDict) -> Result<(), TrainError> {
        self.optimizer.restore(moments.clone())
    }

    /// Goes on from global step `step`; the schedule follows.
    pub fn set_steps_done(&mut self, step: u64) {
        self.step = step;
    }
}

impl Learner for Probing {
    fn train(&mut self, set: &Labelled, scans: &[usize], _: u64) -> Result<f64, TrainError> {
        let config = self.plan.config().finetune.clone();
        let (mut sum, mut steps) = (0.0, 0.0);
        // Batch norm needs two scans.
        for batch in scans.chunks(config.batch).filter(|batch| batch.len() > 1) {
            let warmup = (config.warmup * self.total as f64).round() as usize;
            let (total, step) = (self.total as usize, self.step as usize);
            let peak = config.head_lr;
            let lr = warmup_cosine(peak, peak * config.min_lr_ratio, warmup, total, step);
            let logits = self
                .heads
                .forward_train(&self.features.tokens(batch, &self.device));
            let loss = loss(logits, targets(set, batch));
            let value = f64::from(loss.clone().into_scalar::<f32>());
            let ids = || batch.iter().map(|scan| set.source().id(*scan)).collect();
            if !value.is_finite() {
                return Err(TrainError::loss(self.step + 1, value).in_batch(ids));
            }
            let gradients = Gradients::of(&self.heads, loss.backward());
            let heads = self.heads.clone();
            self.heads = self
                .optimizer
                .step(heads, gradients, lr, config.weight_decay)
                .map_err(|fault| fault.at(self.step + 1).in_batch(ids))?;
            self.step += 1;
            sum += value;
            steps += 1.0;
        }
        Ok(sum / f64::max(steps, 1.0))
    }

    fn scores(&self, _: &Labelled, scans: &[usize]) -> Result<Vec<f64>, TrainError> {
        Ok(self.scores_on(&self.features, scans))
    }

    fn parameters(&self) -> StateDict {
        let named = |(name, tensor)| (format!("heads.{name}"), tensor);
        state::state_dict(&self.heads)
            .into_iter()
            .map(named)
            .collect()
    }

    fn load(&mut self, parameters: &StateDict) -> Result<(), TrainError> {
        let strip = |(name, tensor): (&String, &state::NamedTensor)| {
            Some((name.strip_prefix("heads.")?.to_owned(), tensor.clone()))
        };
        self.heads = fit(
            self.heads.clone(),
            &parameters.iter().filter_map(strip).collect(),
        )?;
        Ok(())
    }
}
