//! Patients and scans of a run's cohort.

use std::collections::BTreeMap;
use std::path::Path;

use super::labeled::{LabeledRow, read_rows};
use crate::report::ReportError;

/// One row of `cohort.csv`.
#[derive(Clone, PartialEq)]
pub struct CohortRow {
    /// Patient.
    pub patient: String,
    /// Scan.
    pub scan: String,
    /// Site.
    pub site: Option<String>,
    /// Sex.
    pub sex: Option<String>,
    /// Age in years.
    pub age: Option<f64>,
    /// Part of the split.
    pub part: Option<String>,
    /// Labels by task.
    pub labels: BTreeMap<String, Option<bool>>,
}

/// Shows no patient: cohorts stay out of logs.
impl std::fmt::Debug for CohortRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CohortRow")
            .field("site", &self.site)
            .finish_non_exhaustive()
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<CohortRow>, ReportError> {
    let rows = read_rows(path, &["patient", "scan", "site", "sex", "age", "part"])?;
    let required = |row: &LabeledRow, column: &str| {
        row.text(column)
            .ok_or_else(|| row.wrong(path, format!("column {column}: no value")))
    };
    rows.iter()
        .map(|row| {
            Ok(CohortRow {
                patient: required(row, "patient")?,
                scan: required(row, "scan")?,
                site: row.text("site"),
                sex: row.text("sex"),
                age: row.number(path, "age")?,
                part: row.text("part"),
                labels: row.labels(path)?.into_iter().collect(),
            })
        })
        .collect()
}
