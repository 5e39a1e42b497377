//! Flags that the training commands share: the configuration, and where scans come from.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, bail};
use burn::tensor::Device;
use clap::ValueEnum;
use core_model::phantom::Site;
use core_model::state::StateDict;
use site_client::device::DeviceChoice;
use site_client::evaluate::{Part, Prediction};
use site_client::train::data::{CohortFiles, Labelled, Memory, Phantoms, Reading, Source};
use site_client::train::pretrain::backbone_for;
use site_client::train::{Architecture, Config, Plan, Preset};

/// The configuration: a preset, a file over it, flags over both.
#[derive(clap::Args)]
pub(super) struct ConfigArgs {
    /// What the configuration starts from, unless the file names another.
    #[arg(long, value_enum, default_value = "paper")]
    preset: Preset,
    /// TOML file with what differs from the preset; a run's config.toml repeats that run.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting over both, such as dino.base_lr=1e-4; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Seed of every random stream.
    #[arg(long)]
    seed: Option<u64>,
    /// cpu, cuda or cuda:1.
    #[arg(long)]
    device: Option<String>,
}

impl ConfigArgs {
    /// The checked configuration; `settings` come last.
    pub(super) fn plan(&self, settings: &[String]) -> anyhow::Result<Plan> {
        let read = |path: &PathBuf| {
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let text = self.config.as_ref().map(read).transpose()?;
        let mut all = self.set.clone();
        all.extend(self.seed.map(|seed| format!("seed={seed}")));
        all.extend(
            self.device
                .as_ref()
                .map(|device| format!("device={device}")),
        );
        all.extend_from_slice(settings);
        Ok(Plan::new(Config::resolve(
            self.preset,
            text.as_deref(),
            &all,
        )?)?)
    }
}

/// Which network learns.
#[derive(clap::Args)]
pub(super) struct ModelArgs {
    /// Which network learns, the configuration's otherwise; resnet50-3d goes with --from scratch.
    #[arg(long, value_enum)]
    model: Option<Architecture>,
}

impl ModelArgs {
    /// The settings that this asks for.
    pub(super) fn settings(&self) -> Vec<String> {
        let named = self.model.and_then(|model| model.to_possible_value());
        let setting = named.map(|model| format!("model.architecture={}", model.get_name()));
        Vec::from_iter(setting)
    }
}

/// Where labelled or unlabelled scans come from.
#[derive(clap::Args)]
pub(super) struct DataArgs {
    /// A prepared cohort: the folder of scans.csv, split.csv, labels.csv and cache. Its name is the
    /// site's name in predictions.
    #[arg(
        long,
        visible_alias = "scans",
        value_name = "DIR",
        conflicts_with = "phantoms"
    )]
    cohort: Option<PathBuf>,
    /// Labels of the cohort; otherwise labels.csv in its folder.
    #[arg(long, value_name = "FILE", requires = "cohort")]
    labels: Option<PathBuf>,
    /// Parts of the cohort; otherwise split.csv in its folder.
    #[arg(long, value_name = "FILE", requires = "cohort")]
    split: Option<PathBuf>,
    /// Phantom patients: SITE:PATIENTS or SITE:PATIENTS:SEED, with SITE one of langone,
    /// longisland, rsna, cq500.
    #[arg(long, value_name = "SITE:N")]
    phantoms: Option<PhantomSpec>,
    /// Least prevalence of each disease among phantoms.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    prevalence_floor: f64,
}

/// External sites, scored once and never trained on.
#[derive(clap::Args)]
pub(super) struct ExternalArgs {
    /// A prepared cohort of another site, as with --cohort; may be repeated. Without split.csv all of
    /// it is test.
    #[arg(long, value_name = "DIR")]
    external_cohort: Vec<PathBuf>,
    /// External phantoms, SITE:PATIENTS or SITE:PATIENTS:SEED; may be repeated. The tenth of the
    /// patients that is test is scored, as for a model trained there.
    #[arg(long, value_name = "SITE:N")]
    external_phantoms: Vec<PhantomSpec>,
}

/// `SITE:PATIENTS[:SEED]`.
#[derive(Clone, Debug)]
pub(super) struct PhantomSpec {
    site: String,
    patients: u64,
    seed: Option<u64>,
}

