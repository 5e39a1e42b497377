//! The formulas in tensor operations, for any backend.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Shape;

pub(super) fn softmax<B: Backend>(scores: FloatTensor<B>, scale: f64) -> FloatTensor<B> {
    let axis = scores.rank() - 1;
    <B as burn::backend::ops::ActivationOps<B>>::softmax(
        B::float_mul_scalar(scores, scale.into()),
        axis,
    )
}

/// `scale · w · (g − Σ g w)`.
pub(super) fn softmax_backward<B: Backend>(
    weights: FloatTensor<B>,
    grad: FloatTensor<B>,
    scale: f64,
) -> FloatTensor<B> {
    let axis = weights.rank() - 1;
    let total = B::float_sum_dim(B::float_mul(grad.clone(), weights.clone()), axis);
    let weighted = B::float_mul(B::float_sub(grad, total), weights);
    B::float_mul_scalar(weighted, scale.into())
}

/// With n the normalized input and h = g γ: `(h − mean(h) − n mean(h n)) / σ`, `Σ g n`, `Σ g`.
pub(super) fn layer_norm_backward<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    grad: FloatTensor<B>,
    epsilon: f64,
) -> [FloatTensor<B>; 3] {
    let shape = x.shape();
    let dim = gamma.shape().num_elements();
    let rows = shape.num_elements() / dim;
    let flat = |tensor| B::float_reshape(tensor, Shape::new([rows, dim]));
    let (x, grad) = (flat(x), flat(grad));
    let centered = B::float_sub(x.clone(), B::float_mean_dim(x, 1));
    let variance = B::float_mean_dim(B::float_mul(centered.clone(), centered.clone()), 1);
    let deviation = B::float_sqrt(B::float_add_scalar(variance, epsilon.into()));
    let normalized = B::float_div(centered, deviation.clone());
    let scaled = B::float_mul(grad.clone(), B::float_reshape(gamma, Shape::new([1, dim])));
    let mean = B::float_mean_dim(scaled.clone(), 1);
    let along = B::float_mean_dim(B::float_mul(scaled.clone(), normalized.clone()), 1);
    let dx = B::float_sub(
        B::float_sub(scaled, mean),
        B::float_mul(normalized.clone(), along),
    );
    let sum = |tensor| B::float_reshape(B::float_sum_dim(tensor, 0), Shape::new([dim]));
    [
        B::float_reshape(B::float_div(dx, deviation), shape),
        sum(B::float_mul(grad.clone(), normalized)),
        sum(grad),
    ]
}

pub(super) fn gelu<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_mul(x.clone(), cumulative::<B>(x))
}

/// `g · (Φ(x) + x φ(x))`.
pub(super) fn gelu_backward<B: Backend>(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    let square = B::float_mul(x.clone(), x.clone());
    let density = B::float_exp(B::float_mul_scalar(square, (-0.5).into()));
    let scale = 0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
    let density = B::float_mul_scalar(density, scale.into());
    let slope = B::float_add(cumulative::<B>(x.clone()), B::float_mul(x, density));
    B::float_mul(slope, grad)
}

/// Φ, the standard normal distribution function.
fn cumulative<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let scaled = B::float_mul_scalar(x, std::f64::consts::FRAC_1_SQRT_2.into());
    B::float_mul_scalar(
        B::float_add_scalar(B::float_erf(scaled), 1.0.into()),
        0.5.into(),
    )
}
