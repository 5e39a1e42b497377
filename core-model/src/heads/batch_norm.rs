//! Batch normalization over the channel axis, with explicit training and evaluation.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::init::Init;
use crate::state::replace;

/// Batch normalization of `[B, C, ..]` as in PyTorch (momentum 0.1, unbiased running variance).
///
/// Training updates the running statistics and therefore needs `&mut self`; evaluation uses them
/// and does not depend on the other samples of the batch.
#[derive(Module, Debug)]
pub struct BatchNorm {
    weight: Option<Param<Tensor<1>>>,
    bias: Option<Param<Tensor<1>>>,
    running_mean: Param<Tensor<1>>,
    running_var: Param<Tensor<1>>,
    epsilon: f64,
}

impl BatchNorm {
    /// Weight of the newest batch in the running statistics.
    const MOMENTUM: f64 = 0.1;

    /// With a trained scale and shift.
    pub(crate) fn affine(channels: usize, epsilon: f64, init: &mut Init) -> Self {
        Self {
            weight: Some(init.constant([channels], 1.0)),
            bias: Some(init.constant([channels], 0.0)),
            ..Self::plain(channels, epsilon, init)
        }
    }

    /// Without scale and shift.
    pub(crate) fn plain(channels: usize, epsilon: f64, init: &mut Init) -> Self {
        Self {
            weight: None,
            bias: None,
            running_mean: init.buffer([channels], vec![0.0; channels]),
            running_var: init.buffer([channels], vec![1.0; channels]),
            epsilon,
        }
    }

    /// Normalizes with the running statistics.
    pub(crate) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.normalize(x, self.running_mean.val(), self.running_var.val())
    }

    /// Normalizes with the statistics of this batch and moves the running ones.
    ///
    /// # Panics
    /// When there is one value per channel: its variance is undefined.
    pub(crate) fn forward_train<const D: usize>(&mut self, x: Tensor<D>) -> Tensor<D> {
        let dims = x.dims();
        let channels = dims[1];
        let count = dims.iter().product::<usize>() / channels;
        assert!(
            count > 1,
            "batch norm of {dims:?}: one value per channel has no variance"
        );
        // `[C, everything else]`
        let rows = x.clone().swap_dims(0, 1).reshape([channels, count]);
        let mean = rows.clone().mean_dim(1);
        let variance = (rows - mean.clone())
            .square()
            .mean_dim(1)
            .reshape([channels]);
        let mean = mean.reshape([channels]);
        let unbiased = variance.clone() * (count as f64 / (count - 1) as f64);
        Self::move_towards(&mut self.running_mean, mean.clone());
        Self::move_towards(&mut self.running_var, unbiased);
        self.normalize(x, mean, variance)
    }

    fn normalize<const D: usize>(
        &self,
        x: Tensor<D>,
        mean: Tensor<1>,
        variance: Tensor<1>,
    ) -> Tensor<D> {
        let channels = mean.dims()[0];
        let mut shape = [1; D];
        shape[1] = channels;
        let scale = (variance + self.epsilon).sqrt().recip();
        let y = (x - mean.reshape(shape)) * scale.reshape(shape);
        match (&self.weight, &self.bias) {
            (Some(weight), Some(bias)) => {
                y * weight.val().reshape(shape) + bias.val().reshape(shape)
            }
            _ => y,
        }
    }

    fn move_towards(running: &mut Param<Tensor<1>>, batch: Tensor<1>) {
        let batch = batch.inner();
        *running = replace(running.clone(), |old| {
            old * (1.0 - Self::MOMENTUM) + batch * Self::MOMENTUM
        });
    }
}
