//! What a run will do: data, never code.
//!
//! A plan is a TOML file with a closed schema. [`Plan::parse`] checks it, so a plan in hand is a
//! checked plan ([`Plan::launched`] is for those that a journal holds). Its [digest](Plan::digest) is over the bytes as they were
//! written: the coordinator signs it, each site approves it, and nobody re-encodes it.
//!
//! ```
//! let text = r#"
//!     name = "pretrain"
//!     objective = "mae"
//!     model = "vit"
//!     preset = "tiny"
//!     initial = "0000000000000000000000000000000000000000000000000000000000000000"
//!     rounds = 4
//!
//!     [cohort]
//!     rule = "full"
//!     sites = ["north", "south"]
//!
//!     [local]
//!     steps = 20
//!     batch_size = 8
//!
//!     [schedule]
//!     learning_rate = { peak = 1e-3, end = 1e-6, warmup_steps = 8 }
//! "#;
//! let plan = protocol::plan::Plan::parse(text.as_bytes())?;
//! assert_eq!(plan.config().cohort.quorum(), 2);
//! # Ok::<(), protocol::plan::PlanError>(())
//! ```

mod check;
mod config;
mod limits;
mod pattern;
mod schedule;
mod strategy;

pub use check::PlanError;
pub use config::{
    Cohort, CohortRule, Config, Dino, Encodings, Evaluation, Local, Objective, OptimizerState,
    Preset, Schedule, Selection, Teacher,
};
pub use limits::Limits;
pub use pattern::Pattern;
pub use schedule::{Cosine, Warmup};
pub use strategy::{Aggregation, Strategy, Weighting};

use crate::ids::Digest;

/// A checked plan and the bytes it was read from.
#[derive(Clone, Debug)]
pub struct Plan {
    config: Config,
    text: Vec<u8>,
    digest: Digest,
}

impl Plan {
    /// Longest plan that is read, in bytes.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Reads and checks a plan.
    ///
    /// # Errors
    /// If the text is too long, is not the schema's TOML (an unknown field is refused), or breaks
    /// one of its rules.
    pub fn parse(text: &[u8]) -> Result<Self, PlanError> {
        let plan = Self::launched(text)?;
        check::check_later(&plan.config)?;
        Ok(plan)
    }

    /// Reads a plan that was launched before: rules that came later are not held against it, so
    /// that an old journal can be replayed and verified still.
    ///
    /// # Errors
    /// If the text is too long, is not the schema's TOML, or breaks a rule that there always was.
    pub fn launched(text: &[u8]) -> Result<Self, PlanError> {
        if text.len() > Self::MAX_BYTES {
            return Err(PlanError::TooLong { found: text.len() });
        }
        let config: Config = toml::from_slice(text)?;
        check::check(&config)?;
        let digest = Digest::of(text);
        Ok(Self {
            config,
            text: text.to_vec(),
            digest,
        })
    }

    /// What the plan says.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The bytes the digest is over.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// BLAKE3 of the plan's bytes: what a site approves.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

#[cfg(test)]
mod tests;
