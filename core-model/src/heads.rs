//! What stands on top of an embedding: normalization, the two probes, and their loss.

mod attentive_probe;
mod batch_norm;
mod linear_probe;

pub use attentive_probe::AttentiveProbe;
pub use batch_norm::BatchNorm;
pub use linear_probe::LinearProbe;

use burn::module::Module;
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Int, Tensor, TensorData};
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

/// Mean cross-entropy of two-logit predictions, `[1]`.
///
/// # Panics
/// When there is not one label per row, or a label is not a column.
pub fn cross_entropy(logits: Tensor<2>, labels: &[usize]) -> Tensor<1> {
    let [batch, classes] = logits.dims();
    assert_eq!(
        labels.len(),
        batch,
        "labels for logits [{batch}, {classes}]"
    );
    assert!(
        labels.iter().all(|&label| label < classes),
        "a label is not below {classes}"
    );
    let labels: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
    let data = TensorData::new(labels, [batch, 1]);
    let labels = Tensor::<2, Int>::from_data(data, &logits.device());
    -log_softmax(logits, 1).gather(1, labels).mean()
}

/// Probability of the positive class for each row of two logits.
pub fn scores(logits: Tensor<2>) -> Vec<f32> {
    let batch = logits.dims()[0];
    let positive = softmax(logits, 1).narrow(1, 1, 1).reshape([batch]);
    positive
        .into_data()
        .try_to_vec()
        .expect("logits are float32")
}