impl FromStr for PhantomSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?}: expected SITE:PATIENTS or SITE:PATIENTS:SEED");
        let parts: Vec<&str> = text.split(':').collect();
        let number = |text: &&str| text.parse::<u64>().map_err(|_| expected());
        let (site, patients, seed) = match &parts[..] {
            [site, patients] => (site, number(patients)?, None),
            [site, patients, seed] => (site, number(patients)?, Some(number(seed)?)),
            _ => return Err(expected()),
        };
        if patients == 0 {
            return Err(format!("{text:?}: expected at least one patient"));
        }
        Ok(Self {
            site: (*site).to_owned(),
            patients,
            seed,
        })
    }
}

impl DataArgs {
    /// The scans, with what is known about them; labels may be missing for pre-training.
    pub(super) fn open(&self, plan: &Plan) -> anyhow::Result<Labelled> {
        self.open_split(plan, None)
    }

    /// Scans to learn labels from, or to be scored by them; all of them can be read, those of the
    /// training part as `training` says.
    ///
    /// A cohort without split.csv is refused unless `unsplit` says which part it is.
    pub(super) fn open_labelled(
        &self,
        plan: &Plan,
        training: Reading,
        unsplit: Option<Part>,
    ) -> anyhow::Result<Labelled> {
        let set = self.open_split(plan, unsplit)?;
        let Some(folder) = &self.cohort else {
            return Ok(set);
        };
        anyhow::ensure!(
            !set.tasks().is_empty(),
            "cohort {}: no labels; give --labels FILE or put labels.csv there",
            folder.display()
        );
        Ok(set.readable(&[training])?)
    }

    /// Where the scans are from, for messages.
    pub(super) fn name(&self) -> String {
        match (&self.cohort, &self.phantoms) {
            (Some(path), _) => path.display().to_string(),
            (None, Some(spec)) => format!("phantoms of {}", spec.site),
            (None, None) => "no scans".to_owned(),
        }
    }

    /// Scans for whatever a federation's plans ask: labels are used where there are any.
    pub(super) fn open_for_rounds(&self, plan: &Plan) -> anyhow::Result<Labelled> {
        let set = self.open(plan)?;
        match self.cohort {
            // Rounds may fine-tune, which trains on scans as such, and probe, which scores them.
            Some(_) => Ok(set.readable(&[Reading::Training, Reading::Evaluation])?),
            None => Ok(set),
        }
    }

    fn open_split(&self, plan: &Plan, unsplit: Option<Part>) -> anyhow::Result<Labelled> {
        if let Some(path) = &self.cohort {
            let files = CohortFiles {
                labels: self.labels.clone(),
                split: self.split.clone(),
                unsplit,
                ..CohortFiles::new(folder_of(path))
            };
            return Ok(kept(Labelled::cohort(&files, plan)?, plan));
        }
        let spec = self
            .phantoms
            .as_ref()
            .context("no scans: give --cohort DIR or --phantoms SITE:PATIENTS")?;
        phantoms(spec, plan, self.prevalence_floor)
    }
}

impl ExternalArgs {
    /// The external sites, reduced to the tasks of `like`. Sites need not have labels of all of them:
    /// a model is tested where there are some.
    pub(super) fn open(
        &self,
        plan: &Plan,
        like: &Labelled,
        data: &DataArgs,
    ) -> anyhow::Result<Vec<Labelled>> {
        let mut sets = Vec::new();
        for path in &self.external_cohort {
            let files = CohortFiles {
                unsplit: Some(Part::Test),
                ..CohortFiles::new(folder_of(path))
            };
            let set = Labelled::cohort(&files, plan)?;
            let set = scored_for(&set, like.tasks(), &path.display().to_string())?;
            sets.push(kept(set, plan).readable(&[Reading::Evaluation])?);
        }
        for spec in &self.external_phantoms {
            sets.push(phantoms(spec, plan, data.prevalence_floor)?.of_tasks(like.tasks())?);
        }
        Ok(sets)
    }
}

/// A set for a model of `tasks`. Says which of them the set, called `name`, has no labels of; with
/// none of them there is nothing to score.
pub(super) fn scored_for(
    set: &Labelled,
    tasks: &[Arc<str>],
    name: &str,
) -> anyhow::Result<Labelled> {
    let (set, missing) = set.over_tasks(tasks);
    let missing_tasks = missing.join(", ");
    if missing.len() == tasks.len() {
        bail!("{name}: labels: expected one of {missing_tasks}, found none");
    }
    if !missing.is_empty() {
        println!("{name}: no label of {missing_tasks}: not tested there");
    }
    Ok(set)
}

/// The devices that pre-train together.
pub(super) fn devices(plan: &Plan) -> anyhow::Result<Vec<Device>> {
    let config = plan.config();
    let choice = config.device.parse::<DeviceChoice>()?;
    Ok(choice.open_several(config.pretrain.devices)?)
}

