//! What stands on top of an embedding: normalization and the two probes.

mod attentive_probe;
mod batch_norm;
mod linear_probe;

pub use attentive_probe::AttentiveProbe;
pub use batch_norm::BatchNorm;
pub use linear_probe::LinearProbe;

use burn::module::Module;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::init::Init;

/// Which probe stands on the backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// [`LinearProbe`].
    Linear,
    /// [`AttentiveProbe`].
    Attentive,
}

/// A probe of either kind: two logits from the tokens of a scan.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one probe at a time")]
pub enum Probe {
    /// On the class token.
    Linear(LinearProbe),
    /// On all tokens.
    Attentive(AttentiveProbe),
}

impl Probe {
    /// A new probe for tokens of width `dim`; `heads` is for the attentive one.
    ///
    /// # Panics
    /// When `heads` does not divide `dim`.
    pub fn new(kind: ProbeKind, dim: usize, heads: usize, init: &mut Init) -> Self {
        match kind {
            ProbeKind::Linear => Self::Linear(LinearProbe::new(dim, init)),
            ProbeKind::Attentive => Self::Attentive(AttentiveProbe::new(dim, heads, init)),
        }
    }

    /// Logits `[B, 2]` of tokens `[B, T, E]`; a scan's logits do not depend on its batch.
    pub fn forward(&self, tokens: Tensor<3>) -> Tensor<2> {
        match self {
            Self::Linear(probe) => probe.forward(tokens),
            Self::Attentive(probe) => probe.forward(tokens),
        }
    }

    /// Logits `[B, 2]` with the statistics of this batch, which also move the running ones.
    pub fn forward_train(&mut self, tokens: Tensor<3>) -> Tensor<2> {
        match self {
            Self::Linear(probe) => probe.forward_train(tokens),
            Self::Attentive(probe) => probe.forward_train(tokens),
        }
    }
}
