//! One task done, from the model's file to a durable result. Blocking.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use protocol::layout::Layout;
use protocol::message::{Content, Doing, Manifest, UpdateFacts, Work};
use protocol::plan::Plan;
use protocol::{BlobRef, Digest, RunId, Schema, SiteId};
use thiserror::Error;
use transport::{BlobStore, StoreError};

use super::error::FederationError;
use super::round::{finish, scored, start};
use super::session::{Ready, Task};
use super::store::SiteStore;
use super::trainer::{EvaluateJob, TrainError, TrainJob, Trainer};

/// What a task needs.
#[derive(Clone)]
pub struct Workplace {
    /// The run.
    pub run: RunId,
    /// This site.
    pub site: SiteId,
    /// What to do.
    pub plan: Arc<Plan>,
    /// Names and shapes of the model.
    pub schema: Arc<Schema>,
    /// Where each number lies.
    pub layout: Arc<Layout>,
    /// What the site keeps between rounds.
    pub store: SiteStore,
    /// Where models are found and updates are put.
    pub blobs: BlobStore,
    /// Who trains and evaluates.
    pub trainer: Arc<Mutex<Box<dyn Trainer>>>,
}

/// Why a task gave no result.
#[derive(Debug, Error)]
pub enum WorkError {
    /// The model is missing or damaged at this site. What there was of it is gone, so that it is
    /// fetched again.
    #[error("model {0}: missing or damaged at this site")]
    ModelLost(Digest),
    /// It was canceled, or the trainer or another file failed.
    #[error(transparent)]
    Train(#[from] TrainError),
}

impl Workplace {
    /// What the site says of a finished update.
    #[must_use]
    pub fn manifest(&self, task: &Task, ready: &Ready) -> Manifest {
        Manifest {
            blob: BlobRef {
                digest: ready.blob,
                len: ready.bytes,
            },
            run: task.run.clone(),
            round: task.round,
            schema: self.schema.digest(),
            content: Content::Update(UpdateFacts {
                base: task.model,
                examples: ready.examples,
                steps: ready.steps,
                encoding: self.plan.config().encoding.update,
            }),
        }
    }

    /// Does a task; its result is durable at the site when this returns. `canceled` stops it;
    /// `progress` is told where it is. Of the model every byte is verified as it is read.
    ///
    /// # Errors
    /// If it was canceled, the model is missing or damaged, or the trainer or the disk failed.
    pub fn work(
        &self,
        task: &Task,
        canceled: &AtomicBool,
        progress: impl Fn(Doing, u64, u64),
    ) -> Result<Ready, WorkError> {
        let failed = |error: FederationError| {
            if error.is_model_lost() && self.blobs.discard(task.model).is_ok() {
                tracing::warn!(%error, round = %task.round, "model lost: it is fetched again");
                return WorkError::ModelLost(task.model);
            }
            tracing::error!(%error, round = %task.round, "task failed");
            WorkError::Train(TrainError::Failed(error.told()))
        };
        let model = self.blobs.blob(task.model);
        let mut model = model
            .map(|blob| blob.reader())
            .map_err(|error| failed(FederationError::ModelRead(io::Error::other(error))))?;
        let doing = match task.work {
            Work::Train => Doing::Training,
            Work::Evaluate => Doing::Evaluating,
        };
        let mut flow = |done, total| {
            progress(doing, done, total);
            if canceled.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let config = self.plan.config();
        let carried = self.store.carried().map_err(failed)?;
        let (schema, layout) = (&*self.schema, &*self.layout);
        if task.work == Work::Evaluate {
            let params = scored(config, schema, layout, &mut model, &carried).map_err(failed)?;
            drop(model);
            let job = EvaluateJob {
                run: &self.run,
                site: &self.site,
                plan: &self.plan,
                round: task.round,
                params: &params,
            };
            let mut trainer = self.trainer.lock().unwrap_or_else(PoisonError::into_inner);
            let report = trainer.evaluate(&job, &mut flow)?;
            let (blob, bytes) = self.store.keep_report(&report).map_err(failed)?;
            return Ok(Ready {
                blob,
                bytes,
                examples: 0,
                steps: 0,
                norm: None,
            });
        }
        let started = start(config, schema, layout, &mut model, &carried).map_err(failed)?;
        drop(model);
        // Until the end: what the trainer keeps has one place, which the next task empties.
        let mut trainer = self.trainer.lock().unwrap_or_else(PoisonError::into_inner);
        let (kept, keep) = (
            self.store.kept().map_err(failed)?,
            self.store.keep().map_err(failed)?,
        );
        let job = TrainJob {
            run: &self.run,
            site: &self.site,
            plan: &self.plan,
            round: task.round,
            first_step: task.first_step,
            start: &started,
            kept: &kept,
            keep: &keep,
        };
        let trained = trainer.train(&job, &mut flow)?;
        let not_written = |error: StoreError| {
            tracing::error!(%error, round = %task.round, "update not written");
            let told = "update not written: the site's store failed";
            WorkError::Train(TrainError::Failed(told.to_owned()))
        };
        let mut update = self.blobs.writer().map_err(not_written)?;
        let finished = finish(
            config,
            layout,
            &started,
            &trained,
            &carried,
            self.seed(task),
            &mut update,
        )
        .map_err(failed)?;
        let blob = update.finish().map_err(not_written)?;
        self.store
            .keep_carried(blob.digest, &finished.carried)
            .map_err(failed)?;
        Ok(Ready {
            blob: blob.digest,
            bytes: blob.len,
            examples: trained.examples,
            steps: trained.steps,
            norm: Some(finished.norm),
        })
    }

    /// Rounding differs between runs, rounds and sites, and not between tries.
    fn seed(&self, task: &Task) -> u64 {
        let text = format!("{} {} {}", self.run, task.round, self.site);
        let digest = Digest::derived(SEED_CONTEXT, text.as_bytes());
        digest
            .as_bytes()
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

const SEED_CONTEXT: &str = "fmct 2026-11 stochastic rounding v1";

#[cfg(test)]
mod tests;
