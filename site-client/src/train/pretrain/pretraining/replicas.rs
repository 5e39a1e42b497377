//! The devices that share the passes of a step, each with a copy of the model.

use std::thread;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use core_model::gradients::Gradients;
use core_model::ssl::dino::Dino;
use core_model::ssl::mae::Mae;

use crate::train::TrainError;
use crate::train::pretrain::Batch;

/// One device or several of one kind; the first holds the model between steps.
#[derive(Clone, Debug)]
pub(super) struct Devices {
    list: Vec<Device>,
    /// Whether gradients are summed by the devices themselves, rather than on the host.
    collective: bool,
}

/// Where a pass runs.
pub(super) struct Place<'a> {
    /// The device, recording gradients.
    pub(super) device: &'a Device,
    /// The devices that run a pass at this time, where they sum their gradients themselves.
    together: &'a [Device],
}

/// What a pass leaves on the host.
pub(super) struct Pass {
    /// Scans of the pass.
    pub(super) scans: usize,
    /// The loss's share of the step.
    pub(super) loss: f64,
    /// Gradients of that share; where the devices sum theirs, those of all passes that ran
    /// together, and none but on the first.
    pub(super) gradients: Gradients,
}

/// Something that can be copied to another device to compute the same there.
pub(super) trait Replica: Send {
    fn on(&self, device: &Device) -> Self;
}

impl Replica for Mae {
    fn on(&self, device: &Device) -> Self {
        self.clone().fork(device)
    }
}

impl Replica for Dino {
    fn on(&self, device: &Device) -> Self {
        let mut copy = self.clone();
        copy.student = copy.student.fork(device);
        copy.teacher = copy.teacher.fork(&device.clone().inner());
        copy
    }
}

impl Devices {
    pub(super) fn one(device: Device) -> Self {
        Self {
            list: vec![device],
            collective: false,
        }
    }

    pub(super) fn several(list: Vec<Device>, collective: bool) -> Self {
        Self { list, collective }
    }

    /// The device that holds the model between steps.
    pub(super) fn home(&self) -> &Device {
        &self.list[0]
    }

    /// Runs the passes of a step, one on each device at a time, and folds what they leave in their
    /// order. No pass is asked for before a device is free for it.
    pub(super) fn run<N: Replica, T: Send>(
        &self,
        network: &mut N,
        mut passes: impl Iterator<Item = Result<Batch, TrainError>>,
        pass: impl Fn(&mut N, Batch, &Place<'_>) -> T + Sync,
        mut fold: impl FnMut(T) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let mut copies: Vec<N> = self.list[1..].iter().map(|at| network.on(at)).collect();
        loop {
            let round = passes.by_ref().take(self.list.len());
            let round = round.collect::<Result<Vec<Batch>, _>>()?;
            if round.is_empty() {
                return Ok(());
            }
            let together = if self.collective && round.len() > 1 {
                &self.list[..round.len()]
            } else {
                &[]
            };
            let networks = std::iter::once(&mut *network).chain(&mut copies);
            let mut work = networks
                .zip(round)
                .zip(&self.list)
                .map(|((net, batch), device)| {
                    let (pass, place) = (&pass, Place { device, together });
                    move || pass(net, batch, &place)
                });
            let first = work.next().expect("a round has a pass");
            let left: Vec<T> = thread::scope(|scope| {
                let others: Vec<_> = work.map(|work| scope.spawn(work)).collect();
                let first = first();
                let join = |other: thread::ScopedJoinHandle<'_, T>| {
                    other
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                std::iter::once(first)
                    .chain(others.into_iter().map(join))
                    .collect()
            });
            left.into_iter().try_for_each(&mut fold)?;
        }
    }
}

impl Place<'_> {
    /// The backward pass of a loss.
    ///
    /// Whatever the loss is, devices that sum their gradients must all do so: one that stayed away
    /// would leave the others waiting.
    pub(super) fn pass<M: Module>(&self, module: &M, scans: usize, loss: Tensor<1>) -> Pass {
        let gradients = loss.clone().backward();
        let gradients = self.to_host(module, gradients);
        Pass {
            scans,
            loss: f64::from(loss.into_scalar::<f32>()),
            gradients,
        }
    }

    #[cfg(feature = "cuda")]
    fn to_host<M: Module>(&self, module: &M, gradients: burn::tensor::Gradients) -> Gradients {
        use collective::Sum;

        if self.together.is_empty() {
            return Gradients::of(module, gradients);
        }
        let sum = Sum {
            devices: self.together,
            first: self.together[0] == *self.device,
        };
        Gradients::exchanged(module, gradients, &sum)
    }

    #[cfg(not(feature = "cuda"))]
    fn to_host<M: Module>(&self, module: &M, gradients: burn::tensor::Gradients) -> Gradients {
        debug_assert!(self.together.is_empty(), "this build has no collectives");
        Gradients::of(module, gradients)
    }
}

#[cfg(feature = "cuda")]
mod collective {
    use burn::tensor::distributed::{ReduceOperation, all_reduce};
    use burn::tensor::{Device, Tensor};
    use core_model::gradients::Exchange;

    /// Sums each gradient over the devices, which all call this in the same order.
    pub(super) struct Sum<'a> {
        pub(super) devices: &'a [Device],
        /// Whether this device hands the sum to the host.
        pub(super) first: bool,
    }

    impl Exchange for Sum<'_> {
        fn exchange<const D: usize>(&self, gradient: Tensor<D>) -> Option<Tensor<D>> {
            let devices = self
                .devices
                .iter()
                .map(|device| device.clone().inner())
                .collect();
            let sum = all_reduce(gradient, ReduceOperation::Sum, devices).resolve();
            self.first.then_some(sum)
        }
    }
}
