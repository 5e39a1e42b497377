//! What a downstream command writes: predictions, a summary, the resolved configuration.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use core_model::metrics::Ranked;
use serde::Serialize;

use super::learner::Fit;
use crate::evaluate::{Prediction, Predictions};
use crate::train::{Plan, TrainError};

/// One line of `trials.jsonl`: how a training went.
#[derive(Clone, Debug, Serialize)]
pub struct TrialNote<'a> {
    /// Tasks of the model, joined by `+`.
    pub tasks: &'a str,
    /// Fine-tuning, a probe, or a rule.
    pub protocol: &'a str,
    /// Scans per class, in a few-shot study.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shots: Option<usize>,
    /// Number of the draw, in a few-shot study.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<u64>,
    /// The kept epoch, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_epoch: Option<usize>,
    /// Its macro AUC on the validation part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_auc: Option<f64>,
}

impl TrialNote<'_> {
    /// The note of a fit.
    #[must_use]
    pub fn fitted<'a>(tasks: &'a str, protocol: &'a str, fit: &Fit) -> TrialNote<'a> {
        TrialNote {
            tasks,
            protocol,
            shots: None,
            repeat: None,
            best_epoch: Some(fit.best_epoch),
            validation_auc: Some(fit.validation_auc),
        }
    }
}

/// Writes `predictions.csv`, `trials.jsonl` and `config.toml` into a run's folder.
///
/// # Errors
///
/// A file that cannot be written.
pub fn write_results(
    dir: &Path,
    plan: &Plan,
    predictions: Vec<Prediction>,
    notes: &[TrialNote<'_>],
) -> Result<(), TrainError> {
    fs::create_dir_all(dir).map_err(|error| TrainError::io(dir, error))?;
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).map_err(|error| TrainError::io(&path, error))
    };
    write("config.toml", plan.config().to_toml()?)?;
    let line = |note| serde_json::to_string(note).expect("a note of plain fields") + "\n";
    write("trials.jsonl", notes.iter().map(line).collect())?;
    let path = dir.join("predictions.csv");
    Predictions { rows: predictions }
        .write(&path)
        .map_err(|error| TrainError::io(&path, std::io::Error::other(error)))
}

/// Mean over tasks of the area under the ROC curve of one site's rows; not a number without any.
#[must_use]
pub fn macro_auc_of(rows: &[Prediction], site: Option<&str>) -> f64 {
    let mut tasks: BTreeMap<&str, (Vec<bool>, Vec<f64>)> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.site.as_deref() == site) {
        let (labels, scores) = tasks.entry(&row.task).or_default();
        labels.push(row.label);
        scores.push(row.score);
    }
    let ranked = tasks
        .values()
        .filter_map(|(labels, scores)| Ranked::new(labels, scores).ok());
    let areas: Vec<f64> = ranked.map(|ranked| ranked.areas().roc_auc).collect();
    areas.iter().sum::<f64>() / areas.len() as f64
}
