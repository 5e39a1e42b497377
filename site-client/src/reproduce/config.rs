//! What a study is made of, as written in TOML.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ReproduceError;

/// A study before it is checked.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyConfig {
    /// Preset of the training commands.
    pub training: String,
    /// Settings over the preset, as `--set KEY=VALUE` takes them.
    #[serde(default)]
    pub settings: Vec<String>,
    /// Seed of everything.
    pub seed: u64,
    /// Pre-training objectives: `dino`, `mae`. The first is the one that is probed and few-shot.
    pub objectives: Vec<String>,
    /// Shares of the pre-training patients, the whole among them.
    pub fractions: Vec<f64>,
    /// Probes of the frozen backbone: `linear`, `attentive`.
    pub probes: Vec<String>,
    /// Whether few-shot learning is part of the study.
    pub few_shot: bool,
    /// Whether the model from scratch is swept over hyper-parameters, as published, or trained once.
    pub sweep: bool,
    /// Sites: the first pre-trains, all fine-tune and test.
    pub sites: Vec<Cohort>,
    /// Expected cost of a step by its kind, with where the figure is from.
    #[serde(default)]
    pub estimates: BTreeMap<String, Estimate>,
}

/// Where a site's scans come from: phantoms or a prepared folder.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cohort {
    /// Name in folders.
    pub name: String,
    /// `SITE:PATIENTS:SEED`.
    pub phantoms: Option<String>,
    /// Folder with scans, labels, split and cache.
    pub cohort: Option<String>,
}

/// Expected cost of one step.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// Seconds at the whole of the data.
    pub seconds: Option<f64>,
    /// MiB on disk.
    pub mib: Option<f64>,
    /// Where the figure is from.
    pub source: String,
}

impl StudyConfig {
    /// Parses a study.
    ///
    /// # Errors
    /// TOML that is not a study.
    pub fn parse(text: &str) -> Result<Self, ReproduceError> {
        Ok(toml::from_str(text)?)
    }

    /// A built-in study: `phantom-tiny` or `paper`.
    pub fn builtin(name: &str) -> Option<&'static str> {
        match name {
            "phantom-tiny" => Some(include_str!("phantom-tiny.toml")),
            "paper" => Some(include_str!("paper.toml")),
            _ => None,
        }
    }
}
