//! Which runs of a journal made the model that another one starts from.

use std::collections::BTreeSet;

use protocol::plan::Objective;
use protocol::{Digest, RunId, SiteId};

use super::active::Active;
use super::error::ServiceError;
use crate::journal::Journal;
use crate::run::RoundRecord;

/// Every run of a journal.
///
/// A model is known by the bytes the coordinator lays it out in. What is exported from one run and
/// launched in another with the same tensors trained, averaged and local has the same bytes; with
/// others (a teacher beside it, a new head on a pre-trained backbone) it has not, and its maker is
/// unknown here.
pub(super) struct Lineage {
    runs: Vec<Active>,
}

impl Lineage {
    pub(super) fn read(journal: &Journal) -> Result<Self, ServiceError> {
        let launches = journal.launches()?.into_iter();
        let runs = launches
            .map(|launch| Active::load(journal, launch))
            .collect::<Result<_, _>>()?;
        Ok(Self { runs })
    }

    /// Every run, in the order of launch.
    pub(super) fn runs(&self) -> &[Active] {
        &self.runs
    }

    pub(super) fn run(&self, name: &RunId) -> Result<&Active, ServiceError> {
        let mut runs = self.runs.iter();
        runs.find(|active| active.launch.run == *name)
            .ok_or_else(|| ServiceError::NoRun { run: name.clone() })
    }

    /// Sites whose patients trained a run's models: its own, and those of the runs whose model it
    /// goes on from. `None` for an evaluation of a model that no run here made.
    pub(super) fn trained_at(&self, active: &Active) -> Option<BTreeSet<SiteId>> {
        let (mut sites, mut seen, mut known) = (BTreeSet::new(), BTreeSet::new(), false);
        let mut open = vec![active];
        while let Some(active) = open.pop() {
            if !seen.insert(&active.launch.run) {
                continue;
            }
            if active.config.objective != Objective::Evaluate {
                known = true;
                sites.extend(active.config.cohort.sites.iter().cloned());
            }
            let start = start(active);
            open.extend(self.runs.iter().filter(|other| makes(other, start)));
        }
        known.then_some(sites)
    }

    /// Runs that only evaluated this model.
    pub(super) fn evaluations(&self, model: Digest) -> impl Iterator<Item = &Active> {
        let runs = self.runs.iter();
        runs.filter(|active| active.config.objective == Objective::Evaluate)
            .filter(move |active| start(active) == model)
    }
}

/// The model a run starts from.
fn start(active: &Active) -> Digest {
    let run = active.driver.run();
    let base = run.history().first().map(|record| record.base);
    base.unwrap_or_else(|| run.checkpoint()).model
}

/// Whether a round of this run made the model.
fn makes(active: &Active, model: Digest) -> bool {
    let trained = |record: &&RoundRecord| !record.updates.is_empty();
    let mut rounds = active.driver.run().history().iter().filter(trained);
    rounds.any(|record| record.checkpoint.model == model)
}
