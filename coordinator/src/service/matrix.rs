//! Trained at × tested at: what the sites reported of a run's result.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use protocol::{Digest, Round, RunId, SiteId};

use super::active::Active;
use super::error::ServiceError;
use super::verify::load;
use crate::areas::{Area, area};
use crate::journal::Journal;
use crate::run::{Report, RoundRecord};

/// One row of the matrix: a run's model, tested at every site that reported.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixRow {
    /// The run.
    pub run: RunId,
    /// Its plan.
    pub plan: Digest,
    /// The round whose model this is.
    pub round: Round,
    /// Sites whose patients trained the model.
    pub trained_at: BTreeSet<SiteId>,
    /// By task: each site, and sites pooled.
    pub tasks: BTreeMap<String, TaskAreas>,
}

/// One task's areas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskAreas {
    /// By site; internal where it is one of those that trained.
    pub sites: BTreeMap<SiteId, SiteArea>,
    /// Held-out patients of all sites that trained.
    pub internal: Option<Area>,
    /// Patients of all sites that did not.
    pub external: Option<Area>,
}

/// One task at one site.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SiteArea {
    /// From the site's own scores, where its policy lets it out.
    pub exact: Option<f64>,
    /// From its histograms.
    pub binned: Option<Area>,
    /// Whether its patients trained the model.
    pub internal: bool,
}

impl SiteArea {
    /// The best that is known.
    pub fn auc(&self) -> Option<f64> {
        self.exact.or_else(|| self.binned.map(|area| area.auc))
    }
}

impl MatrixRow {
    /// Mean over tasks at one site.
    pub fn mean_auc(&self, site: &SiteId) -> Option<f64> {
        let areas: Vec<f64> = self
            .tasks
            .values()
            .filter_map(|task| task.sites.get(site)?.auc())
            .collect();
        (!areas.is_empty()).then(|| areas.iter().sum::<f64>() / areas.len() as f64)
    }

    /// Sites that reported.
    pub fn tested_at(&self) -> BTreeSet<&SiteId> {
        self.tasks
            .values()
            .flat_map(|task| task.sites.keys())
            .collect()
    }
}

/// One row for each of `runs`, or for each run that was evaluated; of a round, or of the result.
///
/// # Errors
/// If there is no such run, or the journal cannot be read.
pub fn matrix(
    directory: &Path,
    runs: &[RunId],
    round: Option<Round>,
) -> Result<Vec<MatrixRow>, ServiceError> {
    let journal = Journal::open_shared(directory)?;
    let all = || -> Result<Vec<RunId>, ServiceError> {
        Ok(journal
            .launches()?
            .into_iter()
            .map(|launch| launch.run)
            .collect())
    };
    let wanted = if runs.is_empty() {
        all()?
    } else {
        runs.to_vec()
    };
    let mut rows = Vec::new();
    for run in &wanted {
        rows.extend(row(&load(&journal, run)?, round));
    }
    Ok(rows)
}

/// The row of one run; none where nothing was reported.
pub(super) fn row(active: &Active, round: Option<Round>) -> Option<MatrixRow> {
    let run = active.driver.run();
    let round = round.unwrap_or_else(|| run.result().round);
    let record = run
        .history()
        .iter()
        .find(|record| record.checkpoint.round == round)?;
    if record.reports.is_empty() {
        return None;
    }
    let trained_at: BTreeSet<SiteId> = match active.config.rounds {
        // Nobody trained: the model came from elsewhere.
        0 => BTreeSet::new(),
        _ => active.config.cohort.sites.iter().cloned().collect(),
    };
    let names: BTreeSet<&String> = record
        .reports
        .values()
        .flat_map(|report| report.tasks.iter().map(|task| &task.task))
        .collect();
    let tasks = names
        .into_iter()
        .map(|name| (name.clone(), task_areas(record, name, &trained_at)))
        .collect();
    Some(MatrixRow {
        run: active.launch.run.clone(),
        plan: active.plan.digest(),
        round,
        trained_at,
        tasks,
    })
}

fn task_areas(record: &RoundRecord, name: &str, trained_at: &BTreeSet<SiteId>) -> TaskAreas {
    let reported = |report: &Report| report.tasks.iter().find(|task| task.task == name).cloned();
    let reports: Vec<(&SiteId, _)> = record
        .reports
        .iter()
        .filter_map(|(site, report)| Some((site, reported(report)?)))
        .collect();
    let pooled = |internal: bool| {
        let wanted = reports
            .iter()
            .filter(|(site, _)| trained_at.contains(*site) == internal);
        area(wanted.map(|(_, task)| (&*task.positive, &*task.negative)))
    };
    let sites = reports
        .iter()
        .map(|(site, task)| {
            let area = SiteArea {
                exact: task.auc.map(f64::from),
                binned: area([(&*task.positive, &*task.negative)]),
                internal: trained_at.contains(*site),
            };
            ((*site).clone(), area)
        })
        .collect();
    TaskAreas {
        sites,
        internal: pooled(true),
        external: pooled(false),
    }
}
