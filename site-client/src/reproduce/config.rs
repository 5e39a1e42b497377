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
    /// Which models are trained on labels: `each` disease apart, as published, or `all` together.
    pub tasks: String,
    /// Probes of the frozen backbone: `linear`, `attentive`.
    pub probes: Vec<String>,
    /// Whether few-shot learning is part of the study, at every site.
    pub few_shot: bool,
    /// Whether models from scratch are swept over hyper-parameters, as published, or trained once.
    pub sweep: bool,
    /// Whether a ResNet-50 from scratch is among the baselines.
    pub resnet: bool,
    /// Models that differ in one setting, pre-trained by MAE as published, or by the first objective
    /// of a study without it.
    #[serde(default)]
    pub ablations: Vec<Ablation>,
    /// Least prevalence of each disease among phantoms, so that small cohorts have every disease.
    pub prevalence_floor: Option<f64>,
    /// Sites: the first pre-trains, all fine-tune and test.
    pub sites: Vec<Cohort>,
    /// Expected cost of a step by its name or its kind, with where the figure is from.
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
    /// Folder with scans, labels and cache.
    pub cohort: Option<String>,
    /// Scans drawn in each epoch of training on its labels; the preset's otherwise.
    pub draws: Option<usize>,
    /// Whether the folder holds a split that was published with the data: it is checked, and never
    /// made.
    #[serde(default)]
    pub official_split: bool,
}

/// A model that differs from the others.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ablation {
    /// Name in folders.
    pub name: String,
    /// What differs, as `--set KEY=VALUE` takes it.
    pub settings: Vec<String>,
}

/// Expected cost of one step.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// Wall-clock seconds.
    pub seconds: Option<f64>,
    /// Whether a share of the pre-training data takes that share of the time.
    #[serde(default)]
    pub by_share: bool,
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
