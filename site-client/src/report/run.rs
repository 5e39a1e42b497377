//! A training run's folder, as the report reads it. The format is in `docs/EVALUATION.md`.

mod cohort;
mod embeddings;
mod few_shot;
mod labeled;
mod write;

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ReportError;
use crate::evaluate::Predictions;

pub use cohort::CohortRow;
pub use embeddings::Embeddings;
pub use write::{write_cohort, write_embeddings};

/// What one run left behind; parts it did not make are empty.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Who made the predictions, and how.
    pub info: RunInfo,
    /// `run.toml` as it is, shown and digested.
    pub config: String,
    /// Test and validation scores.
    pub predictions: Predictions,
    /// Training curve.
    pub history: Vec<HistoryPoint>,
    /// Embeddings of scans.
    pub embeddings: Option<Embeddings>,
    /// Few-shot results.
    pub few_shot: Vec<FewShot>,
    /// Patients and scans of the cohort.
    pub cohort: Vec<CohortRow>,
}

/// Table `[run]` of `run.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunInfo {
    /// Name of the run.
    pub name: String,
    /// Label of the model in figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// `finetune`, `linear_probe` or `attentive_probe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Site whose labels trained the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained_at: Option<String>,
    /// Pre-training objective.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<String>,
    /// Share of the pre-training scans, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretraining_fraction: Option<f64>,
    /// Input channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// Patch size in voxels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<usize>,
    /// Seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Version of the software.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// One line of `history.jsonl`; other keys are ignored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct HistoryPoint {
    /// Optimizer steps so far.
    pub step: u64,
    /// Passes over the data so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<f64>,
    /// Training loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Validation loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
    /// Validation AUC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_auc: Option<f64>,
    /// Learning rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
}

/// One row of `few_shot.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FewShot {
    /// Site of training and test.
    pub site: String,
    /// Disease.
    pub task: String,
    /// Scans per class.
    pub shots: usize,
    /// Number of the draw.
    pub repeat: usize,
    /// AUC on the test scans.
    pub auc: f64,
    /// Average precision on the test scans.
    pub ap: f64,
    /// Model, where the run has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl Run {
    /// Reads a folder: a run as documented, or what a training command left behind (`config.toml`
    /// instead of `run.toml`, `log.jsonl` instead of `history.jsonl`, and few-shot scores among the
    /// predictions).
    ///
    /// # Errors
    /// Neither configuration, or a file of the folder that is not as documented, with its line.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let mut run = Self::default();
        if let Some(config) = read_text(&folder.join("run.toml"))? {
            let parsed: RunFile =
                toml::from_str(&config).map_err(|source| ReportError::Config {
                    path: folder.join("run.toml"),
                    source: Box::new(source),
                })?;
            (run.info, run.config) = (parsed.run, config);
        } else if let Some(config) = read_text(&folder.join("config.toml"))? {
            run.info.name = folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            run.config = config;
        } else {
            return Err(ReportError::NotARun {
                path: folder.to_owned(),
            });
        }
        let path = folder.join("predictions.csv");
        if path.exists() {
            run.predictions = Predictions::read(&path)
                .map_err(|source| ReportError::Predictions { path, source })?;
        }
        run.history = read_history(&folder.join("history.jsonl"))?;
        run.history.extend(read_history(&folder.join("log.jsonl"))?);
        run.few_shot = read_few_shot(&folder.join("few_shot.csv"))?;
        run.few_shot.extend(few_shot::take(&mut run.predictions));
        run.cohort = cohort::read(&folder.join("cohort.csv"))?;
        run.embeddings = Embeddings::read(folder)?;
        run.name_predictions();
        Ok(run)
    }

    /// Fills in what the predictions leave empty from `[run]`, and labels their one model as it says;
    /// [`read`](Self::read) has done so.
    pub fn name_predictions(&mut self) {
        let shared = |value: &Option<String>| value.as_deref().map(std::sync::Arc::<str>::from);
        let info = &self.info;
        let (run, model) = (Some(std::sync::Arc::from(&*info.name)), shared(&info.model));
        let (protocol, trained_at) = (shared(&info.protocol), shared(&info.trained_at));
        let rows = &self.predictions.rows;
        // The label of the one model there is; several keep the names that tell them apart.
        let one = rows.iter().all(|row| row.model == rows[0].model);
        for row in &mut self.predictions.rows {
            row.run = row.run.take().or_else(|| run.clone());
            row.model = match model.clone() {
                Some(label) if one => Some(label),
                label => row.model.take().or(label),
            };
            row.protocol = row.protocol.take().or_else(|| protocol.clone());
            row.trained_at = row.trained_at.take().or_else(|| trained_at.clone());
        }
    }

    /// BLAKE3 of `run.toml`, the first 16 hex digits.
    pub fn config_digest(&self) -> String {
        blake3::hash(self.config.as_bytes()).to_hex()[..16].to_owned()
    }
}

