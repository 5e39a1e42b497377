//! Statistics of one task, one model and one group of scans.

use std::collections::BTreeMap;

use core_model::metrics::{
    Confusion, DeLong, Interval, MetricsError, PairedScores, Ranked, Resampler, bootstrap,
    brier_score, calibration_curve, expected_calibration_error, percentile_interval,
};
use serde::Serialize;

use super::Prediction;
use super::table::{Clustering, Settings};

/// Bins of the calibration error.
pub const CALIBRATION_BINS: usize = 10;

/// One row of the result; what could not be computed is absent and `reason` says why.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cell {
    /// Training run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How the task was learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Site whose labels trained the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained_at: Option<String>,
    /// Group of scans, where results are split by a column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Disease, or `macro` for the mean over diseases.
    pub task: String,
    /// Scans.
    pub n: usize,
    /// Patients.
    pub patients: usize,
    /// Diseased scans; summed over tasks in the macro row.
    pub positives: usize,
    /// Area under the ROC curve.
    pub auc: Option<f64>,
    /// Percentile bootstrap interval of `auc`.
    pub auc_ci: Option<[f64; 2]>,
    /// Average precision.
    pub ap: Option<f64>,
    /// Percentile bootstrap interval of `ap`.
    pub ap_ci: Option<[f64; 2]>,
    /// DeLong standard error of `auc`, with each scan as its own unit.
    pub delong_se: Option<f64>,
    /// Brier score, where scores are probabilities.
    pub brier: Option<f64>,
    /// Expected calibration error over ten equal bins.
    pub ece: Option<f64>,
    /// Decisions at the threshold chosen on validation scans, where there are some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operating_point: Option<OperatingPoint>,
    /// This model minus the other, where another is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// Why something is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Decisions at the threshold with the largest sensitivity + specificity on validation scans.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OperatingPoint {
    /// Scans with at least this score are called diseased.
    pub threshold: f64,
    /// Fraction of the diseased that are found.
    pub sensitivity: Option<f64>,
    /// Clopper–Pearson interval.
    pub sensitivity_ci: Option<[f64; 2]>,
    /// Fraction of the healthy called healthy.
    pub specificity: Option<f64>,
    /// Clopper–Pearson interval.
    pub specificity_ci: Option<[f64; 2]>,
    /// Positive predictive value at the prevalence of these scans.
    pub ppv: Option<f64>,
    /// Negative predictive value at the prevalence of these scans.
    pub npv: Option<f64>,
}

/// One model minus another on the same scans.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// Difference in AUC.
    pub delta: Option<f64>,
    /// Interval of `delta`: DeLong's for a task, paired bootstrap for the macro row.
    pub delta_ci: Option<[f64; 2]>,
    /// Difference in average precision.
    pub delta_ap: Option<f64>,
    /// DeLong's two-sided p-value of `delta`.
    pub delong_p: Option<f64>,
    /// Two-sided paired permutation p-value of `delta`.
    pub permutation_p: Option<f64>,
    /// The same for `delta_ap`.
    pub permutation_p_ap: Option<f64>,
    /// `permutation_p` adjusted over the tasks of this table by Holm's method.
    pub permutation_p_holm: Option<f64>,
    /// Why something is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Rows of one cell, and its ranked scores where they can be ranked.
pub(super) struct CellRows<'a> {
    pub(super) test: Vec<&'a Prediction>,
    pub(super) validation: Vec<&'a Prediction>,
}

/// A cell that could be ranked, with the unit of each of its rows.
pub(super) struct Computed {
    pub(super) ranked: Ranked,
    pub(super) units: Vec<u32>,
}

/// Gives equal names equal numbers, across all cells of a table.
#[derive(Default)]
pub(super) struct Units<'a>(BTreeMap<(&'a str, &'a str), u32>);

impl<'a> Units<'a> {
    fn number(&mut self, row: &'a Prediction, clustering: Clustering) -> u32 {
        let next = self.0.len() as u32;
        let scan = match clustering {
            Clustering::Scan => &*row.scan,
            Clustering::Patient => "",
        };
        *self.0.entry((&*row.patient, scan)).or_insert(next)
    }
}

