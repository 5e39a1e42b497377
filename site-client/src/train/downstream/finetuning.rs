//! Fine-tuning as an object that trains on the scans it is given.

use std::collections::BTreeSet;
use std::sync::Arc;

use burn::tensor::Device;
use core_model::gradients::Gradients;
use core_model::heads::ProbeKind;
use core_model::schedule::warmup_cosine;
use core_model::ssl::views::Augmentation;
use core_model::state::{self, NamedTensor, StateDict};

use super::learner::Learner;
use super::loss::{loss, scores, targets, tensor};
use super::network::Network;
use crate::train::data::{Labelled, Loader, Reading, refuse_many, stream};
use crate::train::optimizer::{NotFinite, Optimizer, global};
use crate::train::pretrain::light;
use crate::train::{FinetuneConfig, Plan, TrainError};

/// A classifier whose every weight learns: the backbone slowly, the head fast.
///
/// Source: Methods, "Fine-tuning and probing"; two optimizers, two global norm bounds, cosine decay
/// after a linear warm-up. All rates are functions of the global step, so it can be stopped, sent
/// and gone on with like [`Pretraining`](crate::train::pretrain::Pretraining).
#[derive(Debug)]
pub struct Finetuning {
    plan: Plan,
    device: Device,
    network: Network,
    optimizers: [Optimizer; 2],
    step: u64,
    total: u64,
    /// Scans that training left out.
    unreadable: BTreeSet<usize>,
}

/// Where a classifier's backbone starts.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// From these weights.
    Backbone(&'a StateDict),
    /// From random weights.
    Scratch,
}

impl Finetuning {
    /// A classifier for `tasks` tasks that will train `total` steps; `seed` draws what is random.
    ///
    /// # Errors
    ///
    /// Weights of another architecture; every difference is named.
    pub fn new(
        plan: &Plan,
        head: ProbeKind,
        tasks: usize,
        start: Start<'_>,
        (seed, total): (u64, u64),
        device: &Device,
    ) -> Result<Self, TrainError> {
        let device = device.clone().autodiff();
        let init = stream(seed, "classifier", &[]);
        let mut network = Network::new(plan, head, tasks, init, &device);
        if let Start::Backbone(weights) = start {
            match &mut network {
                Network::ResNet(_) => {
                    let reason = "model.architecture: resnet50-3d trains from scratch only";
                    return Err(TrainError::config(reason));
                }
                Network::Vit { backbone, .. } => {
                    **backbone = load_backbone((**backbone).clone(), weights)?;
                }
            }
        }
        let config = &plan.config().finetune;
        let optimizers = [0, 1].map(|_| optimizer(config));
        Ok(Self {
            plan: plan.clone(),
            device,
            network,
            optimizers,
            step: 0,
            total,
            unreadable: BTreeSet::new(),
        })
    }

    /// Steps done since the start, whoever did them.
    #[must_use]
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Goes on from global step `step`; the schedules follow.
    pub fn set_steps_done(&mut self, step: u64) {
        self.step = step;
    }

    /// The moments of both optimizers.
    #[must_use]
    pub fn moments(&self) -> StateDict {
        let mut state = StateDict::new();
        for (prefix, optimizer) in ["backbone", "heads"].iter().zip(&self.optimizers) {
            let part = optimizer.state().into_iter();
            state.extend(part.map(|(name, tensor)| (format!("{prefix}/{name}"), tensor)));
        }
        state
    }

