//! What the run wants done: messages to sites, folds, signatures.

use protocol::Timestamp;
use protocol::message;

use super::active::Active;
use super::coordinator::Coordinator;
use super::error::ServiceError;
use super::fold::{FoldJob, Folded};
use super::record::{RECORD_CONTEXT, record};
use crate::run::{Action, Dropped, Event, Phase, Signature};

impl Coordinator {
    /// Work to be done beside this; its result goes to [`folded`](Self::folded).
    pub fn poll_job(&mut self) -> Option<FoldJob> {
        self.jobs.pop_front()
    }

    /// A fold is done.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn folded(&mut self, now: Timestamp, folded: Folded) -> Result<(), ServiceError> {
        let Folded {
            run,
            checkpoint,
            delta_norm,
        } = folded;
        // A fold may end after its run was stopped and another one has begun.
        let expected = |active: &Active| {
            let state = active.driver.run();
            matches!(state.phase(), Phase::Aggregating { .. })
                && (&active.launch.run, state.round()) == (&run, checkpoint.round)
        };
        if !self.active.as_ref().is_some_and(expected) {
            return Ok(());
        }
        let event = Event::Aggregated {
            checkpoint,
            delta_norm: delta_norm.into(),
        };
        // The run is aggregating, so it is admitted.
        let _ = self.submit(now, event, &[])?;
        Ok(())
    }

    /// Asks for the fold under way once more, after it failed.
    pub fn fold_again(&mut self) {
        let Some(active) = self.active.as_ref().filter(|_| self.jobs.is_empty()) else {
            return;
        };
        let run = active.driver.run();
        if let Phase::Aggregating { updates, .. } = run.phase() {
            let (round, base) = (run.round(), run.checkpoint());
            let job = active.fold_job(&self.blobs, round, base, updates.clone());
            self.jobs.push_back(job);
        }
    }

    /// Does everything the run wants done.
    pub(super) fn act(&mut self, now: Timestamp) -> Result<(), ServiceError> {
        while let Some(action) = self.active.as_mut().and_then(|active| active.driver.poll()) {
            self.perform(now, action)?;
        }
        Ok(())
    }

    fn perform(&mut self, now: Timestamp, action: Action) -> Result<(), ServiceError> {
        let Some(active) = &self.active else {
            return Ok(());
        };
        match action {
            Action::Aggregate {
                round,
                base,
                updates,
            } => {
                tracing::info!(%round, updates = updates.len(), "aggregating");
                let job = active.fold_job(&self.blobs, round, base, updates);
                self.jobs.push_back(job);
            }
            Action::Evaluate { site, checkpoint } => {
                let task = active.task(checkpoint.round, checkpoint, message::Work::Evaluate);
                self.outgoing.push_back((site, task.into()));
            }
            Action::Finish { checkpoint } => {
                tracing::info!(round = %checkpoint.round, model = %checkpoint.model, "run finished");
                let finish = message::Finish {
                    run: active.launch.run.clone(),
                    round: checkpoint.round,
                    model: active.model(checkpoint),
                };
                for site in &self.connected {
                    self.outgoing
                        .push_back((site.clone(), finish.clone().into()));
                }
            }
            Action::Publish { checkpoint } => {
                tracing::info!(round = %checkpoint.round, model = %checkpoint.model, "publishing");
                let Phase::Publishing { record: round } = active.driver.run().phase() else {
                    return Ok(());
                };
                let bytes = record(&active.launch.run, active.plan.digest(), round);
                let signature = Signature::from(self.identity.sign(RECORD_CONTEXT, &bytes));
                // The run asked for it, so it is admitted; and its own actions are done inside.
                let _ = self.submit(now, Event::Published { signature }, &[])?;
                self.collect()?;
            }
            Action::Train { site, round, base } => {
                let task = active.task(round, base, message::Work::Train);
                self.outgoing.push_back((site, task.into()));
            }
            Action::Withdraw { site, reason } => {
                let reason = match reason {
                    Dropped::Deadline => message::Withdrawal::Deadline,
                    Dropped::Idle => message::Withdrawal::Idle,
                    // It said so itself, or is cut off.
                    Dropped::Failed { .. } | Dropped::Revoked => return Ok(()),
                };
                let run = active.launch.run.clone();
                let round = active.driver.run().round();
                self.outgoing
                    .push_back((site, message::Withdraw { run, round, reason }.into()));
            }
        }
        Ok(())
    }
}
