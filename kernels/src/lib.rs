//! The three operations that a training step spends its time on besides matrix products: attention,
//! layer norm and GELU, each with a backward pass of its own.
//!
//! Recorded step by step, their backward passes read and write every intermediate tensor several
//! times. Here each is one operation of the graph. This is the only crate that knows which backends
//! there are: the processor gets loops of its own, every other backend the same formulas in tensor
//! operations.

mod composed;
mod host;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Slice, Tensor, TensorData};

/// Multi-head self-attention of fused queries, keys and values, without the projections.
///
/// # Shapes
/// `[B, T, 3·E]` → `[B, T, E]`; the last axis is (query, key, value) × heads × head width.
pub fn attention(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as Fused>::fused_attention(
        qkv.into_dispatch(),
        heads,
    ))
}

/// Layer normalization over the last axis.
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    let (x, gamma, beta) = (
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
    );
    Tensor::from_dispatch(<Dispatch as Fused>::fused_layer_norm(
        x, gamma, beta, epsilon,
    ))
}

/// The exact (erf) GELU.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as Fused>::fused_gelu(x.into_dispatch()))
}

/// The operations as the graph knows them.
#[backend_extension(Flex, Cube: cfg(feature = "cuda"), Autodiff)]
pub(crate) trait Fused: Backend {
    fn fused_attention(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self>;
    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;
    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// What a backend may do better than by tensor operations.
pub(crate) trait Kernels: Backend {
    /// Softmax of `scale · scores` over the last axis.
    fn scaled_softmax(scores: FloatTensor<Self>, scale: f64) -> FloatTensor<Self> {
        composed::softmax::<Self>(scores, scale)
    }

    /// Gradient of the scores from the softmax's output and its gradient.
    fn softmax_backward(
        weights: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self> {
        composed::softmax_backward::<Self>(weights, grad, scale)
    }

    /// Gradients of input, scale and shift.
    fn layer_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f64,
    ) -> [FloatTensor<Self>; 3] {
        composed::layer_norm_backward::<Self>(x, gamma, grad, epsilon)
    }

    /// x · Φ(x).
    fn gelu_forward(x: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::gelu::<Self>(x)
    }

    /// Gradient of GELU's input.
    fn gelu_backward_exact(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::gelu_backward::<Self>(x, grad)
    }
}

#[cfg(feature = "cuda")]
impl Kernels for burn::backend::Cube {}

/// The processor: one pass over memory for each, on all cores. Buffers that nothing else uses are
/// changed in place.
impl Kernels for Flex {
    fn scaled_softmax(scores: FloatTensor<Self>, scale: f64) -> FloatTensor<Self> {
        let mut scores = scores.into_data();
        let row = last(&scores);
        host::softmax(floats_mut(&mut scores), row, scale as f32);
        Self::float_from_data(scores, &Default::default())
    }

    fn softmax_backward(
        weights: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self> {
        let (weights, mut grad) = (weights.into_data(), grad.into_data());
        let row = last(&grad);
        host::softmax_backward(floats(&weights), floats_mut(&mut grad), row, scale as f32);
        Self::float_from_data(grad, &Default::default())
    }

    fn layer_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f64,
    ) -> [FloatTensor<Self>; 3] {
        let (x, gamma, mut grad) = (x.into_data(), gamma.into_data(), grad.into_data());
        let [dgamma, dbeta] = host::layer_norm_backward(
            floats(&x),
            floats(&gamma),
            floats_mut(&mut grad),
            epsilon as f32,
        );
        let shape = gamma.shape().clone();
        [
            grad,
            TensorData::new(dgamma, shape.clone()),
            TensorData::new(dbeta, shape),
        ]
        .map(|data| Self::float_from_data(data, &Default::default()))
    }

    fn gelu_forward(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let mut x = x.into_data();
        host::gelu(floats_mut(&mut x));
        Self::float_from_data(x, &Default::default())
    }

    fn gelu_backward_exact(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, mut grad) = (x.into_data(), grad.into_data());
        host::gelu_backward(floats(&x), floats_mut(&mut grad));
        Self::float_from_data(grad, &Default::default())
    }
}

impl<B: Kernels> Fused for B {
    fn fused_attention(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        attend::<B>(qkv, heads).0
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        B::layer_norm(x, gamma, Some(beta), epsilon)
    }

    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        B::gelu_forward(x)
    }
}