    /// Replaces the moments; an empty set starts them anew.
    ///
    /// # Errors
    ///
    /// Tensors that are no moments.
    pub fn set_moments(&mut self, moments: &StateDict) -> Result<(), TrainError> {
        for (prefix, optimizer) in ["backbone/", "heads/"].iter().zip(&mut self.optimizers) {
            let part = moments.iter().filter_map(|(name, tensor)| {
                Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()))
            });
            optimizer.restore(part.collect())?;
        }
        Ok(())
    }

    /// One step on a prepared batch; the parameters are untouched unless loss and gradients are
    /// finite.
    fn learn(&mut self, set: &Labelled, batch: Batch) -> Result<f64, TrainError> {
        let config = &self.plan.config().finetune;
        let rate = |peak: f64| {
            let warmup = (config.warmup * self.total as f64).round() as usize;
            let (total, step) = (self.total as usize, self.step as usize);
            warmup_cosine(peak, peak * config.min_lr_ratio, warmup, total, step)
        };
        let (backbone_lr, head_lr) = (rate(config.backbone_lr), rate(config.head_lr));
        let decay = config.weight_decay;
        let volumes = self.volumes(&batch);
        let loss = loss(
            self.network.forward_train(volumes),
            targets(set, &batch.scans),
        );
        let value = f64::from(loss.clone().into_scalar::<f32>());
        let ids = || {
            batch
                .scans
                .iter()
                .map(|scan| set.source().id(*scan))
                .collect()
        };
        if !value.is_finite() {
            return Err(TrainError::loss(self.step + 1, value).in_batch(ids));
        }
        let mut gradients = loss.backward();
        let next = self.step + 1;
        let refused = |fault: NotFinite| fault.at(next).in_batch(ids);
        let [slow, fast] = &mut self.optimizers;
        match &mut self.network {
            Network::ResNet(net) => {
                let gradients = Gradients::of(&**net, gradients);
                **net = fast
                    .step((**net).clone(), gradients, head_lr, decay)
                    .map_err(refused)?;
            }
            Network::Vit { backbone, heads } => {
                let head_gradients = Gradients::taken_from(heads, &mut gradients);
                let gradients = Gradients::of(&**backbone, gradients);
                let moved = slow.step((**backbone).clone(), gradients, backbone_lr, decay);
                let moved = moved.map_err(refused)?;
                *heads = fast
                    .step(heads.clone(), head_gradients, head_lr, decay)
                    .map_err(refused)?;
                **backbone = moved;
            }
        }
        self.step += 1;
        Ok(value)
    }

    /// What is done to the scans of an epoch: no left–right flip where a label has a side.
    pub(super) fn augmentation(&self, set: &Labelled) -> Augmentation {
        let config = &self.plan.config().finetune;
        let mut flip = config.flip;
        if set.tasks().iter().any(|task| sided(task)) {
            flip[0] = 0.0;
        }
        light(flip, config.shift)
    }

    fn volumes(&self, batch: &Batch) -> burn::tensor::Tensor<5> {
        let (channels, size) = (self.plan.vit().channels, self.plan.vit().image);
        let shape = [batch.scans.len(), channels, size, size, size];
        tensor(batch.values.clone(), shape, &self.device)
    }

    /// Batches of `scans` in order, augmented by `augmentation` with draws named by `place`; a scan
    /// that cannot be read is in none.
    fn batches(
        &self,
        set: &Labelled,
        scans: &[usize],
        reading: Reading,
        augmentation: Augmentation,
        place: u64,
    ) -> Loader<Batch> {
        let data = &self.plan.config().data;
        let (seed, size) = (self.plan.config().seed, self.plan.config().finetune.batch);
        let chunks: Vec<Vec<usize>> = scans.chunks(size).map(<[usize]>::to_vec).collect();
        let (source, end) = (Arc::clone(set.source()), chunks.len() as u64);
        Loader::start(data.workers, data.queue, 0, end, move |number| {
            let mut batch = Batch::default();
            for (slot, scan) in chunks[number as usize].iter().enumerate() {
                match source.load(*scan, reading) {
                    Ok(volume) => {
                        let draw = stream(seed, "fine-tuning", &[place, number, slot as u64]);
                        volume.augmented(&augmentation, draw, &mut batch.values);
                        batch.scans.push(*scan);
                    }
                    Err(reason) => batch.unreadable.push((*scan, reason)),
                }
            }
            batch
        })
    }

    /// Scores of those of `scans` that can be read, and which they are; `unreadable` hears of each
    /// other and says whether to go on.
    fn scored(
        &self,
        set: &Labelled,
        scans: &[usize],
        mut unreadable: impl FnMut(&[(usize, String)]) -> Result<(), TrainError>,
    ) -> Result<(Vec<usize>, Vec<f64>), TrainError> {
        let mut loader = self.batches(set, scans, Reading::Evaluation, Augmentation::none(), 0);
        let mut read = Vec::with_capacity(scans.len());
        let mut all = Vec::with_capacity(scans.len() * set.tasks().len());
        let network = self.network.valid();
        let device = self.device.clone().inner();
        while let Some(batch) = loader.next() {
            unreadable(&batch.unreadable)?;
            if batch.scans.is_empty() {
                continue;
            }
            let (channels, size) = (self.plan.vit().channels, self.plan.vit().image);
            let shape = [batch.scans.len(), channels, size, size, size];
            let volumes = tensor(batch.values, shape, &device);
            all.extend(scores(network.forward(volumes)));
            read.extend(batch.scans);
        }
        Ok((read, all))
    }
}

