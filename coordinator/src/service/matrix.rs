//! Trained at × tested at: what the sites reported of a run's result.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use protocol::plan::{Config, Objective};
use protocol::{Digest, Round, RunId, SiteId};

use super::active::Active;
use super::error::ServiceError;
use super::lineage::Lineage;
use crate::areas::{Area, area};
use crate::journal::Journal;
use crate::run::{Report, RoundRecord, TaskReport};

/// One row of the matrix: a run's model, tested at every site that reported.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixRow {
    /// The run.
    pub run: RunId,
    /// Its plan.
    pub plan: Digest,
    /// The round whose model this is.
    pub round: Round,
    /// Which of the sites' patients it was tested on.
    pub part: Part,
    /// Sites whose patients trained the model, in this run or those it goes on from; `None` where
    /// the model came from elsewhere.
    pub trained_at: Option<BTreeSet<SiteId>>,
    /// By task: each site, and sites together.
    pub tasks: BTreeMap<String, TaskAreas>,
}

/// Which of a site's held-out patients a model is tested on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// A plan that only evaluates: patients that chose nothing.
    Test,
    /// A plan that trains: patients by which a round may have been chosen.
    Validation,
}

/// What a site's patients were to the model.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Side {
    /// The site trained it; the patients are held out.
    Internal,
    /// The site did not train it.
    External,
    /// Nobody here knows who trained it.
    Unknown,
}

/// One task's areas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskAreas {
    /// By site.
    pub sites: BTreeMap<SiteId, SiteArea>,
    /// All sites of one side.
    pub together: BTreeMap<Side, Together>,
}

/// One task at one site.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SiteArea {
    /// From the site's own scores, where its policy lets it out.
    pub exact: Option<f64>,
    /// From its histograms.
    pub binned: Option<Area>,
}

/// One task at several sites.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Together {
    /// One classifier scored all patients: the area of the sites' counts added up.
    Pooled(Area),
    /// Each site scored its patients with a classifier of its own, on a scale of its own: the mean
    /// of the sites' areas.
    Mean {
        /// The mean.
        auc: f64,
        /// Of so many sites.
        sites: usize,
    },
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Test => "test",
            Self::Validation => "validation",
        })
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Internal => "internal",
            Self::External => "external",
            Self::Unknown => "unknown",
        })
    }
}

impl fmt::Display for Together {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pooled(area) => write!(
                f,
                "pooled AUC {area}, binning at most ±{:.4}, {} of {} patients with it",
                area.bound,
                area.positives,
                area.positives + area.negatives
            ),
            Self::Mean { auc, sites } => {
                write!(
                    f,
                    "mean AUC {auc:.3} of {sites} sites, each by its own probe"
                )
            }
        }
    }
}

impl SiteArea {
    /// The best that is known.
    pub fn auc(&self) -> Option<f64> {
        self.exact.or_else(|| self.binned.map(|area| area.auc))
    }
}

impl MatrixRow {
    /// What a site's patients were to the model.
    pub fn side(&self, site: &SiteId) -> Side {
        side(self.trained_at.as_ref(), site)
    }

    /// Mean over tasks at one site.
    pub fn mean_auc(&self, site: &SiteId) -> Option<f64> {
        let areas = self.tasks.values();
        mean(areas.filter_map(|task| task.sites.get(site)?.auc())).map(|(auc, _)| auc)
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
    let lineage = Lineage::read(&Journal::open_existing(directory)?)?;
    let wanted: Vec<&Active> = if runs.is_empty() {
        lineage.runs().iter().collect()
    } else {
        let named = runs.iter().map(|run| lineage.run(run));
        named.collect::<Result<_, _>>()?
    };
    let rows = wanted.into_iter();
    Ok(rows
        .filter_map(|active| row(&lineage, active, round))
        .collect())
}

/// The row of one run; none where nothing was reported.
pub(super) fn row(lineage: &Lineage, active: &Active, round: Option<Round>) -> Option<MatrixRow> {
    let run = active.driver.run();
    let round = round.unwrap_or_else(|| run.result().round);
    let record = run
        .history()
        .iter()
        .find(|record| record.checkpoint.round == round)?;
    if record.reports.is_empty() {
        return None;
    }
    let trained_at = lineage.trained_at(active);
    let names: BTreeSet<&String> = record
        .reports
        .values()
        .flat_map(|report| report.tasks.iter().map(|task| &task.task))
        .collect();
    let shared = shares_classifier(&active.config);
    let areas = |name: &String| task_areas(record, name, trained_at.as_ref(), shared);
    let tasks = names.into_iter().map(|name| (name.clone(), areas(name)));
    Some(MatrixRow {
        run: active.launch.run.clone(),
        plan: active.plan.digest(),
        round,
        part: match active.config.objective {
            Objective::Evaluate => Part::Test,
            _ => Part::Validation,
        },
        tasks: tasks.collect(),
        trained_at,
    })
}

/// Whether all sites score with one classifier: not with a probe that each trains on a pre-trained
/// model's features, nor with weights of fine-tuning that stay at each. What stays at sites in
/// probing is the backbone, which nobody changes.
fn shares_classifier(config: &Config) -> bool {
    match config.objective {
        Objective::Dino | Objective::Mae => false,
        Objective::Finetune => config.local_parameters.is_empty(),
        Objective::Evaluate | Objective::Probe => true,
    }
}

fn task_areas(
    record: &RoundRecord,
    name: &str,
    trained_at: Option<&BTreeSet<SiteId>>,
    shared: bool,
) -> TaskAreas {
    let reported = |report: &Report| report.tasks.iter().find(|task| task.task == name).cloned();
    let reports = record.reports.iter();
    let reports: Vec<(&SiteId, TaskReport)> = reports
        .filter_map(|(site, report)| Some((site, reported(report)?)))
        .collect();
    let sites: BTreeMap<SiteId, SiteArea> = reports
        .iter()
        .map(|(site, task)| {
            let area = SiteArea {
                exact: task.auc.map(f64::from),
                binned: area([(&*task.positive, &*task.negative)]),
            };
            ((*site).clone(), area)
        })
        .collect();
    let together = |of: Side| {
        let wanted = |site: &SiteId| side(trained_at, site) == of;
        if shared {
            let reports = reports.iter().filter(|(site, _)| wanted(site));
            let counts = reports.map(|(_, task)| (&*task.positive, &*task.negative));
            return area(counts).map(Together::Pooled);
        }
        let areas = sites.iter().filter(|(site, _)| wanted(site));
        let (auc, sites) = mean(areas.filter_map(|(_, area)| area.auc()))?;
        Some(Together::Mean { auc, sites })
    };
    let sides = [Side::Internal, Side::External, Side::Unknown];
    let together = sides.map(|side| together(side).map(|areas| (side, areas)));
    TaskAreas {
        together: together.into_iter().flatten().collect(),
        sites,
    }
}

fn side(trained_at: Option<&BTreeSet<SiteId>>, site: &SiteId) -> Side {
    match trained_at {
        Some(sites) if sites.contains(site) => Side::Internal,
        Some(_) => Side::External,
        None => Side::Unknown,
    }
}

/// The mean, and of how many.
fn mean(values: impl Iterator<Item = f64>) -> Option<(f64, usize)> {
    let values: Vec<f64> = values.collect();
    let count = values.len();
    (count > 0).then(|| (values.iter().sum::<f64>() / count as f64, count))
}
