//! Attentive probe: one learned query attends to all tokens of a frozen backbone.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

use super::BatchNorm;
use crate::init::Init;
use crate::layers::Linear;

/// Two logits from one learned query over all tokens.
///
/// Source: the released layout. Keys and values are one linear map without bias of the
/// batch-normalized tokens; the scores are scaled twice, so by 1/head width.
#[derive(Module, Debug)]
pub struct AttentiveProbe {
    cls_token: Param<Tensor<3>>,
    bn1: BatchNorm,
    bn2: BatchNorm,
    wkv: Linear,
    linear: Linear,
    heads: usize,
}

impl AttentiveProbe {
    /// A new probe for tokens of width `dim`.
    ///
    /// # Panics
    /// When `heads` does not divide `dim`.
    pub fn new(dim: usize, heads: usize, init: &mut Init) -> Self {
        assert!(
            dim.is_multiple_of(heads),
            "{heads} heads do not divide a width of {dim}"
        );
        Self {
            cls_token: init.normal([1, 1, dim], 0.02),
            bn1: BatchNorm::plain(dim, 1e-6, init),
            bn2: BatchNorm::plain(dim, 1e-6, init),
            wkv: Linear::new(dim, 2 * dim, false, init),
            linear: Linear::new(dim, 2, true, init),
            heads,
        }
    }

    /// Logits `[B, 2]` of tokens `[B, T, E]`.
    pub fn forward(&self, tokens: Tensor<3>) -> Tensor<2> {
        let normalized = self.bn1.forward(tokens.swap_dims(1, 2)).swap_dims(1, 2);
        let pooled = self.pool(normalized);
        self.linear.forward(self.bn2.forward(pooled))
    }

    /// Logits `[B, 2]` with the statistics of this batch.
    pub fn forward_train(&mut self, tokens: Tensor<3>) -> Tensor<2> {
        let normalized = self
            .bn1
            .forward_train(tokens.swap_dims(1, 2))
            .swap_dims(1, 2);
        let pooled = self.pool(normalized);
        self.linear.forward(self.bn2.forward_train(pooled))
    }

    /// Attention of the query over the tokens, `[B, T, E]` → `[B, E]`.
    fn pool(&self, tokens: Tensor<3>) -> Tensor<2> {
        let [batch, count, dim] = tokens.dims();
        let head = dim / self.heads;
        let kv = self
            .wkv
            .forward(tokens)
            .reshape([batch, count, 2, self.heads, head]);
        let [key, value] = [0, 1].map(|index| {
            kv.clone()
                .narrow(2, index, 1)
                .reshape([batch, count, self.heads, head])
                .swap_dims(1, 2)
        });
        let query = self.cls_token.val().reshape([1, self.heads, 1, head]);
        let query = query.expand([batch, self.heads, 1, head]);
        let weights = softmax(query.matmul(key.swap_dims(2, 3)) / head as f64, 3);
        weights.matmul(value).swap_dims(1, 2).reshape([batch, dim])
    }
}
