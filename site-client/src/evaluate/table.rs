//! The table of all cells: models × groups × tasks, with macro rows and comparisons.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use core_model::metrics::{
    PairedScores, Ranked, bootstrap_macro, holm, percentile_interval, permutation_test,
};
use serde::Serialize;

use super::cell::{CellRows, Computed, Units, columns, ends};
use super::{Cell, Comparison, EvaluateError, Part, Prediction, Predictions};

/// How statistics are computed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Coverage of intervals.
    pub level: f64,
    /// Bootstrap resamples; the paper used 100.
    pub bootstraps: usize,
    /// Permutations; the paper used 1,000.
    pub permutations: usize,
    /// Unit of resampling and exchange.
    pub clustering: Clustering,
    /// Seed of both.
    pub seed: u64,
    /// Column that splits the scans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<GroupBy>,
}

/// What is resampled and exchanged as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Clustering {
    /// Each scan, as published.
    Scan,
    /// All scans of a patient: scans of one patient are alike, and an interval by scan too narrow.
    Patient,
}

/// A column that splits scans into groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupBy {
    /// Test site.
    Site,
    /// Maker of the scanner.
    Manufacturer,
    /// Slice thickness: up to 1.5 mm, up to 3 mm, above.
    Thickness,
    /// Sex.
    Sex,
    /// Age: below 40, 40 to 59, 60 to 79, 80 and above.
    Age,
}

/// All cells, in order of model, group and task; each macro row follows its tasks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricsTable {
    /// How it was computed.
    pub settings: Settings,
    /// The rows.
    pub cells: Vec<Cell>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            level: 0.95,
            bootstraps: 1000,
            permutations: 1000,
            clustering: Clustering::Patient,
            seed: 0,
            by: None,
        }
    }
}

impl GroupBy {
    /// Column in the predictions.
    pub fn column(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Manufacturer => "manufacturer",
            Self::Thickness => "thickness",
            Self::Sex => "sex",
            Self::Age => "age",
        }
    }

    /// The group of a row: its place in the table and its name.
    fn group(self, row: &Prediction) -> (usize, String) {
        let named = |value: &Option<Arc<str>>| match value {
            Some(value) => (0, value.to_string()),
            None => (1, UNKNOWN.to_owned()),
        };
        let ranged = |value: Option<f64>, limits: &[(f64, &str)]| match value {
            None => (limits.len(), UNKNOWN.to_owned()),
            Some(value) => {
                let place = limits.iter().position(|(limit, _)| value <= *limit);
                let place = place.unwrap_or(limits.len() - 1);
                (place, limits[place].1.to_owned())
            }
        };
        match self {
            Self::Site => named(&row.site),
            Self::Manufacturer => named(&row.manufacturer),
            Self::Sex => named(&row.sex),
            Self::Thickness => ranged(row.thickness, THICKNESS_MM),
            Self::Age => ranged(row.age.map(f64::floor), AGE_YEARS),
        }
    }
}

impl MetricsTable {
    /// Computes every cell of `predictions`, and its difference to `other` where given.
    ///
    /// A cell that cannot be computed says why; the others are computed. Rows of the train part
    /// are left out; rows of the validation part choose thresholds.
    ///
    /// # Errors
    /// No test rows, a grouping column without a value, or another table of several models.
    pub fn compute(
        predictions: &Predictions,
        other: Option<&Predictions>,
        settings: &Settings,
    ) -> Result<Self, EvaluateError> {
        let mine = split(predictions, settings.by)?;
        let theirs = other.map(|other| split(other, settings.by)).transpose()?;
        if let Some(theirs) = &theirs {
            let models: BTreeSet<&ModelKey> = theirs.keys().map(|key| &key.model).collect();
            if models.len() > 1 {
                return Err(EvaluateError::SeveralModels {
                    found: models.len(),
                });
            }
        }
        let mut cells = Vec::new();
        for (key, tasks) in &mine {
            let other = theirs.as_ref().map(|theirs| {
                theirs
                    .iter()
                    .find(|(other, _)| other.group == key.group)
                    .map(|(_, tasks)| tasks)
            });
            cells.extend(block(key, tasks, other, settings));
        }
        Ok(Self {
            settings: settings.clone(),
            cells,
            notes: notes(settings, other.is_some()),
        })
    }

    /// The macro rows.
    pub fn macro_rows(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|cell| cell.task == MACRO)
    }
}

/// Name of the mean over tasks.
pub const MACRO: &str = "macro";

