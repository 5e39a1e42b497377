//! Which round's model is the run's result.

use std::collections::BTreeMap;

use protocol::SiteId;
use protocol::plan::Selection;

use super::event::{Checkpoint, TaskReport};
use super::{RoundRecord, Run};
use crate::areas::area;

/// What training sites reported of one round's model, by site and task.
type Scores<'a> = BTreeMap<(&'a SiteId, &'a str), Score>;

/// One area, as far as it is known.
#[derive(Clone, Copy)]
struct Score {
    /// From the site's own scores, where its policy lets it out.
    exact: Option<f64>,
    /// From its histograms.
    binned: Option<f64>,
}

impl Run {
    /// The model that is the run's result so far, by the plan's rule.
    ///
    /// A round is compared with the best before it and with no other, so that a model which was
    /// beaten once is not asked for again: its bytes may be gone.
    pub fn result(&self) -> Checkpoint {
        let evaluation = self.config.evaluation.as_ref();
        if evaluation.map(|evaluation| evaluation.select) != Some(Selection::BestMeanAuc) {
            return self.checkpoint;
        }
        let mut best: Option<(Checkpoint, Scores<'_>)> = None;
        for record in &self.history {
            let scores = self.scores(record);
            if scores.is_empty() {
                continue;
            }
            if best.as_ref().is_none_or(|(_, best)| beats(&scores, best)) {
                best = Some((record.checkpoint, scores));
            }
        }
        best.map_or(self.checkpoint, |(checkpoint, _)| checkpoint)
    }

    fn scores<'a>(&self, record: &'a RoundRecord) -> Scores<'a> {
        let trained = |site: &SiteId| self.config.cohort.sites.contains(site);
        let reports = record.reports.iter().filter(|(site, _)| trained(site));
        reports
            .flat_map(|(site, report)| report.tasks.iter().map(move |task| (site, task)))
            .map(|(site, task)| ((site, task.task.as_str()), Score::new(task)))
            .filter(|(_, score)| score.exact.or(score.binned).is_some())
            .collect()
    }
}

impl Score {
    fn new(task: &TaskReport) -> Self {
        let binned = area([(&*task.positive, &*task.negative)]);
        Self {
            exact: task.auc.map(f64::from),
            binned: binned.map(|area| area.auc),
        }
    }

    /// Two areas of one kind: a site's policy may change during a run.
    fn alike(self, other: Self) -> Option<[f64; 2]> {
        let exact = self.exact.zip(other.exact);
        let pair = exact.or_else(|| self.binned.zip(other.binned))?;
        Some(pair.into())
    }
}

/// Whether the mean over the sites and tasks that both rounds have is higher.
fn beats(scores: &Scores<'_>, best: &Scores<'_>) -> bool {
    let pairs = scores
        .iter()
        .filter_map(|(of, score)| score.alike(*best.get(of)?));
    let sums = pairs.fold([0.0; 2], |[sum, best_sum], [score, best_score]| {
        [sum + score, best_sum + best_score]
    });
    sums[0] > sums[1]
}
