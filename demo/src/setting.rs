//! What the demo plays: four phantom hospitals, one model size, one seed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use core_model::phantom::{SITE_NAMES, Site};
use protocol::SiteId;
use serde::{Deserialize, Serialize};
use site_client::evaluate::Part;
use site_client::scans::FILE_NAME;
use site_client::train::data::{CohortFiles, Labelled, Memory, Phantoms, Reading, Source, stream};
use site_client::train::{self, Config, Plan, Preset};

/// Written once beside the consortium, read by each of its processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// Objective of pre-training: `mae` or `dino`.
    pub(crate) objective: Objective,
    /// Rounds of federated pre-training.
    pub(crate) rounds: u32,
    /// Local steps in a round.
    pub(crate) steps: u32,
    /// Everything is drawn from it.
    pub(crate) seed: u64,
    /// Hospitals; the first is the internal one.
    pub(crate) sites: Vec<SiteId>,
    /// Model and input size.
    pub(crate) size: Size,
    /// Folder of prepared cohorts, one for each hospital; phantoms if absent.
    pub(crate) data: Option<PathBuf>,
    /// Scans in a batch of pre-training, where not the preset's.
    pub(crate) batch: Option<usize>,
    /// Epochs of fine-tuning, where not the preset's.
    pub(crate) epochs: Option<usize>,
    /// Diseases that every hospital has labels of.
    pub(crate) tasks: Vec<String>,
}

/// What pre-training optimizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Objective {
    /// Self-distillation.
    Dino,
    /// Masked autoencoding.
    Mae,
}

impl Objective {
    /// The objective as training knows it.
    pub(crate) fn goal(self) -> train::Objective {
        match self {
            Self::Dino => train::Objective::Dino,
            Self::Mae => train::Objective::Mae,
        }
    }
}

/// Model and input size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Size {
    /// 48³ input, 216 tokens.
    Small,
    /// 24³ input, 64 tokens.
    Tiny,
}

impl Setting {
    /// The first `sites` phantom hospitals, in the paper's order.
    pub(crate) fn hospitals(sites: usize) -> anyhow::Result<Vec<SiteId>> {
        let known = SITE_NAMES.len();
        ensure!(
            (2..=known).contains(&sites),
            "--sites {sites}: expected 2 to {known}"
        );
        SITE_NAMES[..sites]
            .iter()
            .map(|name| Ok(name.parse()?))
            .collect()
    }

    /// The folders of prepared cohorts in `data`, by name; at most `sites`.
    pub(crate) fn prepared(data: &Path, sites: Option<usize>) -> anyhow::Result<Vec<SiteId>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(data).with_context(|| format!("--data {}", data.display()))? {
            let path = entry?.path();
            if path.join(FILE_NAME).is_file() {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                found.push(name.parse::<SiteId>()?);
            }
        }
        found.sort();
        found.truncate(sites.unwrap_or(usize::MAX));
        ensure!(
            found.len() >= 2,
            "--data {}: expected at least 2 folders with a {FILE_NAME}, found {}",
            data.display(),
            found.len()
        );
        Ok(found)
    }

    /// The diseases that every hospital can train, choose and test on.
    pub(crate) fn shared_tasks(&self) -> anyhow::Result<Vec<String>> {
        let mut shared: Option<Vec<Arc<str>>> = None;
        for site in &self.sites {
            let set = self.every_label(site)?;
            let able = |task: usize| {
                let parts = [Part::Train, Part::Validation, Part::Test];
                parts
                    .into_iter()
                    .all(|part| set.classes(task, part).is_ok())
            };
            let tasks = set.tasks().iter().enumerate();
            let own: Vec<Arc<str>> = tasks
                .filter(|(task, _)| able(*task))
                .map(|(_, name)| Arc::clone(name))
                .collect();
            shared = Some(match shared {
                Some(mut shared) => {
                    shared.retain(|task| own.contains(task));
                    shared
                }
                None => own,
            });
        }
        let shared = shared.unwrap_or_default();
        Ok(shared.iter().map(|task| task.to_string()).collect())
    }

    pub(crate) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        Ok(fs::write(dir.join(FILE), toml::to_string(self)?)?)
    }

    pub(crate) fn read(dir: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(dir.join(FILE)).context("the demo's setting is missing")?;
        Ok(toml::from_str(&text)?)
    }

    /// The internal hospital.
    pub(crate) fn internal(&self) -> &SiteId {
        &self.sites[0]
    }

    /// The training configuration before anything is overridden.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::preset(match self.size {
            Size::Small => Preset::Small,
            Size::Tiny => Preset::Tiny,
        });
        config.seed = self.seed;
        if let Some(batch) = self.batch {
            (config.mae.global_batch, config.mae.device_batch) = (batch, batch);
            (config.dino.global_batch, config.dino.device_batch) = (batch, batch);
        }
        if self.size == Size::Tiny {
            config.finetune.draws = TINY_DRAWS;
        }
        config.finetune.epochs = self.epochs.unwrap_or(config.finetune.epochs);
        config
    }

    /// A hospital's patients with the labels that all hospitals have.
    pub(crate) fn cohort(&self, site: &SiteId) -> anyhow::Result<Labelled> {
        let tasks: Vec<Arc<str>> = self.tasks.iter().map(|task| task.as_str().into()).collect();
        Ok(self.every_label(site)?.of_tasks(&tasks)?)
    }

    fn every_label(&self, site: &SiteId) -> anyhow::Result<Labelled> {
        let plan = Plan::new(self.config())?;
        let memory = plan.config().data.memory_mib;
        let keep = |source| Arc::new(Memory::new(source, memory)) as Arc<dyn Source>;
        if let Some(data) = &self.data {
            let files = CohortFiles::new(data.join(site.as_str()));
            let set = Labelled::cohort(&files, &plan)?.reading(keep);
            return Ok(set.readable(&[Reading::Training, Reading::Evaluation])?);
        }
        let profile = Site::builtin(site.as_str())
            .with_context(|| format!("{site}: no such phantom hospital"))?
            .profile()
            .clone()
            .with_prevalence_floor(PREVALENCE_FLOOR);
        let patients = if site == self.internal() {
            INTERNAL_PATIENTS
        } else {
            EXTERNAL_PATIENTS
        };
        let shape = plan.vit();
        let seed = stream(self.seed, site.as_str(), &[]);
        let site = Site::new(profile)?;
        let phantoms = Phantoms::new(site, seed, patients, shape.image, shape.channels);
        Ok(Labelled::phantoms(phantoms)
            .reading(keep)
            .with_parts(|_, row| match stream(self.seed, &row.patient, &[]) % 10 {
                0..5 => Part::Train,
                5..7 => Part::Validation,
                _ => Part::Test,
            }))
    }
}

const FILE: &str = "demo.toml";

/// Small cohorts hold some positives of every disease.
const PREVALENCE_FLOOR: f64 = 0.2;

/// Scans drawn in an epoch of fine-tuning at size `tiny`, half the preset's: a newcomer waits.
const TINY_DRAWS: usize = 160;

const INTERNAL_PATIENTS: u64 = 480;
const EXTERNAL_PATIENTS: u64 = 240;
