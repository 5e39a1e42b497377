//! Self-supervised pre-training: DINO on views of a scan, MAE on masked patches.

pub mod dino;
pub mod mae;
pub mod mask;
pub mod views;
