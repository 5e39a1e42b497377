//! Rounds without a network: the sites' training and the coordinator's aggregation, called in the
//! order of a real run.
//!
//! The steps are those of `fmct-site run` and `fmct-coordinator serve`: [`start`],
//! [`Trainer::train`], [`finish`], [`inspect`], [`aggregate`]. Nothing is signed, journalled or sent,
//! so this says what federation computes, and nothing about faults.

use std::fs;
use std::io::{self, Cursor};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use coordinator::aggregate::{
    AggregateError, Contribution, Defect, Inputs, aggregate, inspect, moments_bytes,
};
use protocol::layout::{Layout, Part};
use protocol::params::{Params, Schema, SchemaError};
use protocol::plan::{Config, Plan};
use protocol::{Round, RunId, SiteId};
use site_client::federation::{
    Carried, FederationError, TrainError, TrainJob, Trainer, finish, start,
};
use thiserror::Error;

/// A site of a rehearsal.
pub struct Member {
    /// The site, which its random draws follow.
    pub site: SiteId,
    /// What trains there.
    pub trainer: Box<dyn Trainer>,
}

/// A run in one process.
pub struct Rehearsal {
    run: RunId,
    plan: Plan,
    schema: Schema,
    layout: Layout,
    model: Vec<u8>,
    moments: Vec<u8>,
    round: Round,
    members: Vec<(Member, Carried)>,
    folder: PathBuf,
}

/// What one round was.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundFacts {
    /// Bytes of the model that every site fetches.
    pub down: u64,
    /// Bytes of each site's update, in the order of the members.
    pub up: Vec<u64>,
    /// Norm of each site's change of weights.
    pub norms: Vec<f64>,
}

