//! Gradients by parameter name, on the host.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use crate::state::{Path, replace};

/// Gradients of a module's parameters, by name, in storage order.
///
/// On the CPU device they are taken over without a copy.
#[derive(Debug, Default)]
pub struct Gradients(BTreeMap<String, TensorData>);

impl Gradients {
    /// Takes the gradients of `module` out of a backward pass; parameters without one are left out.
    pub fn of<M: Module>(module: &M, mut grads: burn::tensor::Gradients) -> Self {
        Self::taken_from(module, &mut grads)
    }

    /// Like [`of`](Self::of), through an exchange between the device and the host.
    pub fn exchanged<M: Module>(
        module: &M,
        mut grads: burn::tensor::Gradients,
        exchange: &impl Exchange,
    ) -> Self {
        let mut taker = Taker {
            path: Path::default(),
            grads: &mut grads,
            exchange,
            taken: Self::default(),
        };
        module.visit(&mut taker);
        taker.taken
    }

    /// Like [`of`](Self::of), leaving the gradients of other modules where they are.
    pub fn taken_from<M: Module>(module: &M, grads: &mut burn::tensor::Gradients) -> Self {
        let mut taker = Taker {
            path: Path::default(),
            grads,
            exchange: &Keep,
            taken: Self::default(),
        };
        module.visit(&mut taker);
        taker.taken
    }

    /// The parameters of `module` themselves, laid out as their gradients are.
    pub fn parameters<M: Module>(module: &M) -> Self {
        let mut reader = Reader {
            path: Path::default(),
            read: Self::default(),
        };
        module.visit(&mut reader);
        reader.read
    }

    /// Changes the parameters that have a gradient: `rule` is given the name and rank of each, its
    /// values and its gradient, both in storage order.
    pub(crate) fn update<M: Module>(
        &self,
        module: M,
        rule: impl FnMut(&str, usize, &mut [f32], &[f32]),
    ) -> M {
        module.map(&mut Updater {
            path: Path::default(),
            gradients: self,
            rule,
        })
    }

    /// Adds `factor · other` to the gradients that `other` has too.
    pub fn add_scaled(&mut self, other: &Self, factor: f32) {
        for (name, sum) in &mut self.0 {
            if let Some(data) = other.0.get(name) {
                zip(values_mut(sum), values(data), |sum, new| {
                    *sum += factor * new
                });
            }
        }
    }

    /// Adds the gradients of another part of the batch.
    pub fn accumulate(&mut self, other: Self) {
        for (name, data) in other.0 {
            match self.0.get_mut(&name) {
                Some(sum) => zip(values_mut(sum), values(&data), |sum, new| *sum += new),
                None => drop(self.0.insert(name, data)),
            }
        }
    }

    /// Drops the gradients whose name starts with `prefix`: those parameters stay as they are.
    pub fn drop_prefix(&mut self, prefix: &str) {
        self.0.retain(|name, _| !name.starts_with(prefix));
    }

    /// The gradient of one parameter.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.0.get(name).map(values)
    }

    /// Names of the parameters that have a gradient.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// L2 norm over all parameters.
    pub fn norm(&self) -> f64 {
        self.0
            .values()
            .map(|data| squared_norm(values(data)))
            .sum::<f64>()
            .sqrt()
    }

    /// Bounds the gradients and returns their norm over all parameters before that.
    pub fn clip(&mut self, clipping: Clipping) -> f64 {
        let squares: Vec<f64> = self
            .0
            .values()
            .map(|data| squared_norm(values(data)))
            .collect();
        let norm = squares.iter().sum::<f64>().sqrt();
        for (data, square) in self.0.values_mut().zip(squares) {
            let (bound, norm) = match clipping {
                Clipping::None => continue,
                Clipping::PerParameter(bound) => (bound, square.sqrt()),
                Clipping::Global(bound) => (bound, norm),
            };
            let factor = bound / (norm + 1e-6);
            if factor < 1.0 {
                let factor = factor as f32;
                values_mut(data)
                    .par_iter_mut()
                    .with_min_len(CHUNK)
                    .for_each(|g| *g *= factor);
            }
        }
        norm
    }
}

/// How gradients are bounded before a step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Clipping {
    /// Not at all.
    #[default]
    None,
    /// Each parameter's L2 norm (pre-training, as published).
    PerParameter(f64),
    /// The L2 norm over all parameters (fine-tuning, as published).
    Global(f64),
}

/// What happens to a gradient on its device before the host sees it, such as a sum over devices.
pub trait Exchange {
    /// The gradient that the host keeps, if any.
    fn exchange<const D: usize>(&self, gradient: Tensor<D>) -> Option<Tensor<D>>;
}

/// Nothing happens.
struct Keep;

impl Exchange for Keep {
    fn exchange<const D: usize>(&self, gradient: Tensor<D>) -> Option<Tensor<D>> {
        Some(gradient)
    }
}

struct Taker<'a, E> {
    path: Path,
    grads: &'a mut burn::tensor::Gradients,
    exchange: &'a E,
    taken: Gradients,
}

impl<E: Exchange> ModuleVisitor for Taker<'_, E> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let grad = param.val().grad_remove(self.grads);
        if let Some(grad) = grad.and_then(|grad| self.exchange.exchange(grad)) {
            self.taken.0.insert(self.path.name(), grad.into_data());
        }
    }
}

struct Reader {
    path: Path,
    read: Gradients,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.read
            .0
            .insert(self.path.name(), param.val().inner().into_data());
    }
}

struct Updater<'a, R> {
    path: Path,
    gradients: &'a Gradients,
    rule: R,
}

impl<R: FnMut(&str, usize, &mut [f32], &[f32])> ModuleMapper for Updater<'_, R> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        let Some(gradient) = self.gradients.get(&name) else {
            return param;
        };
        replace(param, |old| {
            let device = old.device();
            let mut data = old.into_data();
            (self.rule)(&name, D, values_mut(&mut data), gradient);
            Tensor::from_data(data, &device)
        })
    }
}

/// Values handled by one task; a sum over them does not depend on the number of threads.
pub(crate) const CHUNK: usize = 1 << 16;

pub(crate) fn values(data: &TensorData) -> &[f32] {
    data.as_slice().expect("parameters are float32")
}

pub(crate) fn values_mut(data: &mut TensorData) -> &mut [f32] {
    data.as_mut_slice().expect("parameters are float32")
}

fn zip(left: &mut [f32], right: &[f32], f: impl Fn(&mut f32, f32) + Sync) {
    assert_eq!(
        left.len(),
        right.len(),
        "gradients of one parameter differ in size"
    );
    left.par_chunks_mut(CHUNK)
        .zip(right.par_chunks(CHUNK))
        .for_each(|(left, right)| {
            for (left, right) in left.iter_mut().zip(right) {
                f(left, *right);
            }
        });
}

fn squared_norm(values: &[f32]) -> f64 {
    let chunks: Vec<f64> = values
        .par_chunks(CHUNK)
        .map(|chunk| {
            // Rows of a fixed length, so that each one is summed in single precision at full speed.
            chunk.chunks(256).map(|row| f64::from(dot(row))).sum()
        })
        .collect();
    chunks.iter().sum()
}

fn dot(row: &[f32]) -> f32 {
    let mut lanes = [0.0; 16];
    let (head, tail) = row.as_chunks::<16>();
    for values in head {
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane += value * value;
        }
    }
    lanes.iter().sum::<f32>() + tail.iter().map(|value| value * value).sum::<f32>()
}
