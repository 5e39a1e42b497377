//! The networks that decide: a backbone with a head per task, or the ResNet baseline.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use core_model::baselines::resnet::{ResNet, ResNetConfig};
use core_model::heads::{Probe, ProbeKind};
use core_model::init::Init;
use core_model::vit::Vit;

use crate::train::{Architecture, Plan};

/// One two-logit head per task.
#[derive(Module, Debug)]
pub(crate) struct Heads {
    tasks: Vec<Probe>,
}

impl Heads {
    pub(crate) fn new(kind: ProbeKind, tasks: usize, plan: &Plan, init: &mut Init) -> Self {
        let (dim, heads) = (plan.vit().dim, plan.vit().heads);
        Self {
            tasks: (0..tasks)
                .map(|_| Probe::new(kind, dim, heads, init))
                .collect(),
        }
    }

    /// Logits with running statistics: tokens `[B, T, E]` → `[B, tasks, 2]`.
    pub(crate) fn forward(&self, tokens: &Tensor<3>) -> Tensor<3> {
        let logits = self.tasks.iter().map(|head| head.forward(tokens.clone()));
        Tensor::stack(logits.collect(), 1)
    }

    /// Logits with the statistics of this batch.
    pub(crate) fn forward_train(&mut self, tokens: &Tensor<3>) -> Tensor<3> {
        let logits = self
            .tasks
            .iter_mut()
            .map(|head| head.forward_train(tokens.clone()));
        Tensor::stack(logits.collect(), 1)
    }
}

/// A network from voxels to logits.
#[derive(Debug, Clone)]
pub(crate) enum Network {
    ResNet(Box<ResNet>),
    Vit { backbone: Box<Vit>, heads: Heads },
}

impl Network {
    pub(crate) fn new(
        plan: &Plan,
        kind: ProbeKind,
        tasks: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let mut init = Init::seeded(seed, device);
        match plan.config().model.architecture {
            Architecture::Resnet50 => {
                let (channels, classes) = (plan.vit().channels, 2 * tasks);
                let config = ResNetConfig {
                    channels,
                    classes,
                    ..ResNetConfig::default()
                };
                Self::ResNet(Box::new(ResNet::new(&config, &mut init)))
            }
            Architecture::Vit => {
                let backbone = Box::new(Vit::new(plan.vit(), &mut init));
                Self::Vit {
                    backbone,
                    heads: Heads::new(kind, tasks, plan, &mut init),
                }
            }
        }
    }

    /// The same network without a record of gradients.
    pub(crate) fn valid(&self) -> Self {
        match self {
            Self::ResNet(net) => Self::ResNet(Box::new(net.valid())),
            Self::Vit { backbone, heads } => Self::Vit {
                backbone: Box::new(backbone.valid()),
                heads: heads.valid(),
            },
        }
    }

    /// Logits `[B, tasks, 2]` of volumes `[B, C, R, R, R]`, with running statistics.
    pub(crate) fn forward(&self, volumes: Tensor<5>) -> Tensor<3> {
        match self {
            Self::ResNet(net) => by_task(net.forward(volumes)),
            Self::Vit { backbone, heads } => heads.forward(&backbone.forward(volumes)),
        }
    }

    /// Logits with the statistics of this batch.
    pub(crate) fn forward_train(&mut self, volumes: Tensor<5>) -> Tensor<3> {
        match self {
            Self::ResNet(net) => by_task(net.forward_train(volumes)),
            Self::Vit { backbone, heads } => heads.forward_train(&backbone.forward(volumes)),
        }
    }
}

fn by_task(logits: Tensor<2>) -> Tensor<3> {
    let [batch, classes] = logits.dims();
    logits.reshape([batch, classes / 2, 2])
}
