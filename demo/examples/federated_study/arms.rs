//! The arms: who pre-trains how. Every arm that does takes the same number of optimizer steps on the
//! same number of scans. A federated DINO step normalizes its head over a site's scans, a quarter of
//! what a pooled step has: that is part of the comparison.

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::ensure;
use burn::tensor::Device;
use core_model::state::{NamedTensor, StateDict};
use fmct_demo::{Member, Rehearsal, schedules};
use protocol::plan::Plan as Federated;
use site_client::federation::{CENTER, LocalTraining, first_checkpoint};
use site_client::params::to_state;
use site_client::train::data::Labelled;
use site_client::train::{Config, Objective, Plan};
use site_client::weights::{Section, backbone};

use crate::patients::{hospitals, pool, pooled};

/// One arm.
#[derive(Clone, Debug)]
pub(crate) struct Arm {
    /// Name in files and tables.
    pub(crate) name: String,
    /// What pre-training optimizes, and how; none is training from scratch.
    pub(crate) pretraining: Option<(Objective, Way)>,
}

/// How an arm pre-trains.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// All scans in one place.
    Pooled,
    /// One hospital alone.
    Alone(usize),
    /// The four hospitals together, with one thing changed from the defaults.
    Federated(Change),
}

/// What a federated arm changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing: moments kept, float32; DINO with server-ema teacher and averaged center.
    Nothing,
    /// Moments start anew in each round.
    ResetMoments,
    /// Updates in another encoding.
    Encoding(&'static str),
    /// DINO: another teacher.
    Teacher(&'static str),
    /// DINO: each hospital keeps its own center.
    OwnCenter,
}

/// What an arm left.
pub(crate) struct Pretrained {
    /// Backbones by network: DINO leaves a teacher and a student.
    pub(crate) backbones: Vec<(&'static str, StateDict)>,
    pub(crate) down: u64,
    pub(crate) up: u64,
    pub(crate) scans: u64,
    pub(crate) seconds: f64,
}

/// Rounds of the federated arms.
pub(crate) const ROUNDS: u32 = 10;

impl Arm {
    /// Whether it stands beside tuned scratch: each arm that is tuned costs as much again.
    pub(crate) fn is_tuned(&self) -> bool {
        use Way::{Federated, Pooled};
        matches!(
            self.pretraining,
            None | Some((_, Pooled | Federated(Change::Nothing)))
        )
    }

    /// Every arm, in the order they are computed.
    pub(crate) fn all() -> Vec<Self> {
        let mut arms = vec![Self {
            name: "scratch".to_owned(),
            pretraining: None,
        }];
        for (objective, short) in [(Objective::Dino, "dino"), (Objective::Mae, "mae")] {
            let mut add = |name: String, way| {
                arms.push(Self {
                    name: format!("{short}-{name}"),
                    pretraining: Some((objective, way)),
                });
            };
            add("federated".to_owned(), Way::Federated(Change::Nothing));
            add("pooled".to_owned(), Way::Pooled);
            for (hospital, name) in hospitals().iter().enumerate() {
                add(format!("alone-{name}"), Way::Alone(hospital));
            }
            let mut change = |name: &str, change| {
                add(format!("federated-{name}"), Way::Federated(change));
            };
            match objective {
                Objective::Dino => {
                    change("local-resync", Change::Teacher("local-resync"));
                    change("local-teacher", Change::Teacher("local"));
                    change("own-center", Change::OwnCenter);
                }
                Objective::Mae => {
                    change("reset", Change::ResetMoments);
                    change("bf16", Change::Encoding("bf16"));
                    change("int8", Change::Encoding("int8"));
                }
            }
        }
        arms
    }
}

/// Pre-trains as `way` says.
pub(crate) fn pretrain(
    plan: &Plan,
    seed: u64,
    objective: Objective,
    way: Way,
    folder: &Path,
) -> anyhow::Result<Pretrained> {
    let cohorts: Vec<(&str, Labelled)> = match way {
        Way::Pooled => vec![("pooled", pooled(plan, seed)?)],
        Way::Alone(hospital) => vec![(hospitals()[hospital], pool(plan, seed, hospital)?)],
        Way::Federated(_) => hospitals()
            .into_iter()
            .enumerate()
            .map(|(hospital, name)| Ok((name, pool(plan, seed, hospital)?)))
            .collect::<anyhow::Result<_>>()?,
    };
    let names: Vec<&str> = cohorts.iter().map(|(name, _)| *name).collect();
    let text = text(plan.config(), seed, objective, way, &names)?;
    let federated = Federated::parse(text.as_bytes())?;
    let first = first_checkpoint(federated.config(), None, &Device::flex())?;
    let members = cohorts
        .into_iter()
        .map(|(name, cohort)| {
            Ok(Member {
                site: name.parse()?,
                trainer: Box::new(LocalTraining::new(cohort, Device::flex())),
            })
        })
        .collect::<anyhow::Result<_>>()?;
    let started = Instant::now();
    let mut rehearsal = Rehearsal::new(federated, &first, members, folder)?;
    let (mut down, mut up) = (0, 0);
    for _ in 0..rehearsal.config().rounds {
        let facts = rehearsal.round()?;
        (down, up) = (facts.down, facts.up[0]);
    }
    let config = rehearsal.config();
    let batch = config
        .local
        .as_ref()
        .map_or(0, |local| u64::from(local.batch_size));
    let scans = config.total_steps() * batch * names.len() as u64;
    let seconds = started.elapsed().as_secs_f64();
    let student = rehearsal.model()?;
    let backbones = match objective {
        Objective::Mae => vec![("", transformer(to_state(&student)))],
        Objective::Dino => {
            let mut backbones = vec![("student", transformer(to_state(&student)))];
            if let Some(teacher) = teacher(&rehearsal)? {
                backbones.insert(0, ("teacher", transformer(teacher)));
            }
            backbones
        }
    };
    Ok(Pretrained {
        backbones,
        down,
        up,
        scans,
        seconds,
    })
}

/// The teacher that somebody holds: the coordinator, or the only site.
fn teacher(rehearsal: &Rehearsal) -> anyhow::Result<Option<StateDict>> {
    if rehearsal.config().publishes_teacher() {
        return Ok(Some(to_state(&rehearsal.teacher()?)));
    }
    let model = rehearsal.model()?;
    let mut carried = rehearsal.carried();
    let (Some(only), None) = (carried.next(), carried.next()) else {
        return Ok(None);
    };
    let Some(mut rest) = only.teacher.as_deref() else {
        return Ok(None);
    };
    let mut state = StateDict::new();
    for (spec, values) in model.iter() {
        if rehearsal.config().is_statistic(spec.name()) {
            continue;
        }
        let (head, tail) = rest.split_at(values.len());
        rest = tail;
        let shape = spec.shape().iter().map(|axis| *axis as usize).collect();
        let values = head.to_vec();
        state.insert(spec.name().to_owned(), NamedTensor { shape, values });
    }
    Ok(Some(state))
}

fn transformer(state: StateDict) -> StateDict {
    backbone(state, Section::default()).tensors
}

/// The plan of an arm. One hospital, or one pool, is a federation of one: one round of all steps.
fn text(
    config: &Config,
    seed: u64,
    objective: Objective,
    way: Way,
    sites: &[&str],
) -> anyhow::Result<String> {
    let change = match way {
        Way::Federated(change) => change,
        Way::Alone(_) | Way::Pooled => Change::Teacher("local"),
    };
    let (name, batch, length) = match objective {
        Objective::Dino => ("dino", config.dino.global_batch, config.dino.length),
        Objective::Mae => ("mae", config.mae.global_batch, config.mae.length),
    };
    let site_client::train::Span::Steps(total) = length else {
        anyhow::bail!("{name}.length: expected steps, found {length:?}");
    };
    let rounds = match way {
        Way::Federated(_) => ROUNDS,
        Way::Alone(_) | Way::Pooled => 1,
    };
    ensure!(
        total % u64::from(rounds) == 0 && batch % sites.len() == 0,
        "{name}: {total} steps of {batch} scans, expected multiples of {rounds} and {}",
        sites.len()
    );
    let (steps, share) = (total / u64::from(rounds), batch / sites.len());
    let moments = match change {
        Change::ResetMoments => "reset",
        _ => "keep",
    };
    let mut text = String::new();
    writeln!(
        text,
        "name = \"study\"\nobjective = \"{name}\"\nmodel = \"vit\"\npreset = \"tiny\""
    )?;
    writeln!(
        text,
        "initial = \"{}\"\nrounds = {rounds}\nseed = {seed}",
        "0".repeat(64)
    )?;
    if objective == Objective::Dino {
        let list = match change {
            Change::OwnCenter => "local_parameters",
            _ => "statistics",
        };
        writeln!(text, "{list} = [\"{CENTER}\"]")?;
    }
    writeln!(text, "[cohort]\nrule = \"full\"\nsites = {sites:?}")?;
    writeln!(text, "[local]\nsteps = {steps}\nbatch_size = {share}")?;
    writeln!(text, "optimizer_state = \"{moments}\"")?;
    if let Change::Encoding(encoding) = change {
        writeln!(text, "[encoding]\nupdate = \"{encoding}\"")?;
    }
    let teacher = match change {
        Change::Teacher(teacher) => teacher,
        _ => "server-ema",
    };
    text += &schedules(config, objective, (total, batch), teacher);
    Ok(text)
}
