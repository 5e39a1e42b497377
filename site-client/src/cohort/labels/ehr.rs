//! Labels from diagnoses and medications near the scan (paper, "Label acquisition from electronic
//! health records").

use std::collections::{BTreeMap, BTreeSet};

use jiff::ToSpan;
use jiff::civil::Date;
use serde::Serialize;

use crate::scans::Scan;

use super::super::define::Definitions;
use super::super::records::{Fact, Places, Records, Trouble};
use super::super::table::{LabelRow, LabelTable};

/// Which records count for a scan. The paper says both: Methods "starting from the time of the scan
/// and covering a 90-day period", Datasets "a 3-month window centered around the scan date".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LabelWindow {
    /// The day of the scan and the 90 days after it.
    FromScan,
    /// From 45 days before the scan to 45 days after.
    Centered,
}

impl LabelWindow {
    /// First and last day.
    fn days(self, scan: Date) -> (Date, Date) {
        let (before, after) = match self {
            Self::FromScan => (0, 90),
            Self::Centered => (45, 45),
        };
        (
            scan.saturating_sub(before.days()),
            scan.saturating_add(after.days()),
        )
    }
}

/// How labels were made, written beside them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EhrReport {
    /// The window.
    pub window: LabelWindow,
    /// BLAKE3 of the definitions, hex.
    pub definitions: String,
    /// Scans given.
    pub scans: usize,
    /// Scans with at least one record in the window.
    pub labeled: usize,
    /// Scans without any record in the window.
    pub unlabeled: usize,
    /// Scans without a date: no window, no label.
    pub undated: usize,
    /// Positive scans by task.
    pub positive: BTreeMap<String, usize>,
    /// Records left out, by reason.
    pub left_out: BTreeMap<Trouble, Places>,
}

/// Labels each scan from its patient's records in the window. A scan with no record there is
/// unlabeled; with any, every task without a matching record is negative.
#[must_use]
pub fn from_records(
    scans: &[Scan],
    mut records: Records,
    definitions: &Definitions,
    window: LabelWindow,
) -> (LabelTable, EhrReport) {
    let patients: BTreeSet<&str> = scans.iter().map(|scan| scan.patient.as_str()).collect();
    records.keep_patients(|patient| patients.contains(patient));

    let tasks: Vec<String> = definitions.names().map(str::to_owned).collect();
    let mut report = EhrReport {
        window,
        definitions: definitions.digest().to_owned(),
        scans: scans.len(),
        labeled: 0,
        unlabeled: 0,
        undated: 0,
        positive: tasks.iter().map(|task| (task.clone(), 0)).collect(),
        left_out: records.troubles().clone(),
    };
    let mut rows = Vec::new();
    for scan in scans {
        let labels = scan.study_time.and_then(|time| {
            let (first, last) = window.days(time.date());
            label(
                records.of(&scan.patient),
                first,
                last,
                definitions,
                tasks.len(),
            )
        });
        match &labels {
            Some(labels) => {
                report.labeled += 1;
                for (task, _) in tasks.iter().zip(labels).filter(|(_, positive)| **positive) {
                    report
                        .positive
                        .entry(task.clone())
                        .and_modify(|count| *count += 1);
                }
            }
            None if scan.study_time.is_none() => report.undated += 1,
            None => report.unlabeled += 1,
        }
        rows.push(LabelRow {
            scan: scan.scan.clone(),
            patient: scan.patient.clone(),
            labels: labels.map_or_else(
                || vec![None; tasks.len()],
                |labels| labels.into_iter().map(Some).collect(),
            ),
        });
    }
    (LabelTable { tasks, rows }, report)
}

/// The labels that records between two days give, or `None` if there is no record.
fn label(
    facts: &[(Date, Fact)],
    first: Date,
    last: Date,
    definitions: &Definitions,
    tasks: usize,
) -> Option<Vec<bool>> {
    let start = facts.partition_point(|(day, _)| *day < first);
    let end = facts.partition_point(|(day, _)| *day <= last);
    if start >= end {
        return None;
    }
    let mut positive = vec![false; tasks];
    for (_, fact) in &facts[start..end] {
        match fact {
            Fact::Code(code) => {
                definitions
                    .matched_by_code(code)
                    .for_each(|task| positive[task] = true);
            }
            Fact::Medication(name) => {
                definitions
                    .matched_by_medication(name)
                    .for_each(|task| positive[task] = true);
            }
        }
    }
    definitions.close(&mut positive);
    Some(positive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(id: &str, patient: &str, day: Option<Date>) -> Scan {
        crate::cohort::bare_scan(id, patient, day.map(|day| day.at(9, 0, 0, 0)))
    }

    fn labels(offset_days: i32, window: LabelWindow) -> Vec<Option<bool>> {
        let day = jiff::civil::date(2024, 6, 15);
        let mut records = Records::default();
        let day_of_record = day.saturating_add(offset_days.days());
        records.push("p", (day_of_record, Fact::Code("G91.2".into())), "row 2");
        let scans = [scan("s", "p", Some(day))];
        let (table, _) = from_records(&scans, records, &Definitions::paper(), window);
        table.rows[0].labels.clone()
    }

    #[test]
    fn each_window_holds_its_first_and_last_day_and_no_more() {
        let hcp = 1;
        for (window, inside, outside) in [
            (LabelWindow::FromScan, [0, 90], [-1, 91]),
            (LabelWindow::Centered, [-45, 45], [-46, 46]),
        ] {
            for days in inside {
                assert_eq!(labels(days, window)[hcp], Some(true), "{window:?} {days}");
            }
            for days in outside {
                assert_eq!(labels(days, window)[hcp], None, "{window:?} {days}");
            }
        }
    }

    #[test]
    fn a_record_of_anything_makes_the_other_tasks_negative() {
        let found = labels(3, LabelWindow::FromScan);
        assert_eq!(
            found.iter().filter(|label| **label == Some(false)).count(),
            9
        );
    }

    #[test]
    fn undated_scans_are_counted_and_strangers_counted_and_listed_without_their_names() {
        let day = jiff::civil::date(2024, 6, 15);
        let mut records = Records::default();
        for (row, code) in [(2, "G91.2"), (3, "I61.0")] {
            let fact = Fact::Code(code.into());
            records.push("stranger", (day, fact), format!("row {row}"));
        }
        let scans = [scan("s", "p", None)];
        let (table, report) = from_records(
            &scans,
            records,
            &Definitions::paper(),
            LabelWindow::FromScan,
        );
        assert_eq!(report.undated, 1);
        let strangers = &report.left_out[&Trouble::UnknownPatient];
        assert_eq!(strangers.count, 2);
        assert_eq!(strangers.first, ["row 2"]);
        assert!(table.rows[0].labels.iter().all(Option::is_none));
    }
}
