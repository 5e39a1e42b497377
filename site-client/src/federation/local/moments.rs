//! Optimizer moments that stay at a site from round to round, where the plan says so.

use std::fs;
use std::path::Path;

use core_model::state::StateDict;
use protocol::params::Params;
use protocol::plan::OptimizerState;

use super::fault::failed;
use crate::federation::{TrainError, TrainJob};
use crate::params::{from_state, to_state};

pub(super) fn kept_moments(job: &TrainJob<'_>) -> Result<Option<StateDict>, TrainError> {
    let keep = job
        .plan
        .config()
        .local
        .as_ref()
        .map(|local| local.optimizer_state);
    if keep != Some(OptimizerState::Keep) {
        return Ok(None);
    }
    read_moments(&job.kept.join(MOMENTS))
}

fn read_moments(path: &Path) -> Result<Option<StateDict>, TrainError> {
    let Ok(bytes) = fs::read(path) else {
        return Ok(None);
    };
    let damaged = |_| TrainError::Failed("the kept optimizer moments are damaged".to_owned());
    let moments = Params::from_safetensors(&bytes).map_err(damaged)?;
    Ok(Some(to_state(&moments)))
}

pub(super) fn keep_moments(job: &TrainJob<'_>, moments: &StateDict) -> Result<(), TrainError> {
    let keep = job
        .plan
        .config()
        .local
        .as_ref()
        .map(|local| local.optimizer_state);
    if keep != Some(OptimizerState::Keep) {
        return Ok(());
    }
    let bytes = from_state(moments.clone())
        .map_err(failed)?
        .to_safetensors();
    fs::write(job.keep.join(MOMENTS), bytes)
        .map_err(|_| TrainError::Failed("the optimizer's moments cannot be written".to_owned()))
}

const MOMENTS: &str = "moments.safetensors";
