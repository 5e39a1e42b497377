//! Evaluation of a published model at the sites: who is asked, what is admitted, when it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::bounded::Text;
use protocol::message::Reason;
use protocol::plan::CohortRule;
use protocol::{Round, SiteId, Timestamp};

use super::event::{Action, Checkpoint, Dropped, Exact, Report, Signature};
use super::{Phase, RoundRecord, Run};

impl Run {
    /// Every named site under the full rule; otherwise who is connected, if anybody is.
    pub(super) fn start_evaluation(&mut self) {
        let Some(evaluation) = &self.config.evaluation else {
            return;
        };
        let cohort = &self.config.cohort;
        let named: BTreeSet<SiteId> = cohort
            .sites
            .iter()
            .chain(&cohort.evaluators)
            .cloned()
            .collect();
        let connected: BTreeSet<SiteId> = named
            .iter()
            .filter(|site| self.is_connected(site))
            .cloned()
            .collect();
        let all = cohort.rule == CohortRule::Full || connected.is_empty();
        let awaited = if all { named } else { connected.clone() };
        let deadline = self.now + Duration::from_secs(evaluation.deadline_seconds);
        self.phase = Phase::Evaluating {
            awaited,
            reports: BTreeMap::new(),
            dropped: BTreeMap::new(),
            deadline,
        };
        for site in connected {
            self.actions.push_back(Action::Evaluate {
                site,
                checkpoint: self.checkpoint,
            });
        }
    }

    pub(super) fn evaluated(&mut self, site: &SiteId, report: Report) {
        let now = self.now;
        if let Some(presence) = self.presence.get_mut(site) {
            presence.finish(now);
        }
        let Phase::Evaluating {
            awaited,
            reports,
            dropped,
            ..
        } = &mut self.phase
        else {
            return;
        };
        awaited.remove(site);
        dropped.remove(site);
        reports.insert(site.clone(), report);
        if awaited.is_empty() {
            self.finish_evaluation();
        }
    }

    pub(super) fn finish_evaluation(&mut self) {
        if self.keep_evaluation() {
            self.next_round(self.checkpoint.round);
        }
    }

    /// Ends the run wherever it is. What sites have reported of the last model is kept; updates of
    /// the round in work are not folded.
    pub(super) fn stopped(&mut self) {
        self.keep_evaluation();
        if self.phase != Phase::Finished {
            self.finish();
        }
    }

    /// Moves what has arrived into the record of the model's round; whether there was an evaluation.
    fn keep_evaluation(&mut self) -> bool {
        let Phase::Evaluating {
            reports, dropped, ..
        } = &mut self.phase
        else {
            return false;
        };
        let (reports, unevaluated) = (std::mem::take(reports), std::mem::take(dropped));
        match self.history.last_mut() {
            Some(record) => (record.reports, record.unevaluated) = (reports, unevaluated),
            None => self.history.push(RoundRecord {
                reports,
                unevaluated,
                ..RoundRecord::initial(self.checkpoint, self.now)
            }),
        }
        true
    }

    pub(super) fn admits_report(
        &self,
        site: &SiteId,
        round: Round,
        report: &Report,
    ) -> Result<(), Reason> {
        let Phase::Evaluating {
            awaited, dropped, ..
        } = &self.phase
        else {
            return Err(self.not_asked());
        };
        let expected = self.checkpoint.round;
        if round != expected {
            return Err(Reason::WrongRound {
                expected,
                found: round,
            });
        }
        // A site that failed may have tried again: it was asked again over another connection.
        let failed = matches!(dropped.get(site), Some(Dropped::Failed { .. }));
        if !awaited.contains(site) && !failed {
            return Err(self.not_asked());
        }
        let Some(evaluation) = &self.config.evaluation else {
            return Ok(());
        };
        let mut seen = BTreeSet::new();
        for task in &report.tasks {
            let bins = evaluation.histogram_bins as usize;
            let defect = if !evaluation.tasks.contains(&task.task) {
                "a task the plan does not name"
            } else if !seen.insert(&task.task) {
                "a task twice"
            } else if [&task.positive, &task.negative]
                .iter()
                .any(|counts| counts.len() != bins)
            {
                "a histogram with another number of bins than the plan's"
            } else if task
                .auc
                .is_some_and(|auc| !(0.0..=1.0).contains(&f64::from(auc)))
            {
                "an AUC outside 0 to 1"
            } else {
                continue;
            };
            return Err(Reason::Invalid {
                defect: Text::lossy(&format!("evaluation: {defect}")),
            });
        }
        Ok(())
    }
}

impl RoundRecord {
    /// The record of a model that no round made: the one an evaluation run is given.
    fn initial(checkpoint: Checkpoint, now: Timestamp) -> Self {
        Self {
            checkpoint,
            base: checkpoint,
            updates: BTreeMap::new(),
            dropped: BTreeMap::new(),
            delta_norm: Exact::default(),
            signature: Signature::default(),
            reports: BTreeMap::new(),
            unevaluated: BTreeMap::new(),
            started: now,
            published: now,
        }
    }
}