/// Why a rehearsal stopped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RehearsalError {
    /// Folding failed.
    #[error(transparent)]
    Aggregate(#[from] AggregateError),
    /// The site's side of a round failed.
    #[error(transparent)]
    Federation(#[from] FederationError),
    /// A folder or file cannot be used.
    #[error("rehearsal: cannot use {path}")]
    Io {
        /// Folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The coordinator would refuse an update.
    #[error("rehearsal: {site}")]
    Refused {
        /// Whose update.
        site: SiteId,
        /// Why.
        source: Defect,
    },
    /// Tensors do not fit the plan.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A site cannot train.
    #[error("rehearsal: {site}")]
    Train {
        /// The site.
        site: SiteId,
        /// Why.
        source: TrainError,
    },
}

impl Rehearsal {
    /// A run of `plan` from the first checkpoint `first`; `folder` holds what sites keep.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn new(
        plan: Plan,
        first: &Params,
        members: Vec<Member>,
        folder: &Path,
    ) -> Result<Self, RehearsalError> {
        let schema = first.schema().clone();
        let tensors = schema.tensors().iter();
        let tensors = tensors.map(|tensor| (tensor.name(), tensor.elements()));
        let layout = Layout::new(tensors, plan.config());
        let model = first_model(&layout, first);
        for member in 0..members.len() {
            for name in [KEPT, KEEP] {
                let path = folder.join(member.to_string()).join(name);
                fs::create_dir_all(&path).map_err(|source| RehearsalError::Io { path, source })?;
            }
        }
        Ok(Self {
            run: plan.config().name.parse().unwrap_or_else(|_| default_run()),
            plan,
            schema,
            layout,
            model,
            moments: Vec::new(),
            round: Round(0),
            members: members
                .into_iter()
                .map(|member| (member, Carried::default()))
                .collect(),
            folder: folder.to_owned(),
        })
    }

    /// One round: every member trains, then the updates are folded.
    ///
    /// # Errors
    /// If a member cannot train, its update would be refused, or folding fails.
    pub fn round(&mut self) -> Result<RoundFacts, RehearsalError> {
        let config = self.plan.config();
        let first_step = u64::from(self.round.0) * config.steps_per_round();
        self.round = self.round.next();
        let mut staged = Vec::new();
        for (index, (member, carried)) in self.members.iter_mut().enumerate() {
            let folder = self.folder.join(index.to_string());
            let (kept, keep) = (folder.join(KEPT), folder.join(KEEP));
            let mut model = Cursor::new(&self.model);
            let started = start(config, &self.schema, &self.layout, &mut model, carried)?;
            let job = TrainJob {
                run: &self.run,
                site: &member.site,
                plan: &self.plan,
                round: self.round,
                first_step,
                start: &started,
                kept: &kept,
                keep: &keep,
            };
            let trained = member
                .trainer
                .train(&job, &mut |_, _| ControlFlow::Continue(()));
            let trained = trained.map_err(|source| RehearsalError::Train {
                site: member.site.clone(),
                source,
            })?;
            let seed = u64::from(self.round.0) << 32 | index as u64;
            let layout = &self.layout;
            let mut update = Vec::new();
            let finished = finish(
                config,
                layout,
                &started,
                &trained,
                carried,
                seed,
                &mut update,
            )?;
            let found = inspect(config, layout, &update)
                .map_err(AggregateError::from)?
                .map_err(|source| RehearsalError::Refused {
                    site: member.site.clone(),
                    source,
                })?;
            *carried = finished.carried;
            replace(&keep, &kept).map_err(|source| RehearsalError::Io { path: keep, source })?;
            staged.push((update, trained.examples, trained.steps, found));
        }
        let contributions: Vec<Contribution<'_>> = staged
            .iter()
            .map(|(update, examples, steps, norm)| Contribution {
                update,
                examples: *examples,
                steps: *steps,
                norm: *norm,
            })
            .collect();
        let inputs = Inputs {
            config,
            layout: &self.layout,
            first_step,
            model: &self.model,
            moments: (!self.moments.is_empty()).then_some(&self.moments as _),
            contributions: &contributions,
        };
        let mut model = vec![0; self.model.len()];
        let mut moments = vec![0; moments_bytes(config, &self.layout) as usize];
        aggregate(&inputs, &mut model, &mut moments)?;
        (self.model, self.moments) = (model, moments);
        Ok(RoundFacts {
            down: self.layout.model_bytes(),
            up: staged.iter().map(|row| row.0.len() as u64).collect(),
            norms: staged.iter().map(|row| row.3).collect(),
        })
    }

    /// The global model: every tensor that the plan trains, averages or leaves at the sites.
    ///
    /// # Errors
    /// Never for a model that was folded: its layout is the schema's.
    pub fn model(&self) -> Result<Params, RehearsalError> {
        self.tensors(|part| part)
    }

    /// DINO's global teacher, where the plan keeps one at the coordinator; else the global student.
    ///
    /// # Errors
    /// As for [`model`](Self::model).
    pub fn teacher(&self) -> Result<Params, RehearsalError> {
        let published = self.plan.config().publishes_teacher();
        self.tensors(|part| match part {
            Part::Weights if published => Part::Teacher,
            part => part,
        })
    }

    /// What each site carries to its next round.
    pub fn carried(&self) -> impl Iterator<Item = &Carried> {
        self.members.iter().map(|(_, carried)| carried)
    }

    /// What the plan says.
    pub fn config(&self) -> &Config {
        self.plan.config()
    }

    fn tensors(&self, source: impl Fn(Part) -> Part) -> Result<Params, RehearsalError> {
        let mut values = Vec::with_capacity(self.schema.elements() as usize);
        for slot in self.layout.slots() {
            let section = self.layout.model_section(source(slot.part));
            let offset = section.map_or(0, |section| section.offset) as usize;
            let range = slot.elements.start as usize * 4..slot.elements.end as usize * 4;
            let (bytes, _) = self.model[offset..][range].as_chunks();
            values.extend(bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        }
        Ok(Params::new(self.schema.clone(), values)?)
    }
}

/// The model's bytes as the coordinator lays the first checkpoint out.
fn first_model(layout: &Layout, first: &Params) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(layout.model_bytes() as usize);
    for section in layout.model() {
        let source = match section.part {
            Part::Teacher => Part::Weights,
            part => part,
        };
        let slots = layout.slots().iter().zip(first.iter());
        for (_, (_, values)) in slots.filter(|(slot, _)| slot.part == source) {
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        // SCAFFOLD's control starts at zero.
        bytes.resize(section.end() as usize, 0);
    }
    bytes
}

/// What was to be kept is kept, in place of what was.
fn replace(keep: &Path, kept: &Path) -> io::Result<()> {
    fs::remove_dir_all(kept)?;
    fs::rename(keep, kept)?;
    fs::create_dir_all(keep)
}

fn default_run() -> RunId {
    "rehearsal"
        .parse()
        .expect("lower-case letters are a run's name")
}

const KEPT: &str = "kept";
const KEEP: &str = "keep";
