//! What stands on top of an embedding: normalization and the two probes.

mod batch_norm;

pub use batch_norm::BatchNorm;
