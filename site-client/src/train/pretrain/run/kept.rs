//! What a run keeps in its checkpoint, and whether another process may go on from it.

use std::path::Path;

use core_model::state::{NamedTensor, StateDict};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::train::data::Source;
use crate::train::pretrain::{Objective, Pretraining, Skipped};
use crate::train::record::{Checkpoint, insert_part};
use crate::train::{Config, TrainError};

/// The part of a checkpoint that is no tensor. Random streams and the loader's position are
/// functions of the seed and the step.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    kind: Kind,
    objective: Objective,
    config: Config,
    scans: usize,
    /// Unknown in checkpoints of before it was kept.
    #[serde(default)]
    source: Option<Identity>,
    step: u64,
    skipped: Skipped,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Pretraining,
}

/// Which scans a run trains on, as far as two halves of it must agree.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    /// What fixes the scans beside their ids.
    origin: Option<String>,
    /// BLAKE3 of the ids in their order, hexadecimal.
    ids: String,
}

impl Identity {
    fn of(source: &dyn Source) -> Self {
        let mut hasher = blake3::Hasher::new();
        for scan in 0..source.len() {
            let id = source.id(scan);
            hasher.update(&(id.len() as u64).to_le_bytes());
            hasher.update(id.as_bytes());
        }
        Self {
            origin: source.origin(),
            ids: hasher.finalize().to_hex().to_string(),
        }
    }
}

impl State {
    /// The state of a run before its first step.
    pub(super) fn new(objective: Objective, config: &Config, source: &dyn Source) -> Self {
        Self {
            kind: Kind::Pretraining,
            objective,
            config: config.clone(),
            scans: source.len(),
            source: Some(Identity::of(source)),
            step: 0,
            skipped: Skipped::default(),
        }
    }

    /// Everything the run goes on from after the last step of `training`.
    pub(super) fn checkpoint(&mut self, training: &Pretraining, skipped: &Skipped) -> Checkpoint {
        self.step = training.steps_done();
        self.skipped.clone_from(skipped);
        let mut tensors = StateDict::new();
        insert_part(&mut tensors, "model", training.parameters());
        insert_part(&mut tensors, "moments", training.moments());
        if let Some(teacher) = training.teacher() {
            insert_part(&mut tensors, "teacher", teacher);
        }
        if let Some(values) = training.center() {
            tensors.insert(
                "center".into(),
                NamedTensor {
                    shape: vec![values.len()],
                    values,
                },
            );
        }
        Checkpoint::new(self, tensors)
    }

    /// Brings `training` to where the checkpoint at `path` left it; returns the scans that could
    /// not be read until then.
    ///
    /// # Errors
    ///
    /// A checkpoint that is missing, broken or of another run: the first difference is named.
    pub(super) fn restore(
        &self,
        training: &mut Pretraining,
        path: &Path,
    ) -> Result<Skipped, TrainError> {
        let checkpoint = Checkpoint::load(path)?;
        let found: Self = checkpoint.state(path)?;
        let refused = |reason: String| TrainError::Checkpoint {
            path: path.to_owned(),
            reason,
        };
        if let Some(difference) = self.difference(&found)? {
            return Err(refused(difference));
        }
        if found.source.is_none() {
            tracing::warn!(
                scans = found.scans,
                "the checkpoint does not say which scans it was trained on; their number is the same"
            );
        }
        let named = |error: TrainError| refused(error.to_string());
        training.load(&checkpoint.part("model")).map_err(named)?;
        training
            .set_moments(checkpoint.part("moments"))
            .map_err(named)?;
        training.set_steps_done(found.step);
        if self.objective == Objective::Dino {
            training
                .set_teacher(&checkpoint.part("teacher"))
                .map_err(named)?;
            let center = checkpoint
                .tensors
                .get("center")
                .map(|center| center.values.as_slice());
            training
                .set_center(center.unwrap_or_default())
                .map_err(named)?;
        }
        Ok(found.skipped)
    }

    /// The first thing in which another run differs from this one.
    fn difference(&self, other: &Self) -> Result<Option<String>, TrainError> {
        let differs = |what: &str, expected: &str, found: &str| {
            Ok(Some(format!("{what}: expected {expected}, found {found}")))
        };
        if self.objective != other.objective {
            let [expected, found] = [self, other].map(|run| format!("{:?}", run.objective));
            return differs("objective", &expected, &found);
        }
        // The settings first: a fraction of the patients changes the scans too.
        let [expected, found] = [&self.config, &other.config].map(|config| table(&masked(config)));
        if let Some([expected, found]) = field(&expected?, &found?, "") {
            return differs("configuration", &expected, &found);
        }
        let [ours, theirs] = [self, other].map(|run| run.source.as_ref());
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && ours.origin != theirs.origin
        {
            let [expected, found] = [ours, theirs].map(|source| source.origin.as_deref());
            let unknown = "a source without a name";
            return differs(
                "training scans",
                expected.unwrap_or(unknown),
                found.unwrap_or(unknown),
            );
        }
        if self.scans != other.scans {
            let [expected, found] = [self, other].map(|run| run.scans.to_string());
            return differs("training scans", &expected, &found);
        }
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && ours.ids != theirs.ids
        {
            return differs(
                "training scans",
                &format!("the ids of digest {}", ours.ids),
                &format!("as many others, of digest {}", theirs.ids),
            );
        }
        Ok(None)
    }
}

/// The configuration without what may change between two halves of a run.
fn masked(config: &Config) -> Config {
    let mut config = config.clone();
    config.device.clear();
    config.data.workers = 1;
    config.data.queue = 1;
    config.data.memory_mib = 0;
    config.pretrain.checkpoint_every = 1;
    config.pretrain.log_every = 1;
    config.pretrain.devices = 1;
    config
}

fn table(config: &Config) -> Result<Table, TrainError> {
    let unreadable = |error: toml::de::Error| TrainError::config(error.to_string());
    config.to_toml()?.parse().map_err(unreadable)
}

/// The first field in which two configurations differ, as `section.field = value` of each.
fn field(expected: &Table, found: &Table, section: &str) -> Option<[String; 2]> {
    expected
        .iter()
        .find_map(|(key, value)| match (value, found.get(key)?) {
            (Value::Table(value), Value::Table(other)) if section.is_empty() => {
                field(value, other, &format!("{key}."))
            }
            (value, other) if value != other => {
                Some([value, other].map(|value| format!("{section}{key} = {value}")))
            }
            _ => None,
        })
}
