//! Cross-entropy over the tasks whose label is known, and scores.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Device, Tensor, TensorData};

use crate::train::data::Labelled;

/// One-hot targets `[B, tasks, 2]`; both zero where the label is unknown.
pub(crate) fn targets(set: &Labelled, scans: &[usize]) -> Vec<f32> {
    let row = |scan: &usize| {
        set.rows()[*scan]
            .labels
            .iter()
            .flat_map(|label| match label {
                Some(true) => [0.0, 1.0],
                Some(false) => [1.0, 0.0],
                None => [0.0, 0.0],
            })
    };
    scans.iter().flat_map(row).collect()
}

/// Mean cross-entropy over the known labels of logits `[B, tasks, 2]`.
///
/// Source: Methods; two logits per task, unweighted, since the draws are balanced.
pub(crate) fn loss(logits: Tensor<3>, targets: Vec<f32>) -> Tensor<1> {
    let [batch, tasks, _] = logits.dims();
    let known: f32 = targets.iter().sum();
    let device = logits.device();
    let targets = Tensor::from_data(TensorData::new(targets, [batch, tasks, 2]), &device);
    (log_softmax(logits, 2) * targets).sum() / -f64::from(known.max(1.0))
}

/// Probability of the positive class, `[B, tasks, 2]` → B × tasks, row by row.
pub(crate) fn scores(logits: Tensor<3>) -> Vec<f64> {
    let [batch, tasks, _] = logits.dims();
    let positive = softmax(logits, 2).narrow(2, 1, 1).reshape([batch * tasks]);
    to_host(positive).into_iter().map(f64::from).collect()
}

pub(crate) fn tensor<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

pub(crate) fn to_host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .try_to_vec()
        .expect("converted to float32")
}
