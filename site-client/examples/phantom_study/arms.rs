//! The arms: who is pre-trained how, and what is fine-tuned from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use core_model::phantom::Site;
use core_model::state::StateDict;
use site_client::evaluate::{Part, Predictions};
use site_client::train::data::{Labelled, Memory, Phantoms, Subset, in_fraction, stream};
use site_client::train::downstream::{Draw, Protocol, Trial, grid};
use site_client::train::pretrain::{PretrainRun, backbone_of};
use site_client::train::record::Stop;
use site_client::train::{Config, Objective, Plan, Preset};

/// How large the study is.
#[derive(clap::Args)]
pub(crate) struct Settings {
    /// Folder of the study.
    #[arg(long)]
    out: PathBuf,
    /// Seeds of pre-training.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Draws of the labelled training scans.
    #[arg(long, default_value_t = 3)]
    subsets: u64,
    /// Labelled training scans.
    #[arg(long, default_value_t = 64)]
    labelled: usize,
    /// Unlabelled patients for pre-training.
    #[arg(long, default_value_t = 2000)]
    pool: u64,
    /// Steps of MAE.
    #[arg(long, default_value_t = 1000)]
    mae_steps: u64,
    /// Steps of DINO.
    #[arg(long, default_value_t = 1000)]
    dino_steps: u64,
    /// Least prevalence of each disease.
    #[arg(long, default_value_t = 0.15)]
    floor: f64,
    /// Settings over the preset `tiny`, as `--set` of the commands.
    #[arg(long)]
    set: Vec<String>,
}

/// Patients of the labelled internal site: training pool, validation, test. One scan of each.
const LABELLED: u64 = 900;
/// Patients of each external site. One scan of each.
const EXTERNAL: u64 = 150;
/// Other patients of an external site, for training there.
const OWN: u64 = 400;
/// The sweep of this study: a part of the paper's grid, and one rate above it.
const SWEEP: [&str; 4] = [
    "sweep.learning_rates=[3e-3, 1e-3]",
    "sweep.weight_decays=[1e-2]",
    "sweep.epochs=[10, 30]",
    "sweep.optimizers=[\"adamw\"]",
];

pub(crate) fn run(settings: &Settings) -> anyhow::Result<()> {
    fs::create_dir_all(&settings.out)?;
    let study = Study::new(settings)?;
    let scratch = Arm {
        name: "scratch".into(),
        backbone: None,
    };
    let objectives = [Objective::Mae, Objective::Dino];
    study.fine_tune(&scratch)?;
    for objective in objectives {
        study.fine_tune(&study.pretrain(objective, 0, 1.0)?)?;
    }
    study.sweep(&scratch)?;
    for seed in 1..settings.seeds {
        for objective in objectives {
            study.fine_tune(&study.pretrain(objective, seed, 1.0)?)?;
        }
    }
    study.probes(&scratch)?;
    for seed in 0..settings.seeds {
        for objective in objectives {
            study.probes(&study.pretrain(objective, seed, 1.0)?)?;
        }
    }
    for objective in objectives {
        study.sweep(&study.pretrain(objective, 0, 1.0)?)?;
    }
    study.in_site(&scratch)?;
    study.few_shots(&scratch)?;
    for objective in objectives {
        study.few_shots(&study.pretrain(objective, 0, 1.0)?)?;
    }
    for seed in 0..settings.seeds {
        for fraction in [0.1, 0.3] {
            for objective in objectives {
                study.fine_tune(&study.pretrain(objective, seed, fraction)?)?;
            }
        }
    }
    Ok(())
}

/// A start for fine-tuning.
struct Arm {
    name: String,
    backbone: Option<StateDict>,
}

struct Study<'a> {
    settings: &'a Settings,
    plan: Plan,
    pool: Labelled,
    internal: Labelled,
    external: Vec<Labelled>,
    device: Device,
}

impl<'a> Study<'a> {
    fn new(settings: &'a Settings) -> anyhow::Result<Self> {
        let mut all = vec![
            format!("mae.length={{ steps = {} }}", settings.mae_steps),
            format!("dino.length={{ steps = {} }}", settings.dino_steps),
        ];
        all.extend(SWEEP.map(str::to_owned));
        all.extend_from_slice(&settings.set);
        let plan = Plan::new(Config::resolve(Preset::Tiny, None, &all)?)?;
        fs::write(settings.out.join("config.toml"), plan.config().to_toml()?)?;
        let site = |name, seed, patients| one_scan_each(&plan, settings, name, seed, patients);
        let internal = split(site("langone", 2, LABELLED)?);
        let external = ["longisland", "rsna", "cq500"]
            .map(|name| Ok(site(name, 3, EXTERNAL)?.with_parts(|_, _| Part::Test)));
        Ok(Self {
            settings,
            pool: site("langone", 1, settings.pool)?,
            internal,
            external: external.into_iter().collect::<anyhow::Result<_>>()?,
            device: Device::flex(),
            plan,
        })
    }