impl<B: Kernels, C: CheckpointStrategy> Fused for Autodiff<B, C> {
    fn fused_attention(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        let (qkv, node) = qkv.into_parts();
        match Attention.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (y, weights) = attend::<B>(qkv.clone(), heads);
                prep.finish((qkv, weights, heads), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(attend::<B>(qkv, heads).0),
        }
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let ((x, n1), (gamma, n2)) = (x.into_parts(), gamma.into_parts());
        let (beta, n3) = beta.into_parts();
        let forward = |x, gamma| B::layer_norm(x, gamma, Some(beta), epsilon);
        match LayerNorm
            .prepare::<C>([n1, n2, n3])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let y = forward(x.clone(), gamma.clone());
                prep.finish((x, gamma, epsilon), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(forward(x, gamma)),
        }
    }

    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match Gelu.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(x.clone(), B::gelu_forward(x)),
            OpsKind::UnTracked(prep) => prep.finish(B::gelu_forward(x)),
        }
    }
}

#[derive(Debug)]
struct Attention;

impl<B: Kernels> Backward<B, 1> for Attention {
    /// Queries, keys and values; weights; heads.
    type State = (FloatTensor<B>, FloatTensor<B>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (qkv, weights, heads) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        let Some(parent) = parent else { return };
        let [batch, tokens, wide] = qkv.shape().dims();
        let (dim, head) = (wide / 3, wide / 3 / heads);
        let scale = 1.0 / (head as f64).sqrt();
        let [query, key, value] = split::<B>(qkv, heads);
        let grad = B::float_reshape(grad, Shape::new([batch, tokens, heads, head]));
        let grad = B::float_swap_dims(grad, 1, 2);
        let dvalue = B::float_matmul(B::float_swap_dims(weights.clone(), 2, 3), grad.clone());
        let dweights = B::float_matmul(grad, B::float_swap_dims(value, 2, 3));
        let dscores = B::softmax_backward(weights, dweights, scale);
        let dquery = B::float_matmul(dscores.clone(), key);
        let dkey = B::float_matmul(B::float_swap_dims(dscores, 2, 3), query);
        // [B, heads, T, head] each, one after the other on the axis of heads, is the layout of qkv.
        let dqkv = B::float_swap_dims(B::float_cat(vec![dquery, dkey, dvalue], 1), 1, 2);
        grads.register::<B>(
            parent.id,
            B::float_reshape(dqkv, Shape::new([batch, tokens, 3 * dim])),
        );
    }
}

#[derive(Debug)]
struct LayerNorm;

impl<B: Kernels> Backward<B, 3> for LayerNorm {
    type State = (FloatTensor<B>, FloatTensor<B>, f64);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, gamma, epsilon) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let gradients = B::layer_norm_backward(x, gamma, grad, epsilon);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct Gelu;

impl<B: Kernels> Backward<B, 1> for Gelu {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            grads.register::<B>(parent.id, B::gelu_backward_exact(ops.state, grad));
        }
    }
}

/// Output `[B, T, E]` and weights `[B, heads, T, T]` of attention.
fn attend<B: Kernels>(qkv: FloatTensor<B>, heads: usize) -> (FloatTensor<B>, FloatTensor<B>) {
    let [batch, tokens, wide] = qkv.shape().dims();
    let dim = wide / 3;
    let [query, key, value] = split::<B>(qkv, heads);
    let scores = B::float_matmul(query, B::float_swap_dims(key, 2, 3));
    let weights = B::scaled_softmax(scores, 1.0 / ((dim / heads) as f64).sqrt());
    let y = B::float_swap_dims(B::float_matmul(weights.clone(), value), 1, 2);
    (
        B::float_reshape(y, Shape::new([batch, tokens, dim])),
        weights,
    )
}

/// Views of queries, keys and values, `[B, heads, T, head]` each.
fn split<B: Backend>(qkv: FloatTensor<B>, heads: usize) -> [FloatTensor<B>; 3] {
    let [batch, tokens, wide] = qkv.shape().dims();
    let by_head = Shape::new([batch, tokens, 3 * heads, wide / 3 / heads]);
    let by_head = B::float_swap_dims(B::float_reshape(qkv, by_head), 1, 2);
    [0, 1, 2].map(|part| {
        let part: Slice = (part * heads..(part + 1) * heads).into();
        B::float_slice(by_head.clone(), &[(0..batch).into(), part])
    })
}

fn last(data: &TensorData) -> usize {
    data.shape().as_slice().last().copied().unwrap_or(1)
}

fn floats(data: &TensorData) -> &[f32] {
    data.as_slice().expect("the processor computes in float32")
}

fn floats_mut(data: &mut TensorData) -> &mut [f32] {
    data.as_mut_slice()
        .expect("the processor computes in float32")
}

#[cfg(test)]
mod tests;