impl<'a> CellRows<'a> {
    /// Computes all statistics of the cell.
    pub(super) fn compute(
        &self,
        cell: &mut Cell,
        settings: &Settings,
        units: &mut Units<'a>,
    ) -> Option<Computed> {
        cell.n = self.test.len();
        cell.positives = self.test.iter().filter(|row| row.label).count();
        let mut patients: Vec<&str> = self.test.iter().map(|row| &*row.patient).collect();
        patients.sort_unstable();
        patients.dedup();
        cell.patients = patients.len();
        if let Some(reason) = repeated_scan(&self.test) {
            cell.reason = Some(reason);
            return None;
        }
        let (labels, scores) = columns(&self.test);
        // Calibration is defined for one class too.
        cell.brier = brier_score(&labels, &scores).ok();
        cell.ece = calibration_curve(&labels, &scores, CALIBRATION_BINS)
            .ok()
            .map(|curve| expected_calibration_error(&curve));
        cell.operating_point = self.operating_point(&labels, &scores, settings.level);
        let ranked = match Ranked::new(&labels, &scores) {
            Ok(ranked) => ranked,
            Err(error) => {
                cell.reason = Some(error.to_string());
                return None;
            }
        };
        let areas = ranked.areas();
        (cell.auc, cell.ap) = (Some(areas.roc_auc), Some(areas.average_precision));
        match DeLong::new(&ranked) {
            Ok(delong) => cell.delong_se = Some(delong.standard_error()),
            Err(error) => cell.reason = Some(format!("no standard error: {error}")),
        }
        let unit_of: Vec<u32> = self
            .test
            .iter()
            .map(|row| units.number(row, settings.clustering))
            .collect();
        let resampler = Resampler::by_cluster(&labels, &dense(&unit_of));
        let replicates = bootstrap(&ranked, &resampler, settings.bootstraps, settings.seed);
        cell.auc_ci = ends(percentile_interval(&replicates.roc_auc, settings.level));
        cell.ap_ci = ends(percentile_interval(
            &replicates.average_precision,
            settings.level,
        ));
        Some(Computed {
            ranked,
            units: unit_of,
        })
    }

    fn operating_point(
        &self,
        labels: &[bool],
        scores: &[f64],
        level: f64,
    ) -> Option<OperatingPoint> {
        let (validation_labels, validation_scores) = columns(&self.validation);
        let validation = Ranked::new(&validation_labels, &validation_scores).ok()?;
        let threshold = core_model::metrics::youden_threshold(&validation);
        let confusion = Confusion::at(labels, scores, threshold).ok()?;
        Some(OperatingPoint {
            threshold,
            sensitivity: confusion.sensitivity(),
            sensitivity_ci: ends(confusion.sensitivity_interval(level)),
            specificity: confusion.specificity(),
            specificity_ci: ends(confusion.specificity_interval(level)),
            ppv: confusion.positive_predictive_value(),
            npv: confusion.negative_predictive_value(),
        })
    }

    /// The other model's rows in the order of these, or why they do not belong together.
    pub(super) fn align(&self, other: &Self) -> Result<Vec<&'a Prediction>, String> {
        if let Some(reason) = repeated_scan(&other.test) {
            return Err(format!("comparison: {reason}"));
        }
        let by_scan: BTreeMap<&str, &Prediction> =
            other.test.iter().map(|row| (&*row.scan, *row)).collect();
        let aligned: Vec<&Prediction> = self
            .test
            .iter()
            .filter_map(|row| by_scan.get(&*row.scan).copied())
            .collect();
        let missing = self.test.len() - aligned.len();
        let extra = other.test.len() - aligned.len();
        if missing + extra > 0 {
            return Err(format!(
                "comparison: {missing} scans are missing there and {extra} here"
            ));
        }
        let differing = self
            .test
            .iter()
            .zip(&aligned)
            .filter(|(mine, theirs)| mine.label != theirs.label);
        match differing.count() {
            0 => Ok(aligned),
            count => Err(format!(
                "comparison: {count} scans have another label there"
            )),
        }
    }
}

impl Comparison {
    pub(super) fn because(reason: String) -> Self {
        Self {
            reason: Some(reason),
            ..Self::default()
        }
    }

    /// DeLong's part of the comparison, and the pair for the permutation test.
    pub(super) fn of(first: &Ranked, second: &Ranked, level: f64) -> (Self, Option<PairedScores>) {
        let (a, b) = (first.areas(), second.areas());
        let mut comparison = Self {
            delta: Some(a.roc_auc - b.roc_auc),
            delta_ap: Some(a.average_precision - b.average_precision),
            ..Self::default()
        };
        let delong = DeLong::new(first).and_then(|a| a.compare(&DeLong::new(second)?));
        match delong {
            Ok(delong) => {
                comparison.delong_p = Some(delong.p);
                comparison.delta_ci =
                    ends(Interval::normal(delong.delta, delong.standard_error, level));
            }
            Err(error) => comparison.reason = Some(error.to_string()),
        }
        (comparison, PairedScores::new(first, second).ok())
    }
}

pub(super) fn columns(rows: &[&Prediction]) -> (Vec<bool>, Vec<f64>) {
    rows.iter().map(|row| (row.label, row.score)).unzip()
}

pub(super) fn ends(interval: Result<Interval, MetricsError>) -> Option<[f64; 2]> {
    interval.ok().map(|interval| [interval.low, interval.high])
}

/// Numbers without gaps: a bootstrap keeps one count per number.
fn dense(units: &[u32]) -> Vec<u32> {
    let mut sorted = units.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    units
        .iter()
        .map(|unit| sorted.partition_point(|known| known < unit) as u32)
        .collect()
}

fn repeated_scan(rows: &[&Prediction]) -> Option<String> {
    let mut scans: Vec<&str> = rows.iter().map(|row| &*row.scan).collect();
    scans.sort_unstable();
    let repeated = scans.windows(2).filter(|pair| pair[0] == pair[1]).count();
    (repeated > 0).then(|| format!("{repeated} rows repeat a scan"))
}
