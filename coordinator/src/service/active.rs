//! The run that is served, with all that is derived from its plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::layout::Layout;
use protocol::message::{self, Reason};
use protocol::plan::{Config, Plan};
use protocol::{BlobRef, Digest, Round, SiteId, Timestamp};

use super::error::ServiceError;
use super::fold::FoldJob;
use super::initial::layout;
use crate::blobs::Blobs;
use crate::driver::Driver;
use crate::journal::{Journal, JournalError, Launch};
use crate::run::{Checkpoint, Event, Update};

/// The run that is served.
pub(super) struct Active {
    pub(super) launch: Launch,
    pub(super) plan: Plan,
    pub(super) config: Arc<Config>,
    pub(super) schema: Digest,
    pub(super) layout: Arc<Layout>,
    pub(super) driver: Driver,
    /// Why sites take no part, as they said since this process started.
    pub(super) declined: BTreeMap<SiteId, Reason>,
}

impl Active {
    /// Rebuilds a run from the journal.
    pub(super) fn load(journal: &Journal, launch: Launch) -> Result<Self, ServiceError> {
        let plan = Plan::launched(&launch.plan)?;
        let header = protocol::params::Header::parse(&launch.schema)?;
        let layout = Arc::new(layout(header.schema(), &plan));
        let config = Arc::new(plan.config().clone());
        let events: Vec<(Timestamp, Event)> = journal
            .entries(&launch.run)?
            .iter()
            .map(|entry| Ok((entry.at, entry.event(&launch.run)?)))
            .collect::<Result<_, JournalError>>()?;
        let driver =
            Driver::replay(plan.config().clone(), events).ok_or_else(|| JournalError::Broken {
                run: launch.run.clone(),
                index: 0,
            })?;
        let schema = header.schema().digest();
        Ok(Self {
            launch,
            plan,
            config,
            schema,
            layout,
            driver,
            declined: BTreeMap::new(),
        })
    }

    pub(super) fn fold_job(
        &self,
        blobs: &Blobs,
        round: Round,
        base: Checkpoint,
        updates: BTreeMap<SiteId, Update>,
    ) -> FoldJob {
        FoldJob {
            run: self.launch.run.clone(),
            config: Arc::clone(&self.config),
            layout: Arc::clone(&self.layout),
            blobs: blobs.clone(),
            round,
            base,
            updates,
        }
    }

    pub(super) fn task(
        &self,
        round: Round,
        base: Checkpoint,
        work: message::Work,
    ) -> message::Task {
        let deadline = self.driver.run().poll_timeout().unwrap_or_default();
        message::Task {
            run: self.launch.run.clone(),
            round,
            plan: self.plan.digest(),
            work,
            model: self.model(base),
            step: base.step,
            deadline,
        }
    }

    pub(super) fn model(&self, checkpoint: Checkpoint) -> BlobRef {
        BlobRef {
            digest: checkpoint.model,
            len: self.layout.model_bytes(),
        }
    }
}
