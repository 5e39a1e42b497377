//! What a hospital does with the pre-trained models: fine-tunes classifiers on its own labels and
//! scores held-out patients, its own and (the demo plays them all) the other hospitals'.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use burn::tensor::Device;
use core_model::heads::ProbeKind;
use core_model::state::StateDict;
use protocol::SiteId;
use protocol::params::Params;
use site_client::evaluate::{Part, Predictions};
use site_client::params::to_state;
use site_client::report::RunInfo;
use site_client::train::data::Labelled;
use site_client::train::downstream::{Draw, Finetuning, Learner, Start, fit};
use site_client::train::{Config, Plan};
use site_client::weights::{self, Section};

use crate::setting::Setting;
use crate::{alone, federation};

/// One way to a classifier; a column of the demo's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Arm {
    /// From random weights, with the learning rates the pre-trained models use.
    Scratch,
    /// From random weights, with the learning rate chosen on validation patients.
    Tuned,
    /// From a model pre-trained at the internal hospital alone.
    Single,
    /// From the model the consortium pre-trained.
    Federated,
}

impl Arm {
    const ALL: [Self; 4] = [Self::Scratch, Self::Tuned, Self::Single, Self::Federated];

    /// What a hospital runs.
    pub(crate) fn at(setting: &Setting, home: &SiteId) -> Vec<Self> {
        if home == setting.internal() {
            Self::ALL.to_vec()
        } else {
            vec![Self::Federated]
        }
    }

    /// Where its results go.
    pub(crate) fn folder(self, dir: &Path, home: &SiteId) -> PathBuf {
        dir.join("runs").join(format!("{}-{home}", self.name()))
    }

    /// Name in commands and of files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scratch => "scratch",
            Self::Tuned => "tuned",
            Self::Single => "single",
            Self::Federated => "federated",
        }
    }

    /// Label in tables and figures.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Scratch => "scratch",
            Self::Tuned => "tuned scratch",
            Self::Single => "single-site",
            Self::Federated => "federated",
        }
    }
}

/// Fine-tunes `arm` on the labels of the hospital `home` and writes a run folder with the scores of
/// every hospital's test patients.
pub(crate) fn run(dir: &Path, home: &SiteId, arm: Arm) -> anyhow::Result<()> {
    let setting = &Setting::read(dir)?;
    let cohorts = setting
        .sites
        .iter()
        .map(|site| Ok((site.clone(), setting.cohort(site)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let backbone = match arm {
        Arm::Scratch | Arm::Tuned => None,
        Arm::Single => Some(read_backbone(&dir.join(alone::FILE))?),
        Arm::Federated => Some(read_backbone(&dir.join(federation::MODEL))?),
    };
    let (_, set) = cohorts
        .iter()
        .find(|(site, _)| site == home)
        .with_context(|| format!("{home}: no cohort"))?;
    let learner = match arm {
        Arm::Tuned => tuned(setting, set)?,
        _ => train(setting.config(), set, backbone.as_ref())?.0,
    };
    let mut predictions = Predictions::default();
    for (_, cohort) in &cohorts {
        let scans = cohort.part(Part::Test);
        let scores = learner.scores(cohort, &scans)?;
        predictions.rows.extend(cohort.predictions(&scans, &scores));
    }
    let info = RunInfo {
        name: format!("{} at {home}", arm.label()),
        model: Some(arm.label().to_owned()),
        protocol: Some("finetune".to_owned()),
        trained_at: Some(home.to_string()),
        seed: Some(setting.seed),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        ..RunInfo::default()
    };
    let folder = arm.folder(dir, home);
    fs::create_dir_all(&folder)?;
    let head = toml::to_string(&std::collections::BTreeMap::from([("run", info)]))?;
    let body = toml::to_string(&setting.config())?;
    fs::write(
        folder.join("run.toml"),
        format!("{head}\n{}", nested(&body, "train")?),
    )?;
    predictions.write(&folder.join("predictions.csv"))?;
    Ok(())
}

/// The learning rate with the best validation AUC, for backbone and head alike.
fn tuned(setting: &Setting, set: &Labelled) -> anyhow::Result<Finetuning> {
    let mut best: Option<(f64, Finetuning)> = None;
    for lr in TUNED_RATES {
        let mut config = setting.config();
        (config.finetune.backbone_lr, config.finetune.head_lr) = (lr, lr);
        config.finetune.epochs *= 2;
        let (learner, auc) = train(config, set, None)?;
        if best.as_ref().is_none_or(|(least, _)| auc > *least) {
            best = Some((auc, learner));
        }
    }
    best.map(|(_, learner)| learner)
        .context("no learning rate was tried")
}

fn train(
    config: Config,
    set: &Labelled,
    backbone: Option<&StateDict>,
) -> anyhow::Result<(Finetuning, f64)> {
    let plan = Plan::new(config)?;
    let finetune = &plan.config().finetune;
    let draw = Draw::balanced(set, finetune.draws)?;
    let steps = draw.steps(finetune.epochs, finetune.batch);
    let (tasks, seed) = (set.tasks().len(), plan.config().seed);
    let start = backbone.map_or(Start::Scratch, Start::Backbone);
    let device = Device::flex();
    let kind = ProbeKind::Linear;
    let mut learner = Finetuning::new(&plan, kind, tasks, start, (seed, steps), &device)?;
    let fitted = fit(
        &mut learner,
        set,
        &draw,
        finetune.epochs,
        seed,
        &mut |_, _, _| {},
    )?;
    Ok((learner, fitted.validation_auc))
}

/// The backbone of a checkpoint of pre-training: MAE's encoder, or DINO's network without its head.
fn read_backbone(path: &Path) -> anyhow::Result<StateDict> {
    let bytes = fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let state = to_state(&Params::from_safetensors(&bytes)?);
    Ok(weights::backbone(state, Section::default()).tensors)
}

/// Puts the tables of a TOML text under one table.
fn nested(text: &str, name: &str) -> anyhow::Result<String> {
    let table: toml::Table = toml::from_str(text)?;
    let outer = toml::Table::from_iter([(name.to_owned(), toml::Value::Table(table))]);
    Ok(toml::to_string(&outer)?)
}

/// Learning rates tried for the tuned model; the paper's sweep has these three and more settings.
const TUNED_RATES: [f64; 3] = [1e-3, 1e-4, 1e-5];
