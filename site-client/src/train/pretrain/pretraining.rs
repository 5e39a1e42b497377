//! Pre-training as an object that runs steps when told to.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use core_model::init::Init;
use core_model::layers::Product;
use core_model::ssl::dino::{Dino, DinoNet};
use core_model::ssl::mae::Mae;
use core_model::state::{self, Mismatch, StateDict};

use super::feed::{Batch, View};
use super::{Objective, Rates, Schedule};
use crate::device::DeviceChoice;
use crate::train::optimizer::{Optimizer, Pull, per_parameter};
use crate::train::plan::require_vit;
use crate::train::record::{Vitals, entropies, spread};
use crate::train::{OptimizerKind, Plan, Precision, TrainError};
use crate::weights::{self, Section};

mod replicas;
mod step;

use replicas::Devices;

/// A model in pre-training: parameters, optimizer moments and the global step.
///
/// A run of its own calls [`step`](Self::step) until the schedule ends. A federation puts the global
/// parameters in with [`load`](Self::load), runs its local steps, and takes them out with
/// [`parameters`](Self::parameters); since every rate is a function of the global step, the two do
/// the same.
#[derive(Debug)]
pub struct Pretraining {
    plan: Plan,
    schedule: Schedule,
    devices: Devices,
    network: Network,
    optimizer: Optimizer,
    step: u64,
}

#[derive(Debug)]
enum Network {
    Dino(Box<Dino>),
    Mae(Box<Mae>),
}

/// What one step did.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// The step, counted from 1.
    pub step: u64,
    /// Mean loss over the scans of the step.
    pub loss: f64,
    /// What it trained with.
    pub rates: Rates,
}

impl Pretraining {
    /// A fresh model, drawn from the plan's seed, for a site with `scans` training scans.
    ///
    /// # Errors
    ///
    /// The plan's architecture cannot be pre-trained.
    pub fn new(
        plan: &Plan,
        objective: Objective,
        scans: usize,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let schedule = Schedule::new(plan.config(), objective, scans);
        Self::with_schedule(plan, objective, schedule, device)
    }

    /// A fresh model with schedules given from outside, as a federation's plan gives them.
    ///
    /// # Errors
    ///
    /// The plan's architecture cannot be pre-trained.
    pub fn with_schedule(
        plan: &Plan,
        objective: Objective,
        schedule: Schedule,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let config = plan.config();
        require_vit(config, "pre-training")?;
        let device = device.clone().autodiff();
        let product = match config.pretrain.precision {
            Precision::Float32 => Product::Float32,
            Precision::Bfloat16 if device.supports_dtype(FloatDType::BF16) => Product::Bfloat16,
            Precision::Bfloat16 => {
                let reason = format!(
                    "{}: has no bfloat16 matrix products; set pretrain.precision to float32",
                    config.device
                );
                return Err(TrainError::Device { reason });
            }
        };
        let mut init = Init::seeded(config.seed, &device).multiplying_in(product);
        let refused = |error: core_model::error::ConfigError| TrainError::config(error.to_string());
        let (network, betas, clip, decay_all) = match objective {
            Objective::Dino => {
                let net = DinoNet::new(plan.vit(), plan.dino_head(), &mut init).map_err(refused)?;
                let dino = &config.dino;
                let network = Network::Dino(Box::new(Dino::new(net, plan.dino_loss())));
                (network, dino.betas, dino.clip, dino.decay_all)
            }
            Objective::Mae => {
                let encoder = plan.mae_encoder();
                let net = Mae::new(&encoder, plan.mae(), &mut init).map_err(refused)?;
                let mae = &config.mae;
                (
                    Network::Mae(Box::new(net)),
                    mae.betas,
                    mae.clip,
                    mae.decay_all,
                )
            }
        };
        let kind = OptimizerKind::Adamw;
        let optimizer = Optimizer::new(kind, betas, decay_all, per_parameter(clip));
        Ok(Self {
            plan: plan.clone(),
            schedule,
            devices: Devices::one(device),
            network,
            optimizer,
            step: 0,
        })
    }

    /// Spreads the passes of each step over these devices too, each with a copy of the model
    /// (data parallelism): the gradients are summed, and every step is the one that a single device
    /// takes by accumulation.
    ///
    /// The running statistics of a head with batch norm are those of the first device's passes.
    ///
    /// # Errors
    ///
    /// Passes that the devices do not share evenly.
    pub fn spread_over(&mut self, peers: &[Device]) -> Result<(), TrainError> {
        let mut list = vec![self.devices.home().clone()];
        list.extend(peers.iter().map(|device| device.clone().autodiff()));
        if !self.passes().is_multiple_of(list.len() as u64) {
            let (passes, devices) = (self.passes(), list.len());
            return Err(TrainError::config(format!(
                "pretrain.devices: must divide the passes of a step (global_batch / device_batch), \
                 found {devices} devices for {passes} passes"
            )));
        }
        let choice = self.plan.config().device.parse::<DeviceChoice>();
        let collective = matches!(choice, Ok(DeviceChoice::Cuda(_)));
        self.devices = Devices::several(list, collective);
        Ok(())
    }