/// A cohort's folder, named by itself or by its table of scans.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(here) if path.is_file() && here.as_os_str().is_empty() => PathBuf::from("."),
        Some(folder) if path.is_file() => folder.to_owned(),
        _ => path.to_owned(),
    }
}

/// The device of the plan.
pub(super) fn device(plan: &Plan) -> anyhow::Result<Device> {
    Ok(plan.config().device.parse::<DeviceChoice>()?.open()?)
}

/// Backbone weights from `--from`, a weight file or a pre-training run's folder, and the plan that
/// fits them; none for scratch.
pub(super) fn start(plan: Plan, from: &str) -> anyhow::Result<(Plan, Option<StateDict>)> {
    if from == "scratch" {
        return Ok((plan, None));
    }
    let (plan, weights) = backbone_for(&plan, from.as_ref())?;
    Ok((plan, Some(weights)))
}

fn phantoms(spec: &PhantomSpec, plan: &Plan, floor: f64) -> anyhow::Result<Labelled> {
    let site = Site::builtin(&spec.site)
        .with_context(|| format!("site {:?}: no such phantom site", spec.site))?;
    let site = if floor > 0.0 {
        Site::new(site.profile().clone().with_prevalence_floor(floor))?
    } else {
        site
    };
    let config = plan.config();
    let seed = spec.seed.unwrap_or(config.seed);
    let (size, channels) = (config.model.input, config.model.channels);
    let source = Phantoms::new(site, seed, spec.patients, size, channels);
    Ok(kept(Labelled::phantoms(source), plan))
}

/// Keeps decoded scans in memory as far as the plan allows.
fn kept(set: Labelled, plan: &Plan) -> Labelled {
    let mib = plan.config().data.memory_mib;
    set.reading(|source: Arc<dyn Source>| Arc::new(Memory::new(source, mib)))
}

/// The sets that are trained on and scored, of the tasks of one model or of all models.
pub(super) struct Sets {
    /// The site's own.
    pub(super) own: Labelled,
    /// Scored once, never trained on.
    pub(super) external: Vec<Labelled>,
}

impl Sets {
    /// The scans of all models' tasks, checked before the first is trained: each part of the site's
    /// own holds both classes of each task.
    pub(super) fn open(
        whole: &Labelled,
        groups: &[Vec<Arc<str>>],
        external: impl FnOnce(&Labelled) -> anyhow::Result<Vec<Labelled>>,
    ) -> anyhow::Result<Self> {
        let mut tasks = groups.concat();
        let mut seen = BTreeSet::new();
        tasks.retain(|task| seen.insert(Arc::clone(task)));
        let own = whole.of_tasks(&tasks)?;
        own.require_classes()?;
        Ok(Self {
            external: external(&own)?,
            own,
        })
    }

    /// The same scans for one model.
    pub(super) fn of_tasks(&self, tasks: &[Arc<str>]) -> anyhow::Result<Self> {
        let external = self.external.iter().map(|set| set.of_tasks(tasks));
        Ok(Self {
            own: self.own.of_tasks(tasks)?,
            external: external.collect::<Result<_, _>>()?,
        })
    }

    /// The site's name in predictions.
    pub(super) fn site(&self) -> Option<&str> {
        self.own.rows().first().and_then(|row| row.site.as_deref())
    }
}

/// Which models are trained: `each` is one binary model per disease, `all` one model of all, a list
/// one binary model for each disease it names.
pub(super) fn task_groups(set: &Labelled, tasks: &str) -> Vec<Vec<Arc<str>>> {
    match tasks {
        "all" => vec![set.tasks().to_vec()],
        "each" => set
            .tasks()
            .iter()
            .map(|task| vec![Arc::clone(task)])
            .collect(),
        list => list
            .split(',')
            .map(|task| vec![task.trim().into()])
            .collect(),
    }
}

/// Names the run in its predictions.
pub(super) fn named(
    mut predictions: Vec<Prediction>,
    model: &str,
    protocol: &str,
    trained_at: &Labelled,
) -> Vec<Prediction> {
    let site = trained_at.rows().first().and_then(|row| row.site.clone());
    for row in &mut predictions {
        row.model = Some(model.into());
        row.protocol = Some(protocol.into());
        row.trained_at.clone_from(&site);
    }
    predictions
}

/// How a start is called in predictions: `scratch`, or the file it came from.
pub(super) fn start_name(from: &str) -> &str {
    let path: &Path = from.as_ref();
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or(from)
}