impl Learner for Finetuning {
    fn train(&mut self, set: &Labelled, scans: &[usize], epoch: u64) -> Result<f64, TrainError> {
        let augmentation = self.augmentation(set);
        let mut loader = self.batches(set, scans, Reading::Training, augmentation, epoch);
        let (mut sum, mut steps) = (0.0, 0.0);
        while let Some(batch) = loader.next() {
            leave_out(&mut self.unreadable, &batch.unreadable, set)?;
            // Batch norm needs two scans.
            if batch.scans.len() > 1 {
                sum += self.learn(set, batch)?;
                steps += 1.0;
            }
        }
        Ok(sum / f64::max(steps, 1.0))
    }

    fn scores(&self, set: &Labelled, scans: &[usize]) -> Result<Vec<f64>, TrainError> {
        let refuse = |unreadable: &[(usize, String)]| match unreadable.first() {
            Some((scan, reason)) => {
                let id = set.source().id(*scan);
                Err(TrainError::data(format!("scan {id}: {reason}")))
            }
            None => Ok(()),
        };
        Ok(self.scored(set, scans, refuse)?.1)
    }

    fn readable_scores(
        &self,
        set: &Labelled,
        scans: &[usize],
    ) -> Result<(Vec<usize>, Vec<f64>), TrainError> {
        let mut left_out = BTreeSet::new();
        self.scored(set, scans, |unreadable| {
            leave_out(&mut left_out, unreadable, set)
        })
    }

    fn left_out(&self) -> usize {
        self.unreadable.len()
    }

    fn parameters(&self) -> StateDict {
        match &self.network {
            Network::ResNet(net) => state::state_dict(&**net),
            Network::Vit { backbone, heads } => {
                let mut state = StateDict::new();
                let mut add = |prefix: &str, part: StateDict| {
                    let part = part.into_iter();
                    state.extend(part.map(|(name, tensor)| (format!("{prefix}.{name}"), tensor)));
                };
                add("backbone", state::state_dict(&**backbone));
                add("heads", state::state_dict(heads));
                state
            }
        }
    }

    fn load(&mut self, parameters: &StateDict) -> Result<(), TrainError> {
        match &mut self.network {
            Network::ResNet(net) => **net = fit((**net).clone(), parameters)?,
            Network::Vit { backbone, heads } => {
                let part = |prefix: &str| -> StateDict {
                    let strip = |(name, tensor): (&String, &_)| {
                        let name = name.strip_prefix(prefix)?.to_owned();
                        Some((name, NamedTensor::clone(tensor)))
                    };
                    parameters.iter().filter_map(strip).collect()
                };
                **backbone = fit((**backbone).clone(), &part("backbone."))?;
                *heads = fit(heads.clone(), &part("heads."))?;
            }
        }
        Ok(())
    }
}

/// One batch on the host.
#[derive(Debug, Default)]
struct Batch {
    scans: Vec<usize>,
    values: Vec<f32>,
    /// Scans that should be in it, and why they are not.
    unreadable: Vec<(usize, String)>,
}

/// Names and counts scans; more than 1 % of the labelled ones is an error.
fn leave_out(
    all: &mut BTreeSet<usize>,
    unreadable: &[(usize, String)],
    set: &Labelled,
) -> Result<(), TrainError> {
    for (scan, reason) in unreadable {
        if all.insert(*scan) {
            let id = set.source().id(*scan);
            tracing::warn!(scan = id, reason, "a scan cannot be read: left out");
        }
    }
    if unreadable.is_empty() {
        return Ok(());
    }
    let ids = all.iter().map(|scan| set.source().id(*scan));
    refuse_many(ids, set.labelled().len())
}

/// Whether a left–right flip changes a task's label.
#[must_use]
pub fn sided(task: &str) -> bool {
    let task = task.to_lowercase();
    ["left", "right"].iter().any(|side| task.contains(side))
}

pub(crate) fn optimizer(config: &FinetuneConfig) -> Optimizer {
    Optimizer::new(config.optimizer, config.betas, true, global(config.clip))
}

pub(crate) fn fit<M: burn::module::Module>(
    module: M,
    parameters: &StateDict,
) -> Result<M, TrainError> {
    state::load(module, parameters)
        .map_err(|mismatch| TrainError::data(format!("parameters: {mismatch}")))
}

pub(crate) fn load_backbone<M: burn::module::Module>(
    module: M,
    weights: &StateDict,
) -> Result<M, TrainError> {
    state::load(module, weights)
        .map_err(|mismatch| TrainError::data(format!("backbone: {mismatch}")))
}