/// What the rows of one block of the table share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct BlockKey {
    model: ModelKey,
    group: Option<(usize, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ModelKey {
    run: Option<String>,
    model: Option<String>,
    protocol: Option<String>,
    trained_at: Option<String>,
}

type Tasks<'a> = BTreeMap<String, CellRows<'a>>;

fn split(
    predictions: &Predictions,
    by: Option<GroupBy>,
) -> Result<BTreeMap<BlockKey, Tasks<'_>>, EvaluateError> {
    let rows = || {
        predictions
            .rows
            .iter()
            .filter(|row| row.part != Part::Train)
    };
    if !rows().any(|row| row.part == Part::Test) {
        return Err(EvaluateError::Empty);
    }
    if let Some(by) = by
        && rows().all(|row| by.group(row).1 == UNKNOWN)
    {
        return Err(EvaluateError::NoGroups {
            column: by.column(),
        });
    }
    let text = |value: &Option<Arc<str>>| value.as_deref().map(str::to_owned);
    let mut blocks: BTreeMap<BlockKey, Tasks<'_>> = BTreeMap::new();
    let mut validation = Vec::new();
    for row in rows() {
        if row.part == Part::Validation {
            validation.push(row);
            continue;
        }
        let key = BlockKey {
            model: ModelKey {
                run: text(&row.run),
                model: text(&row.model),
                protocol: text(&row.protocol),
                trained_at: text(&row.trained_at),
            },
            group: by.map(|by| by.group(row)),
        };
        let tasks = blocks.entry(key).or_default();
        let cell = tasks
            .entry(row.task.to_string())
            .or_insert_with(|| CellRows {
                test: Vec::new(),
                validation: Vec::new(),
            });
        cell.test.push(row);
    }
    for row in validation {
        for (key, tasks) in &mut blocks {
            let same = key.model.run.as_deref() == row.run.as_deref()
                && key.model.model.as_deref() == row.model.as_deref()
                && key.model.protocol.as_deref() == row.protocol.as_deref()
                && key.model.trained_at.as_deref() == row.trained_at.as_deref();
            if same && let Some(cell) = tasks.get_mut(&*row.task) {
                cell.validation.push(row);
            }
        }
    }
    Ok(blocks)
}

/// The cells of one model and group: its tasks and their mean.
fn block(
    key: &BlockKey,
    tasks: &Tasks<'_>,
    other: Option<Option<&Tasks<'_>>>,
    settings: &Settings,
) -> Vec<Cell> {
    let new_cell = |task: &str| Cell {
        run: key.model.run.clone(),
        model: key.model.model.clone(),
        protocol: key.model.protocol.clone(),
        trained_at: key.model.trained_at.clone(),
        group: key.group.as_ref().map(|(_, name)| name.clone()),
        task: task.to_owned(),
        ..Cell::default()
    };
    let mut units = Units::default();
    let mut cells = Vec::new();
    let mut computed = Vec::new();
    let mut pairs: Vec<Pair> = Vec::new();
    for (task, rows) in tasks {
        let mut cell = new_cell(task);
        let ranked = rows.compute(&mut cell, settings, &mut units);
        if let Some(other) = other {
            let other = other.and_then(|tasks| tasks.get(task));
            let (comparison, pair) = compare(rows, ranked.as_ref(), other, settings);
            cell.comparison = Some(comparison);
            if let Some((second, paired)) = pair
                && let Some(first) = &ranked
            {
                pairs.push(Pair {
                    cell: cells.len(),
                    second,
                    paired,
                    units: first.units.clone(),
                });
            }
        }
        computed.extend(ranked);
        cells.push(cell);
    }
    let mut mean = new_cell(MACRO);
    macro_row(&mut mean, &cells, &computed, settings);
    if other.is_some() {
        mean.comparison = Some(test_together(&mut cells, &computed, &pairs, settings));
    }
    cells.push(mean);
    cells
}

/// Two models of one cell, ready for the joint permutation test.
struct Pair {
    cell: usize,
    second: Ranked,
    paired: PairedScores,
    units: Vec<u32>,
}

fn compare(
    rows: &CellRows<'_>,
    first: Option<&Computed>,
    other: Option<&CellRows<'_>>,
    settings: &Settings,
) -> (Comparison, Option<(Ranked, PairedScores)>) {
    let Some(first) = first else {
        return (
            Comparison::because("comparison: nothing to compare here".to_owned()),
            None,
        );
    };
    let Some(other) = other else {
        return (
            Comparison::because("comparison: no such rows there".to_owned()),
            None,
        );
    };
    let aligned = match rows.align(other) {
        Ok(aligned) => aligned,
        Err(reason) => return (Comparison::because(reason), None),
    };
    let (labels, scores) = columns(&aligned);
    match Ranked::new(&labels, &scores) {
        Err(error) => (Comparison::because(format!("comparison: {error}")), None),
        Ok(second) => {
            let (comparison, paired) = Comparison::of(&first.ranked, &second, settings.level);
            (comparison, paired.map(|paired| (second, paired)))
        }
    }
}