    /// What is optimized.
    #[must_use]
    pub fn objective(&self) -> Objective {
        match self.network {
            Network::Dino(_) => Objective::Dino,
            Network::Mae(_) => Objective::Mae,
        }
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Steps done since the start of the run, whoever did them.
    #[must_use]
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Steps of the whole run.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.schedule.total
    }

    /// Passes of a device in one step: the gradient is accumulated over them.
    #[must_use]
    pub fn passes(&self) -> u64 {
        let config = self.plan.config();
        let (batch, pass) = match self.network {
            Network::Dino(_) => (config.dino.global_batch, config.dino.device_batch),
            Network::Mae(_) => (config.mae.global_batch, config.mae.device_batch),
        };
        (batch / pass) as u64
    }

    /// Scans of one step, over all its passes.
    fn global_batch(&self) -> usize {
        let config = self.plan.config();
        match self.network {
            Network::Dino(_) => config.dino.global_batch,
            Network::Mae(_) => config.mae.global_batch,
        }
    }

    /// Goes on from global step `step`; the schedules follow.
    pub fn set_steps_done(&mut self, step: u64) {
        self.step = step;
    }

    /// The trained parameters: the DINO student with its head, or MAE's encoder and decoder.
    #[must_use]
    pub fn parameters(&self) -> StateDict {
        match &self.network {
            Network::Dino(dino) => state::state_dict(&dino.student),
            Network::Mae(mae) => state::state_dict(&**mae),
        }
    }

    /// Replaces the trained parameters.
    ///
    /// # Errors
    ///
    /// Parameters of another architecture; every difference is named.
    pub fn load(&mut self, parameters: &StateDict) -> Result<(), TrainError> {
        match &mut self.network {
            Network::Dino(dino) => {
                dino.student = state::load(dino.student.clone(), parameters).map_err(misfit)?;
            }
            Network::Mae(mae) => {
                **mae = state::load((**mae).clone(), parameters).map_err(misfit)?
            }
        }
        Ok(())
    }

    /// The DINO teacher's parameters; none for MAE.
    #[must_use]
    pub fn teacher(&self) -> Option<StateDict> {
        match &self.network {
            Network::Dino(dino) => Some(state::state_dict(&dino.teacher)),
            Network::Mae(_) => None,
        }
    }

    /// Replaces the DINO teacher; nothing for MAE.
    ///
    /// # Errors
    ///
    /// Parameters of another architecture; every difference is named.
    pub fn set_teacher(&mut self, parameters: &StateDict) -> Result<(), TrainError> {
        if let Network::Dino(dino) = &mut self.network {
            dino.teacher = state::load(dino.teacher.clone(), parameters).map_err(misfit)?;
        }
        Ok(())
    }

    /// The DINO center, one value per prototype; none for MAE.
    #[must_use]
    pub fn center(&self) -> Option<Vec<f32>> {
        match &self.network {
            Network::Dino(dino) => Some(to_host(dino.center.clone())),
            Network::Mae(_) => None,
        }
    }

