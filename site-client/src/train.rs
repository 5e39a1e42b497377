//! Single-site training: pre-training, fine-tuning, probing, few-shot learning, evaluation.
//!
//! The objects here run a number of steps when told to and know no command line and no network: the
//! commands of `fmct-site` and the federation drive the same code, so a federation of one site
//! trains exactly as the site alone.

mod config;
pub mod data;
pub mod downstream;
mod error;
pub mod optimizer;
mod plan;
pub mod pretrain;
pub mod record;

pub use config::{
    Architecture, Config, DataConfig, DinoConfig, FewShotConfig, FinetuneConfig, Geometry,
    MaeConfig, ModelConfig, OptimizerKind, Precision, Preset, PretrainConfig, Span, SweepConfig,
};
pub use error::TrainError;
pub use plan::Plan;
pub use pretrain::Objective;