/// `[run]` is ours, other tables are the trainer's.
#[derive(Deserialize)]
struct RunFile {
    run: RunInfo,
}

fn read_few_shot(path: &Path) -> Result<Vec<FewShot>, ReportError> {
    let Some(text) = read_text(path)? else {
        return Ok(Vec::new());
    };
    let mut table = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let rows = table.deserialize().map(|row| {
        row.map_err(|error: csv::Error| ReportError::Row {
            path: path.to_owned(),
            line: error.position().map_or(1, csv::Position::line),
            rule: error.to_string(),
        })
    });
    rows.collect()
}

fn read_history(path: &Path) -> Result<Vec<HistoryPoint>, ReportError> {
    let Some(text) = read_text(path)? else {
        return Ok(Vec::new());
    };
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(place, line)| {
            serde_json::from_str(line).map_err(|error| ReportError::Row {
                path: path.to_owned(),
                line: place as u64 + 1,
                rule: error.to_string(),
            })
        })
        .collect()
}

fn read_text(path: &Path) -> Result<Option<String>, ReportError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReportError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    const RUN: &str = "[run]\nname = \"r\"\nmodel = \"m\"\n[train]\nsteps = 3\n";

    #[test]
    fn a_run_needs_only_its_configuration() {
        let run = Run::read(folder(&[("run.toml", RUN)]).path()).unwrap();
        assert_eq!(run.info.model.as_deref(), Some("m"));
        assert_eq!(run.config_digest().len(), 16);
        assert!(run.predictions.rows.is_empty() && run.embeddings.is_none());
        assert!(matches!(
            Run::read(folder(&[]).path()),
            Err(ReportError::NotARun { .. })
        ));
    }

    #[test]
    fn the_predictions_take_what_they_lack_from_the_run() {
        let table = "patient,scan,task,label,score,model\np,s,ICH,1,0.5,\nq,t,ICH,0,0.5,other\n";
        let run = Run::read(folder(&[("run.toml", RUN), ("predictions.csv", table)]).path());
        let models: Vec<_> = run
            .unwrap()
            .predictions
            .rows
            .into_iter()
            .map(|row| row.model.unwrap())
            .collect();
        assert_eq!(models, ["m".into(), "other".into()]);
    }

    #[test]
    fn wrong_rows_are_named() {
        let message = |name: &str, text: &str| {
            Run::read(folder(&[("run.toml", RUN), (name, text)]).path())
                .unwrap_err()
                .to_string()
        };
        assert!(
            message("cohort.csv", "patient,scan,ICH\np,s,2\n")
                .ends_with("cohort.csv: line 2: column ICH: expected 0 or 1, found \"2\"")
        );
        assert!(
            message("cohort.csv", "patient,scan,age\np,s,old\n").contains("line 2: column age")
        );
        assert!(
            message("history.jsonl", "{\"step\":1}\n{\"loss\":1}\n").contains("line 2: missing")
        );
        assert!(
            message(
                "few_shot.csv",
                "site,task,shots,repeat,auc,ap\nn,t,8,0,x,1\n"
            )
            .contains("line 2")
        );
        let unknown = folder(&[("run.toml", "[run]\nname = \"r\"\nmodle = \"m\"\n")]);
        assert!(matches!(
            Run::read(unknown.path()),
            Err(ReportError::Config { .. })
        ));
    }

    #[test]
    fn embeddings_come_with_one_row_per_scan() {
        let values: Vec<u8> = [1f32, 2.0, 3.0, 4.0]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let tensor =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 2], &values)
                .unwrap();
        let bytes = safetensors::serialize([("embeddings", tensor)], None).unwrap();
        let table = "scan,manufacturer,ICH\na,GE,1\nb,,\n";
        let whole = folder(&[("run.toml", RUN), ("embeddings.csv", table)]);
        fs::write(whole.path().join("embeddings.safetensors"), &bytes).unwrap();
        let embeddings = Run::read(whole.path()).unwrap().embeddings.unwrap();
        assert_eq!((embeddings.scans(), embeddings.width), (2, 2));
        assert_eq!(embeddings.labels["ICH"], [Some(true), None]);
        let short = folder(&[("run.toml", RUN), ("embeddings.csv", "scan\na\n")]);
        fs::write(short.path().join("embeddings.safetensors"), &bytes).unwrap();
        let message = Run::read(short.path()).unwrap_err().to_string();
        assert!(
            message.ends_with("2 embeddings, but 1 rows of scans"),
            "{message}"
        );
    }
}
