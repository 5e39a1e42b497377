//! From a backbone to a disease: fine-tuning, probing, few shots (Methods, "Evaluation setting").

mod classifier;
mod classifiers;
mod features;
mod finetuning;
mod learner;
mod loss;
mod network;
mod probing;
mod protocol;
mod report;
mod room;

pub use classifier::Classifier;
pub use classifiers::Rule;
pub use features::FeatureTable;
pub use finetuning::{Finetuning, Start, sided};
pub use learner::{Draw, Fit, Learner, fit, macro_auc};
pub use probing::Probing;
pub use protocol::{Fitted, Protocol, Ready, Trained, Trial, classify, grid};
pub use report::{Combination, Results, TrialNote, macro_auc_of, write_config};

#[cfg(test)]
mod tests;
