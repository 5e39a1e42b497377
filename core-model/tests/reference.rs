//! Every model part against vectors made with PyTorch and MONAI, independently of this project.
//!
//! The small set lies beside these tests; the larger one is used too when the checkout has it.

#![expect(clippy::unwrap_used, reason = "in a test, an unwrap is an assertion")]

#[path = "reference/heads.rs"]
mod heads;
#[path = "reference/optimizer.rs"]
mod optimizer;
#[path = "reference/ssl.rs"]
mod ssl;
#[path = "reference/vectors.rs"]
mod vectors;
#[path = "reference/vit.rs"]
mod vit;
