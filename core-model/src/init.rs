//! Initial parameter values, drawn from one seeded stream in construction order.
//!
//! The stream lives on the host, so the same seed gives the same weights on every device and on any
//! number of threads.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use crate::layers::Product;

/// Makes the parameters of a new module.
#[derive(Debug)]
pub struct Init {
    /// Absent when every value is about to be loaded from a file.
    rng: Option<ChaCha8Rng>,
    device: Device,
    product: Product,
}

impl Init {
    /// Values drawn from `seed`, on `device`. Gradients are recorded on an autodiff device only.
    pub fn seeded(seed: u64, device: &Device) -> Self {
        Self {
            rng: Some(ChaCha8Rng::seed_from_u64(seed)),
            device: device.clone(),
            product: Product::default(),
        }
    }

    /// Zeros everywhere: for a module whose weights are loaded next.
    pub fn zeros(device: &Device) -> Self {
        Self {
            rng: None,
            device: device.clone(),
            product: Product::default(),
        }
    }

    /// The same values in a module whose linear layers multiply in another type.
    #[must_use]
    pub fn multiplying_in(self, product: Product) -> Self {
        Self { product, ..self }
    }

    pub(crate) fn product(&self) -> Product {
        self.product
    }

    /// Trainable parameter with values from U(−`bound`, `bound`).
    pub(crate) fn uniform<const D: usize>(
        &mut self,
        shape: [usize; D],
        bound: f32,
    ) -> Param<Tensor<D>> {
        self.draw(shape, |rng| (rng.random::<f32>() * 2.0 - 1.0) * bound)
    }

    /// Trainable parameter with values from N(0, `deviation`²).
    pub(crate) fn normal<const D: usize>(
        &mut self,
        shape: [usize; D],
        deviation: f32,
    ) -> Param<Tensor<D>> {
        let normal = Normal::new(0.0, deviation).expect("deviations in this crate are finite");
        self.draw(shape, |rng| normal.sample(rng))
    }

    /// Trainable parameter filled with `value`.
    pub(crate) fn constant<const D: usize>(
        &mut self,
        shape: [usize; D],
        value: f32,
    ) -> Param<Tensor<D>> {
        self.param(shape, vec![value; shape.iter().product()])
    }

    /// Trainable parameter with the given values.
    pub(crate) fn param<const D: usize>(
        &mut self,
        shape: [usize; D],
        values: Vec<f32>,
    ) -> Param<Tensor<D>> {
        Param::from_data(TensorData::new(values, shape), &self.device)
    }

    /// State that is saved with the module but never trained.
    pub(crate) fn buffer<const D: usize>(
        &mut self,
        shape: [usize; D],
        values: Vec<f32>,
    ) -> Param<Tensor<D>> {
        self.param(shape, values).set_require_grad(false)
    }

    fn draw<const D: usize>(
        &mut self,
        shape: [usize; D],
        mut value: impl FnMut(&mut ChaCha8Rng) -> f32,
    ) -> Param<Tensor<D>> {
        let len = shape.iter().product();
        let values = match &mut self.rng {
            Some(rng) => (0..len).map(|_| value(rng)).collect(),
            None => vec![0.0; len],
        };
        self.param(shape, values)
    }
}