    /// The training part reduced to `labelled` scans that hold both classes of every task.
    fn subset(&self, set: &Labelled, subset: u64) -> anyhow::Result<Labelled> {
        let train = set.part(Part::Train);
        for attempt in 0..100 {
            let mut order = train.clone();
            order.sort_by_key(|scan| stream(subset, "subset", &[attempt, *scan as u64]));
            order.truncate(self.settings.labelled);
            let chosen = set.clone().with_parts(|scan, row| match row.part {
                // Nothing reads these: a fourth part would say the same.
                Part::Train if !order.contains(&scan) => Part::Train,
                part => part,
            });
            let kept: Vec<usize> = (0..set.rows().len())
                .filter(|scan| set.rows()[*scan].part != Part::Train || order.contains(scan))
                .collect();
            let rows = kept
                .iter()
                .map(|scan| chosen.rows()[*scan].clone())
                .collect();
            let source = Arc::new(Subset::new(Arc::clone(set.source()), kept));
            let chosen = Labelled::new(source, set.tasks().to_vec(), rows)?;
            let whole =
                (0..set.tasks().len()).all(|task| chosen.classes(task, Part::Train).is_ok());
            if whole {
                return Ok(chosen);
            }
        }
        anyhow::bail!(
            "no subset of {} scans holds every class",
            self.settings.labelled
        )
    }

    fn pretrain(&self, objective: Objective, seed: u64, fraction: f64) -> anyhow::Result<Arm> {
        let name = match objective {
            Objective::Dino => "dino",
            Objective::Mae => "mae",
        };
        let percent = (fraction * 100.0).round();
        let name = format!("{name}-{percent}-s{seed}");
        let dir = self.settings.out.join("pretrain").join(&name);
        let weights = dir.join("backbone.safetensors");
        if !weights.exists() {
            let config = Config {
                seed,
                ..self.plan.config().clone()
            };
            let wanted = |scan: &usize| in_fraction(&self.pool.rows()[*scan].patient, fraction);
            let scans = (0..self.pool.rows().len()).filter(wanted).collect();
            let source = Arc::new(Subset::new(Arc::clone(self.pool.source()), scans));
            let started = Instant::now();
            let run = PretrainRun {
                plan: Plan::new(config)?,
                objective,
                resume: dir.join("last.safetensors").exists(),
                dir: dir.clone(),
                stop: Stop::new(),
            };
            let outcome = run.execute(source, &self.device)?;
            tracing::info!(
                name,
                loss = outcome.stretch.loss,
                seconds = started.elapsed().as_secs(),
                "pre-trained"
            );
        }
        Ok(Arm {
            name,
            backbone: Some(backbone_of(&dir)?),
        })
    }

    /// One trial, unless its table is there.
    #[expect(clippy::too_many_arguments, reason = "the coordinates of a trial")]
    fn trial(
        &self,
        arm: &Arm,
        label: &str,
        plan: &Plan,
        protocol: Protocol,
        set: &Labelled,
        external: &[Labelled],
        draw: &Draw,
        seed: u64,
    ) -> anyhow::Result<f64> {
        let path = self.path(&format!("{}.{label}.n{seed}.csv", arm.name));
        let note = path.with_extension("val");
        if let Some(auc) = fs::read_to_string(&note)
            .ok()
            .and_then(|text| text.parse().ok())
        {
            return Ok(auc);
        }
        let started = Instant::now();
        let backbone = arm.backbone.as_ref();
        let trial = Trial {
            plan,
            protocol,
            backbone,
            seed,
            device: &self.device,
        };
        let trained = trial.run(set, external, draw, &mut |_, _, _| {})?;
        let mut rows = trained.predictions;
        for row in &mut rows {
            row.model = Some(arm.name.as_str().into());
            row.protocol = Some(protocol.name().into());
            row.run = Some(label.into());
        }
        Predictions { rows }.write(&path)?;
        fs::write(&note, trained.fit.validation_auc.to_string())?;
        let (validation, seconds) = (trained.fit.validation_auc, started.elapsed().as_secs_f64());
        tracing::info!(arm = arm.name, label, seed, validation, seconds, "trial");
        Ok(validation)
    }

    fn path(&self, name: &str) -> PathBuf {
        let dir: &Path = &self.settings.out.join("trials");
        fs::create_dir_all(dir).ok();
        dir.join(name)
    }

