//! What a downstream command writes: predictions, a summary, the resolved configuration.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use core_model::metrics::Ranked;
use serde::Serialize;

use super::learner::Fit;
use crate::evaluate::{Prediction, Predictions};
use crate::train::{FinetuneConfig, OptimizerKind, Plan, TrainError};

/// One line of `trials.jsonl`: how a training went.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TrialNote<'a> {
    /// Tasks of the model, joined by `+`.
    pub tasks: &'a str,
    /// Fine-tuning, a probe, a rule, a `combination` of a sweep or the `sweep`'s choice.
    pub protocol: &'a str,
    /// What a sweep varies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub combination: Option<Combination>,
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
    /// Scans of the training and validation part that could not be read and were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<usize>,
    /// Why there is no model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// What a sweep varies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Combination {
    /// Which optimizer.
    pub optimizer: OptimizerKind,
    /// Peak learning rate of backbone and head.
    pub learning_rate: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Most epochs.
    pub epochs: usize,
}

impl From<&FinetuneConfig> for Combination {
    fn from(config: &FinetuneConfig) -> Self {
        Self {
            optimizer: config.optimizer,
            learning_rate: config.head_lr,
            weight_decay: config.weight_decay,
            epochs: config.epochs,
        }
    }
}

impl std::fmt::Display for Combination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            optimizer,
            learning_rate,
            weight_decay,
            epochs,
        } = self;
        write!(
            f,
            "lr {learning_rate:e}, weight decay {weight_decay:e}, {epochs} epochs, {optimizer:?}"
        )
    }
}

impl TrialNote<'_> {
    /// The note of a fit.
    #[must_use]
    pub fn fitted<'a>(tasks: &'a str, protocol: &'a str, fit: &Fit) -> TrialNote<'a> {
        TrialNote {
            tasks,
            protocol,
            best_epoch: Some(fit.best_epoch),
            validation_auc: Some(fit.validation_auc),
            left_out: (fit.left_out > 0).then_some(fit.left_out),
            ..TrialNote::default()
        }
    }
}

/// The result files of a run's folder, written as results come: what is done before a fault stays.
#[derive(Debug)]
pub struct Results {
    dir: PathBuf,
    notes: File,
    rows: Vec<Prediction>,
}

impl Results {
    /// Begins the results of a run: writes the resolved `config.toml`, and takes the results of an
    /// earlier run away.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn begin(dir: &Path, plan: &Plan) -> Result<Self, TrainError> {
        write_config(dir, plan)?;
        let old = dir.join(PREDICTIONS);
        match fs::remove_file(&old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(TrainError::io(&old, error));
            }
            _ => {}
        }
        let path = dir.join(TRIALS);
        Ok(Self {
            dir: dir.to_owned(),
            notes: File::create(&path).map_err(|error| TrainError::io(&path, error))?,
            rows: Vec::new(),
        })
    }

    /// Adds a line to `trials.jsonl`.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    ///
    /// # Panics
    ///
    /// Never: a note has plain fields.
    pub fn note(&mut self, note: &TrialNote<'_>) -> Result<(), TrainError> {
        let line = serde_json::to_string(note).expect("a note of plain fields") + "\n";
        self.notes
            .write_all(line.as_bytes())
            .map_err(|error| TrainError::io(&self.dir.join(TRIALS), error))
    }

    /// Adds rows to `predictions.csv`.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn add(&mut self, predictions: Vec<Prediction>) -> Result<(), TrainError> {
        self.rows.extend(predictions);
        // The columns depend on all rows, so the table is written anew, beside the one that stands.
        let path = self.dir.join(PREDICTIONS);
        let partial = path.with_extension("partial");
        let table = Predictions {
            rows: std::mem::take(&mut self.rows),
        };
        table
            .write(&partial)
            .map_err(|error| TrainError::io(&partial, io::Error::other(error)))?;
        self.rows = table.rows;
        fs::rename(&partial, &path).map_err(|error| TrainError::io(&path, error))
    }
}

/// Writes the resolved configuration into a folder.
///
/// # Errors
///
/// The file cannot be written.
pub fn write_config(dir: &Path, plan: &Plan) -> Result<(), TrainError> {
    fs::create_dir_all(dir).map_err(|error| TrainError::io(dir, error))?;
    let path = dir.join("config.toml");
    fs::write(&path, plan.config().to_toml()?).map_err(|error| TrainError::io(&path, error))
}

const PREDICTIONS: &str = "predictions.csv";
const TRIALS: &str = "trials.jsonl";

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
