//! The layers every model here is made of, with the parameter names of the published checkpoints.

use burn::module::{Module, Param};
use burn::tensor::module::linear;
use burn::tensor::{FloatDType, Tensor, assert_shape};

use crate::init::Init;
use kernels::layer_norm;

/// Affine map `x W + b`.
///
/// The weight is stored `[input, output]`, the transpose of what a checkpoint holds;
/// [`state`](crate::state) turns it on the way in and out.
#[derive(Module, Debug)]
pub struct Linear {
    pub(crate) weight: Param<Tensor<2>>,
    pub(crate) bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    product: Product,
}

/// In which type a matrix product is made; parameters, sums and gradients are float32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Product {
    /// bfloat16, accumulated in float32 by the device.
    Bfloat16,
    /// float32.
    #[default]
    Float32,
}

impl Product {
    /// `x W + b`, rows of `x` by columns of `W`.
    pub(crate) fn affine(
        self,
        x: Tensor<2>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Tensor<2> {
        if self == Self::Float32 {
            return linear(x, weight, bias);
        }
        let (x, weight) = (x.cast(FloatDType::BF16), weight.cast(FloatDType::BF16));
        let product = linear(x, weight, None).cast(FloatDType::F32);
        match bias {
            Some(bias) => product + bias.unsqueeze(),
            None => product,
        }
    }
}

impl Linear {
    /// Weights and bias from U(±1/√input), PyTorch's default.
    pub(crate) fn new(input: usize, output: usize, bias: bool, init: &mut Init) -> Self {
        let bound = 1.0 / (input as f32).sqrt();
        Self {
            weight: init.uniform([input, output], bound),
            bias: bias.then(|| init.uniform([output], bound)),
            product: init.product(),
        }
    }

    /// Weights from U(±√(6/(input+output))) (Xavier), bias zero: MAE's initialisation.
    pub(crate) fn xavier(input: usize, output: usize, bias: bool, init: &mut Init) -> Self {
        let bound = (6.0 / (input + output) as f32).sqrt();
        Self {
            weight: init.uniform([input, output], bound),
            bias: bias.then(|| init.constant([output], 0.0)),
            product: init.product(),
        }
    }

    /// Weights from N(0, 0.02²), bias zero: DINO's head.
    pub(crate) fn normal(input: usize, output: usize, init: &mut Init) -> Self {
        Self {
            weight: init.normal([input, output], 0.02),
            bias: Some(init.constant([output], 0.0)),
            product: init.product(),
        }
    }

    /// # Shapes
    /// `[.., input]` → `[.., output]`
    pub(crate) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let mut shape = x.dims();
        let weight = self.weight.val();
        let [input, output] = weight.dims();
        assert_shape!(x, [.., input]);
        // One large product instead of one per sample.
        let rows = shape[..D - 1].iter().product::<usize>();
        let bias = self.bias.as_ref().map(Param::val);
        let y = self.product.affine(x.reshape([rows, input]), weight, bias);
        shape[D - 1] = output;
        y.reshape(shape)
    }
}

/// Layer normalization over the last axis.
#[derive(Module, Debug)]
pub struct LayerNorm {
    pub(crate) weight: Param<Tensor<1>>,
    pub(crate) bias: Param<Tensor<1>>,
    epsilon: f64,
}

impl LayerNorm {
    pub(crate) fn new(dim: usize, epsilon: f64, init: &mut Init) -> Self {
        Self {
            weight: init.constant([dim], 1.0),
            bias: init.constant([dim], 0.0),
            epsilon,
        }
    }

    /// # Shapes
    /// `[.., dim]` → `[.., dim]`
    pub(crate) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let weight = self.weight.val();
        let [dim] = weight.dims();
        assert_shape!(x, [.., dim]);
        layer_norm(x, weight, self.bias.val(), self.epsilon)
    }
}
