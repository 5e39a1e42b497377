//! Optimizer moments that stay at a site from round to round, where the plan says so.

use std::fs;
use std::io::ErrorKind;
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
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        // Of a round that counted the site's store has looked whether they are there.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let reason = format!("kept optimizer moments: cannot be read: {}", error.kind());
            return Err(TrainError::Failed(reason));
        }
    };
    let damaged = |error| TrainError::Failed(format!("kept optimizer moments: damaged: {error}"));
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
    // The site's store makes all of `keep` durable before the update may leave.
    fs::write(job.keep.join(MOMENTS), bytes).map_err(|error| {
        TrainError::Failed(format!(
            "optimizer moments: cannot be written: {}",
            error.kind()
        ))
    })
}

const MOMENTS: &str = "moments.safetensors";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_cut_short_are_an_error_and_no_fresh_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(MOMENTS);
        assert!(read_moments(&path).unwrap().is_none());
        let tensor = ("w/first".to_owned(), vec![2], vec![0.5, -0.5]);
        let bytes = Params::from_tensors([tensor]).unwrap().to_safetensors();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            let error = read_moments(&path).unwrap_err().to_string();
            assert!(
                error.starts_with("kept optimizer moments: damaged: "),
                "{error}"
            );
        }
        fs::write(&path, &bytes).unwrap();
        let moments = read_moments(&path).unwrap().unwrap();
        assert_eq!(moments["w/first"].values, [0.5, -0.5]);
    }
}
