//! Gradient descent with momentum, as PyTorch computes it: one of the three optimizers of the paper's
//! sweep for models trained from scratch.

use std::collections::BTreeMap;

use burn::module::Module;

use crate::adamw::Rate;
use crate::gradients::Gradients;
use crate::state::{NamedTensor, StateDict};

/// The optimizer and its directions.
#[derive(Debug, Clone)]
pub struct Sgd {
    momentum: f32,
    /// The moving direction of each parameter, in storage order.
    directions: BTreeMap<String, Vec<f32>>,
}

impl Sgd {
    /// An optimizer without history that keeps `momentum` of the old direction.
    pub fn new(momentum: f64) -> Self {
        Self {
            momentum: momentum as f32,
            directions: BTreeMap::new(),
        }
    }

    /// Updates every parameter that has a gradient; `rate` names its learning rate. Weight decay is
    /// part of the gradient here: see [`add_decay`].
    pub fn step<M: Module>(
        &mut self,
        module: M,
        gradients: &Gradients,
        rate: impl Fn(&str) -> Rate,
    ) -> M {
        let keep = self.momentum;
        gradients.update(module, |name, _, values, gradient| {
            let step = rate(name).learning_rate as f32;
            let direction = self
                .directions
                .entry(name.to_owned())
                .or_insert_with(|| vec![0.0; gradient.len()]);
            let moved = values.iter_mut().zip(gradient).zip(direction);
            for ((value, gradient), direction) in moved {
                *direction = keep * *direction + gradient;
                *value -= step * *direction;
            }
        })
    }

    /// The directions by parameter name, flat, in storage order.
    pub fn state(&self) -> StateDict {
        let named = |(name, values): (&String, &Vec<f32>)| {
            let (shape, values) = (vec![values.len()], values.clone());
            (name.clone(), NamedTensor { shape, values })
        };
        self.directions.iter().map(named).collect()
    }

    /// The optimizer as it was when [`state`](Self::state) was taken.
    pub fn restore(momentum: f64, state: StateDict) -> Self {
        let directions = state
            .into_iter()
            .map(|(name, tensor)| (name, tensor.values))
            .collect();
        Self {
            directions,
            ..Self::new(momentum)
        }
    }
}

/// Adds `decay · θ` to the gradient of every parameter of `module` that has one: weight decay as
/// plain gradient descent and Adam know it.
pub fn add_decay<M: Module>(module: &M, gradients: &mut Gradients, decay: f64) {
    if decay > 0.0 {
        gradients.add_scaled(&Gradients::parameters(module), decay as f32);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::init::Init;
    use crate::layers::Linear;
    use crate::state::state_dict;

    /// A layer and the gradient of the sum of its outputs for an input of ones: 1 everywhere.
    fn layer() -> (Linear, Gradients) {
        let device = Device::flex().autodiff();
        let layer = Linear::new(2, 3, true, &mut Init::seeded(1, &device));
        let loss = layer.forward(Tensor::<2>::ones([1, 2], &device)).sum();
        let gradients = Gradients::of(&layer, loss.backward());
        (layer, gradients)
    }

    #[test]
    fn two_steps_follow_the_formula() {
        let (layer, mut gradients) = layer();
        let start = state_dict(&layer)["weight"].values.clone();
        add_decay(&layer, &mut gradients, 0.1);
        let mut sgd = Sgd::new(0.9);
        let rate = |_: &str| Rate {
            learning_rate: 0.5,
            weight_decay: 0.0,
        };
        let layer = sgd.step(layer, &gradients, rate);
        let layer = sgd.step(layer, &gradients, rate);
        // Directions g and 1.9 g, with g = 1 + 0.1 θ.
        for (new, old) in state_dict(&layer)["weight"].values.iter().zip(start) {
            let expected = old - 0.5 * 2.9 * (1.0 + 0.1 * old);
            assert!(
                (new - expected).abs() < 1e-6,
                "expected {expected}, found {new}"
            );
        }
        let restored = Sgd::restore(0.9, sgd.state());
        assert_eq!(restored.directions, sgd.directions);
    }
}
