//! Steps on the batches of a feed, and the scans that could not be read on the way.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Feed, Pretraining, StepReport};
use crate::train::TrainError;
use crate::train::data::Loader;

/// Scans that could not be read, by index, with the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Skipped(BTreeMap<usize, String>);

/// How a stretch of steps went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stretch {
    /// Scans trained on.
    pub scans: u64,
    /// Time the device waited for data.
    pub waited: Duration,
    /// Time of it all.
    pub elapsed: Duration,
    /// Whether it ended early because the observer asked for it.
    pub stopped: bool,
    /// Loss of the last step.
    pub loss: f64,
}

impl Pretraining {
    /// Trains `steps` steps from where it stands, on the batches of `feed`.
    ///
    /// `observe` sees every step and may end the stretch; what is trained does not depend on how
    /// the steps are cut into stretches.
    ///
    /// # Errors
    ///
    /// A loss or a gradient that is no number, with the scans of its batch; more than 1 % of scans
    /// unreadable.
    pub fn train(
        &mut self,
        feed: &Arc<Feed>,
        steps: u64,
        skipped: &mut Skipped,
        observe: &mut dyn FnMut(&Self, &StepReport, &Skipped) -> ControlFlow<()>,
    ) -> Result<Stretch, TrainError> {
        let started = Instant::now();
        let data = &self.plan().config().data;
        let (workers, queue) = (data.workers, data.queue);
        let passes = self.passes();
        let (first, end) = (
            self.steps_done() * passes,
            (self.steps_done() + steps) * passes,
        );
        let prepare = Arc::clone(feed);
        let mut loader = Loader::start(workers, queue, first, end, move |n| prepare.prepare(n));
        let mut stretch = Stretch::default();
        for _ in 0..steps {
            let mut scans = Vec::new();
            let batches = (0..passes).map_while(|_| loader.next()).map(|batch| {
                skipped.add(&batch.skipped, feed)?;
                scans.extend_from_slice(&batch.scans);
                Ok(batch)
            });
            let stepped = self.step(batches);
            let id = |scan: &usize| feed.source().id(*scan);
            let report =
                stepped.map_err(|error| error.in_batch(|| scans.iter().map(id).collect()))?;
            stretch.scans += scans.len() as u64;
            stretch.loss = report.loss;
            if observe(self, &report, skipped).is_break() {
                stretch.stopped = true;
                break;
            }
        }
        Ok(Stretch {
            waited: loader.waited(),
            elapsed: started.elapsed(),
            ..stretch
        })
    }
}

impl Skipped {
    /// Scans counted so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether every scan could be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts and names scans; more than 1 % is an error.
    fn add(&mut self, scans: &[(usize, String)], feed: &Feed) -> Result<(), TrainError> {
        for (scan, reason) in scans {
            if self.0.insert(*scan, reason.clone()).is_none() {
                let id = feed.source().id(*scan);
                tracing::warn!(
                    scan = id,
                    reason,
                    "a scan cannot be read; another stands in"
                );
            }
        }
        let total = feed.source().len();
        if self.0.len() * 100 > total {
            let scans = self.0.keys().map(|scan| feed.source().id(*scan)).collect();
            return Err(TrainError::Unreadable { scans, total });
        }
        Ok(())
    }
}
