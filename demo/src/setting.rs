//! What the demo plays: four phantom hospitals, one model size, one seed.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use core_model::phantom::{SITE_NAMES, Site};
use protocol::SiteId;
use serde::{Deserialize, Serialize};
use site_client::evaluate::Part;
use site_client::train::data::{Labelled, Memory, Phantoms, Source, stream};
use site_client::train::{Config, Plan, Preset};

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
        config
    }

    /// A hospital's phantom patients with their true labels, windowed and kept in memory.
    pub(crate) fn cohort(&self, site: &SiteId) -> anyhow::Result<Labelled> {
        let plan = Plan::new(self.config())?;
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
        let memory = plan.config().data.memory_mib;
        let keep = |source| Arc::new(Memory::new(source, memory)) as Arc<dyn Source>;
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

const INTERNAL_PATIENTS: u64 = 480;
const EXTERNAL_PATIENTS: u64 = 240;
