//! What the run wants done: messages to sites, folds, signatures, and the end of what nobody needs.

use std::collections::BTreeSet;

use protocol::message;
use protocol::{Digest, Timestamp};

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

    /// Blobs to keep, once after each round where the options let any go; all others may go.
    pub fn poll_needed(&mut self) -> Option<BTreeSet<Digest>> {
        self.needed.take()
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

    /// Lets go of blobs that neither the run nor the rounds to be kept need.
    fn collect(&mut self) -> Result<(), ServiceError> {
        let (Some(keep), Some(active)) = (self.options.keep_rounds, &self.active) else {
            return Ok(());
        };
        let run = active.driver.run();
        let mut needed = run.needed_blobs();
        let history = run.history();
        for round in &history[history.len().saturating_sub(keep as usize)..] {
            needed.extend(round.updates.values().map(|update| update.blob));
            for checkpoint in [round.base, round.checkpoint] {
                needed.extend(
                    [Some(checkpoint.model), checkpoint.moments]
                        .into_iter()
                        .flatten(),
                );
            }
        }
        // Other runs' first and last models stay.
        for launch in self.journal.launches()? {
            if launch.run != active.launch.run {
                let other = Active::load(&self.journal, launch)?;
                needed.extend(other.driver.run().needed_blobs());
            }
        }
        self.needed = Some(needed);
        Ok(())
    }
}
