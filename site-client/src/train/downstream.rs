//! From a backbone to a disease: fine-tuning, probing, few shots.

mod classifiers;

pub use classifiers::{Features, Rule, scores};