fn macro_row(mean: &mut Cell, cells: &[Cell], computed: &[Computed], settings: &Settings) {
    mean.n = cells.iter().map(|cell| cell.n).max().unwrap_or(0);
    mean.patients = cells.iter().map(|cell| cell.patients).max().unwrap_or(0);
    mean.positives = cells.iter().map(|cell| cell.positives).sum();
    if computed.is_empty() {
        mean.reason = Some("no task could be computed".to_owned());
        return;
    }
    if computed.len() < cells.len() {
        mean.reason = Some(format!(
            "mean of {} of {} tasks",
            computed.len(),
            cells.len()
        ));
    }
    let average = |value: fn(&Cell) -> Option<f64>| {
        let values: Vec<f64> = cells.iter().filter_map(value).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    mean.auc = average(|cell| cell.auc);
    mean.ap = average(|cell| cell.ap);
    mean.brier = average(|cell| cell.brier);
    mean.ece = average(|cell| cell.ece);
    let tasks: Vec<(&Ranked, &[u32])> = computed
        .iter()
        .map(|task| (&task.ranked, &*task.units))
        .collect();
    match bootstrap_macro(&tasks, settings.bootstraps, settings.seed) {
        Ok(replicates) => {
            mean.auc_ci = ends(percentile_interval(&replicates.roc_auc, settings.level));
            mean.ap_ci = ends(percentile_interval(
                &replicates.average_precision,
                settings.level,
            ));
        }
        Err(error) => mean.reason = Some(error.to_string()),
    }
}

/// Permutation tests of all pairs at once, written into their cells; returns the macro comparison.
fn test_together(
    cells: &mut [Cell],
    computed: &[Computed],
    pairs: &[Pair],
    settings: &Settings,
) -> Comparison {
    let tasks: Vec<_> = pairs
        .iter()
        .map(|pair| (&pair.paired, &*pair.units))
        .collect();
    let tested = permutation_test(&tasks, settings.permutations, settings.seed);
    let Ok((tests, mean)) = tested else {
        return Comparison::because("comparison: no task could be compared".to_owned());
    };
    let adjusted = holm(&tests.iter().map(|test| test.p_roc_auc).collect::<Vec<_>>());
    for ((pair, test), adjusted) in pairs.iter().zip(&tests).zip(adjusted) {
        let comparison = cells[pair.cell].comparison.get_or_insert_default();
        comparison.permutation_p = Some(test.p_roc_auc);
        comparison.permutation_p_ap = Some(test.p_average_precision);
        comparison.permutation_p_holm = Some(adjusted);
    }
    let mut comparison = Comparison {
        delta: Some(mean.delta_roc_auc),
        delta_ap: Some(mean.delta_average_precision),
        permutation_p: Some(mean.p_roc_auc),
        permutation_p_ap: Some(mean.p_average_precision),
        ..Comparison::default()
    };
    if pairs.len() < computed.len() {
        let reason = format!("mean of {} of {} tasks", pairs.len(), computed.len());
        comparison.reason = Some(reason);
        return comparison;
    }
    // The same seed draws the same resamples for both models.
    let first: Vec<_> = computed
        .iter()
        .map(|task| (&task.ranked, &*task.units))
        .collect();
    let second: Vec<_> = pairs
        .iter()
        .map(|pair| (&pair.second, &*pair.units))
        .collect();
    let first = bootstrap_macro(&first, settings.bootstraps, settings.seed);
    let second = bootstrap_macro(&second, settings.bootstraps, settings.seed);
    if let (Ok(first), Ok(second)) = (first, second) {
        let differences: Vec<f64> = first
            .roc_auc
            .iter()
            .zip(&second.roc_auc)
            .map(|(a, b)| a - b)
            .collect();
        comparison.delta_ci = ends(percentile_interval(&differences, settings.level));
    }
    comparison
}

fn notes(settings: &Settings, compared: bool) -> Vec<String> {
    let unit = match settings.clustering {
        Clustering::Scan => "scan",
        Clustering::Patient => "patient",
    };
    let mut notes = vec![
        "Research use only: not for clinical use.".to_owned(),
        format!(
            "Intervals: {} % percentile bootstrap, {} resamples by {unit} within class strata.",
            settings.level * 100.0,
            settings.bootstraps
        ),
    ];
    if compared {
        notes.push(format!(
            "p-values: DeLong's test (by scan) and a two-sided paired permutation test, {} \
             permutations by {unit}, p = (1 + count) / (1 + permutations).",
            settings.permutations
        ));
        notes.push(
            "Several tasks are tested: permutation_p_holm keeps the chance of any false finding \
             within one model and group; the other p-values are not adjusted."
                .to_owned(),
        );
    }
    notes
}

const UNKNOWN: &str = "unknown";
const THICKNESS_MM: &[(f64, &str)] = &[
    (1.5, "≤ 1.5 mm"),
    (3.0, "1.5–3 mm"),
    (f64::INFINITY, "> 3 mm"),
];
const AGE_YEARS: &[(f64, &str)] = &[
    (39.0, "< 40"),
    (59.0, "40–59"),
    (79.0, "60–79"),
    (f64::INFINITY, "≥ 80"),
];

#[cfg(test)]
mod tests;
