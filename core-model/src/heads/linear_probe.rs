//! Linear probe (paper, "Downstream evaluation"): batch norm and a linear layer on the class token.

use burn::module::Module;
use burn::tensor::Tensor;

use super::BatchNorm;
use crate::init::Init;
use crate::layers::Linear;

/// Two logits from the class token.
///
/// Deviation from the paper's text, as released: a batch norm without scale and shift comes first.
/// Deviation from the release: it uses its running statistics in evaluation.
#[derive(Module, Debug)]
pub struct LinearProbe {
    bn: BatchNorm,
    linear: Linear,
}

impl LinearProbe {
    /// A new probe for tokens of width `dim`.
    pub fn new(dim: usize, init: &mut Init) -> Self {
        Self {
            bn: BatchNorm::plain(dim, 1e-6, init),
            linear: Linear::new(dim, 2, true, init),
        }
    }

    /// Logits `[B, 2]` of tokens `[B, T, E]`.
    pub fn forward(&self, tokens: Tensor<3>) -> Tensor<2> {
        self.linear.forward(self.bn.forward(cls(tokens)))
    }

    /// Logits `[B, 2]` with the statistics of this batch.
    pub fn forward_train(&mut self, tokens: Tensor<3>) -> Tensor<2> {
        self.linear.forward(self.bn.forward_train(cls(tokens)))
    }
}

fn cls(tokens: Tensor<3>) -> Tensor<2> {
    let [batch, _, dim] = tokens.dims();
    tokens.narrow(1, 0, 1).reshape([batch, dim])
}
