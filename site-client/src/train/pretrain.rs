//! Self-supervised pre-training (Methods, "Self-supervised pretraining").

mod backbone;
mod feed;
mod pretraining;
mod run;
mod schedule;
mod stretch;

use serde::{Deserialize, Serialize};

pub use backbone::{backbone_for, backbone_of};
pub(crate) use feed::light;
pub use feed::{Batch, Feed, View};
pub use pretraining::{Pretraining, StepReport};
pub use run::{CHECKPOINT, Outcome, PretrainRun, pretraining_scans};
pub use schedule::{Rates, Schedule};
pub use stretch::{Skipped, Stretch};

/// What pre-training optimizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// Self-distillation.
    Dino,
    /// Masked autoencoding.
    Mae,
}
