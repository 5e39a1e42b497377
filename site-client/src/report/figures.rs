//! The paper's figures, one file per kind; each gives nothing when the runs lack its data.

mod ablation;
mod cohort;
mod curves;
mod diseases;
mod embedding;
mod external;
mod few_shot;
mod groups;
mod scaling;
mod training;

pub(super) use ablation::ablation;
pub(super) use cohort::cohort;
pub(super) use curves::curves;
pub(super) use diseases::{diseases, protocols};
pub(super) use embedding::embedding;
pub(super) use external::external;
pub(super) use few_shot::few_shot;
pub(super) use groups::groups;
pub(super) use scaling::scaling;
pub(super) use training::training;