    /// The paper's protocol at this size: low backbone rate, head rate a hundred times that.
    fn fine_tune(&self, arm: &Arm) -> anyhow::Result<()> {
        for subset in 0..self.settings.subsets {
            let set = self.subset(&self.internal, subset)?;
            let draw = Draw::balanced(&set, self.plan.config().finetune.draws)?;
            let (plan, way) = (&self.plan, Protocol::Finetune);
            self.trial(arm, "paper", plan, way, &set, &self.external, &draw, subset)?;
        }
        Ok(())
    }

    /// The best of the sweep by validation AUC, by label subset.
    fn sweep(&self, arm: &Arm) -> anyhow::Result<()> {
        for subset in 0..self.settings.subsets {
            let set = self.subset(&self.internal, subset)?;
            for (index, finetune) in grid(&self.plan).into_iter().enumerate() {
                let draw = Draw::balanced(&set, finetune.draws)?;
                let plan = Plan::new(Config {
                    finetune,
                    ..self.plan.config().clone()
                })?;
                let label = format!("sweep{index:02}");
                let way = Protocol::Finetune;
                self.trial(arm, &label, &plan, way, &set, &self.external, &draw, subset)?;
            }
        }
        Ok(())
    }

    fn probes(&self, arm: &Arm) -> anyhow::Result<()> {
        for subset in 0..self.settings.subsets {
            let set = self.subset(&self.internal, subset)?;
            let draw = Draw::balanced(&set, self.plan.config().finetune.draws)?;
            for protocol in [Protocol::LinearProbe, Protocol::AttentiveProbe] {
                let (plan, label) = (&self.plan, protocol.name());
                self.trial(
                    arm,
                    label,
                    plan,
                    protocol,
                    &set,
                    &self.external,
                    &draw,
                    subset,
                )?;
            }
        }
        Ok(())
    }

    /// Trained and tested at each external site: the reference that tells harder images from
    /// lost transfer.
    fn in_site(&self, arm: &Arm) -> anyhow::Result<()> {
        for external in &self.external {
            let name = external.rows()[0]
                .site
                .clone()
                .unwrap_or_else(|| "site".into());
            let own = split(one_scan_each(&self.plan, self.settings, &name, 4, OWN)?);
            for subset in 0..self.settings.subsets {
                let set = self.subset(&own, subset)?;
                let draw = Draw::balanced(&set, self.plan.config().finetune.draws)?;
                let label = format!("insite-{name}");
                let (plan, way) = (&self.plan, Protocol::Finetune);
                let tested = std::slice::from_ref(external);
                self.trial(arm, &label, plan, way, &set, tested, &draw, subset)?;
            }
        }
        Ok(())
    }

    /// One disease at a time, K scans of each class, full fine-tuning.
    fn few_shots(&self, arm: &Arm) -> anyhow::Result<()> {
        for task in ["SDH", "IPH"] {
            let Some(task) = self.internal.tasks().iter().find(|known| &***known == task) else {
                continue;
            };
            let set = self.internal.of_tasks(&[Arc::clone(task)])?;
            let classes = set.classes(0, Part::Train)?;
            for k in [8, 32] {
                for repeat in 0..3 {
                    let (few, _) = classes.few(1, repeat, k);
                    let label = format!("shots-{task}-{k}");
                    let (plan, way) = (&self.plan, Protocol::Finetune);
                    self.trial(arm, &label, plan, way, &set, &[], &Draw::Shots(few), repeat)?;
                }
            }
        }
        Ok(())
    }
}

/// Four ninths train, two validate, three test.
fn split(set: Labelled) -> Labelled {
    set.with_parts(|_, row| match stream(1, &row.patient, &[]) % 9 {
        0..4 => Part::Train,
        4..6 => Part::Validation,
        _ => Part::Test,
    })
}

/// Phantom patients of a site with one scan each: scans are then independent.
fn one_scan_each(
    plan: &Plan,
    settings: &Settings,
    name: &str,
    seed: u64,
    patients: u64,
) -> anyhow::Result<Labelled> {
    let site = Site::builtin(name).expect("a built-in site");
    let site = Site::new(site.profile().clone().with_prevalence_floor(settings.floor))?;
    let model = &plan.config().model;
    let phantoms = Phantoms::new(site, seed, patients, model.input, model.channels);
    let set = Labelled::phantoms(phantoms);
    let first = |scan: &usize| {
        let rows = set.rows();
        *scan == 0 || rows[*scan].patient != rows[scan - 1].patient
    };
    let scans: Vec<usize> = (0..set.rows().len()).filter(first).collect();
    let rows = scans.iter().map(|scan| set.rows()[*scan].clone()).collect();
    let source = Arc::new(Subset::new(Arc::clone(set.source()), scans));
    let set = Labelled::new(source, set.tasks().to_vec(), rows)?;
    Ok(set.reading(|source| Arc::new(Memory::new(source, 2048))))
}