    /// Replaces the DINO center; nothing for MAE.
    ///
    /// # Errors
    ///
    /// A center of another number of prototypes.
    pub fn set_center(&mut self, center: &[f32]) -> Result<(), TrainError> {
        if let Network::Dino(dino) = &mut self.network {
            let prototypes = self.plan.dino_head().prototypes;
            if center.len() != prototypes {
                let found = center.len();
                let reason = format!("center: expected {prototypes} values, found {found}");
                return Err(TrainError::data(reason));
            }
            let data = TensorData::new(center.to_vec(), [prototypes]);
            dino.center = Tensor::from_data(data, &self.devices.home().clone().inner());
        }
        Ok(())
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
    pub fn set_moments(&mut self, moments: StateDict) -> Result<(), TrainError> {
        self.optimizer.restore(moments)
    }

    /// FedProx: pulls every parameter towards `anchor` with strength `mu` from now on.
    ///
    /// # Errors
    ///
    /// Parameters of another architecture; every difference is named.
    pub fn pull_towards(&mut self, anchor: &StateDict, mu: f64) -> Result<(), TrainError> {
        let pull = match &self.network {
            Network::Dino(dino) => Pull::towards(
                &state::load(dino.student.clone(), anchor).map_err(misfit)?,
                mu,
            ),
            Network::Mae(mae) => {
                Pull::towards(&state::load((**mae).clone(), anchor).map_err(misfit)?, mu)
            }
        };
        self.optimizer.set_pull(Some(pull));
        Ok(())
    }

    /// SCAFFOLD: adds `correction` to every gradient from now on.
    ///
    /// # Errors
    ///
    /// Parameters of another architecture; every difference is named.
    pub fn correct_by(&mut self, correction: &StateDict) -> Result<(), TrainError> {
        let pull = match &self.network {
            Network::Dino(dino) => {
                Pull::correcting(&state::load(dino.student.clone(), correction).map_err(misfit)?)
            }
            Network::Mae(mae) => {
                Pull::correcting(&state::load((**mae).clone(), correction).map_err(misfit)?)
            }
        };
        self.optimizer.set_pull(Some(pull));
        Ok(())
    }

    /// The backbone that fine-tuning starts from: the DINO teacher, or MAE's encoder.
    #[must_use]
    pub fn backbone(&self) -> StateDict {
        let state = match &self.network {
            Network::Dino(dino) => state::state_dict(&dino.teacher),
            Network::Mae(mae) => state::state_dict(&**mae),
        };
        weights::backbone(state, Section::default()).tensors
    }

    /// One optimizer step on the passes of one global batch, each of which is taken when a device
    /// is free for it: no more than one pass per device is held here.
    ///
    /// What learns is untouched unless loss and gradients are finite; the running statistics of a
    /// head with batch norm move with each pass.
    ///
    /// # Errors
    ///
    /// [`TrainError::Diverged`] without scan names, which the caller knows; passes that are not
    /// those of a global batch; whatever kept a pass from being prepared.
    pub fn step(
        &mut self,
        passes: impl IntoIterator<Item = Result<Batch, TrainError>>,
    ) -> Result<StepReport, TrainError> {
        let rates = self.schedule.rates(self.step);
        let empty = |pass: &_| matches!(pass, Ok(Batch { scans, .. }) if scans.is_empty());
        let passes = passes.into_iter().filter(|pass| !empty(pass));
        let total = self.global_batch();
        let loss = match &mut self.network {
            Network::Dino(_) => self.step_dino(passes, total, rates),
            Network::Mae(_) => self.step_mae(passes, total, rates),
        }?;
        self.step += 1;
        Ok(StepReport {
            step: self.step,
            loss,
            rates,
        })
    }
}

impl Pretraining {
    /// The collapse watch's figures on a few batches, one after the other on the device; none for
    /// MAE, or without a scan.
    #[must_use]
    pub fn vitals(&self, batches: impl IntoIterator<Item = Batch>) -> Option<Vitals> {
        let Network::Dino(dino) = &self.network else {
            return None;
        };
        let channels = self.plan.vit().channels;
        let device = self.devices.home().clone().inner();
        let temperature = self.schedule.rates(self.step).temperature;
        let (prototypes, dim) = (self.plan.dino_head().prototypes, self.plan.vit().dim);
        let (mut features, mut outputs) = (Vec::new(), Vec::new());
        for batch in batches {
            let scans = batch.scans.len();
            let views = volumes(batch.views, scans, channels, &device);
            let Some(view) = views.into_iter().next() else {
                continue;
            };
            let embedded = dino.teacher.backbone.embedding(view);
            let logits = dino.teacher.head.forward(embedded.clone());
            let centered = logits - dino.center.clone().reshape([1, prototypes]);
            outputs.extend(to_host(softmax(centered / temperature, 1)));
            features.extend(to_host(embedded));
        }
        let scans = outputs.len() / prototypes;
        if scans == 0 {
            return None;
        }
        let (entropy, mean_entropy) = entropies(&outputs, prototypes);
        let center = to_host(dino.center.clone());
        let squares = center
            .iter()
            .map(|value| f64::from(*value).powi(2))
            .sum::<f64>();
        Some(Vitals {
            scans,
            entropy,
            mean_entropy,
            center_norm: squares.sqrt(),
            feature_std: spread(&features, dim),
        })
    }
}

fn volumes(views: Vec<View>, scans: usize, channels: usize, device: &Device) -> Vec<Tensor<5>> {
    let tensor = |view: View| {
        let shape = [scans, channels, view.size, view.size, view.size];
        Tensor::from_data(TensorData::new(view.values, shape), device)
    };
    views.into_iter().map(tensor).collect()
}

fn to_host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .try_to_vec::<f32>()
        .expect("converted to float32")
}

fn misfit(mismatch: Mismatch) -> TrainError {
    TrainError::data(format!("parameters: {mismatch}"))
}
