//! `labels.csv`: scan, patient, and one column per task.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::scans::Scan;

use super::error::{CohortError, Place};
use super::sheet::{Sheet, Unique, write_whole};

/// Labels of a cohort's scans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelTable {
    /// The tasks, in column order.
    pub tasks: Vec<String>,
    /// One row per scan.
    pub rows: Vec<LabelRow>,
}

/// Labels of one scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelRow {
    /// The scan, as in `scans.csv`.
    pub scan: String,
    /// Its patient's pseudonym.
    pub patient: String,
    /// One label per task; `None` is unlabeled.
    pub labels: Vec<Option<bool>>,
}

impl LabelTable {
    /// Reads a table. Columns `scan` and `patient` are required, every other one is a task.
    ///
    /// # Errors
    /// A missing column, a scan twice, or a label other than 0, 1 or empty, with row and column.
    pub fn read(path: &Path) -> Result<Self, CohortError> {
        let mut sheet = Sheet::open(path)?;
        let (scan, patient) = (sheet.column("scan")?, sheet.column("patient")?);
        let columns: Vec<usize> = (0..sheet.header().len())
            .filter(|&column| column != scan && column != patient)
            .collect();
        let tasks = columns
            .iter()
            .map(|&column| sheet.header()[column].clone())
            .collect();
        let mut rows = Vec::new();
        let mut unique = Unique::default();
        while let Some(row) = sheet.next()? {
            unique.insert(&row, scan)?;
            rows.push(LabelRow {
                scan: row.required(scan)?.to_owned(),
                patient: row.required(patient)?.to_owned(),
                labels: columns
                    .iter()
                    .map(|&c| row.label(c))
                    .collect::<Result<_, _>>()?,
            });
        }
        Ok(Self { tasks, rows })
    }

    /// Reads the columns `scan` and `patient` of any table, other columns left unread.
    ///
    /// # Errors
    /// A missing column or a scan twice, with row and column.
    pub fn read_names(path: &Path) -> Result<Self, CohortError> {
        let mut sheet = Sheet::open(path)?;
        let (scan, patient) = (sheet.column("scan")?, sheet.column("patient")?);
        let mut table = Self::default();
        let mut unique = Unique::default();
        while let Some(row) = sheet.next()? {
            unique.insert(&row, scan)?;
            table.rows.push(LabelRow {
                scan: row.required(scan)?.to_owned(),
                patient: row.required(patient)?.to_owned(),
                labels: Vec::new(),
            });
        }
        Ok(table)
    }

    /// Reads a table and checks that it belongs to these scans: every row's scan is among them, with
    /// the same patient.
    ///
    /// # Errors
    /// As [`read`](Self::read), and a row of another scan or another patient.
    pub fn read_for(path: &Path, scans_path: &Path, scans: &[Scan]) -> Result<Self, CohortError> {
        let table = Self::read(path)?;
        let patients: BTreeMap<&str, &str> = scans
            .iter()
            .map(|scan| (scan.scan.as_str(), scan.patient.as_str()))
            .collect();
        for (index, row) in table.rows.iter().enumerate() {
            // Line 1 is the header.
            let line = index as u64 + 2;
            match patients.get(row.scan.as_str()) {
                None => {
                    return Err(CohortError::OtherScan {
                        place: Place::new(path, line, "scan"),
                        scan: row.scan.clone(),
                        scans: scans_path.to_owned(),
                    });
                }
                Some(&patient) if patient != row.patient => {
                    return Err(CohortError::Cell {
                        place: Place::new(path, line, "patient"),
                        found: format!("\"{}\"", row.patient),
                        expected: format!("\"{patient}\", the patient of that scan"),
                    });
                }
                Some(_) => {}
            }
        }
        Ok(table)
    }

    /// Writes the table.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), CohortError> {
        write_whole(path, |writer| {
            let header = ["scan", "patient"]
                .into_iter()
                .chain(self.tasks.iter().map(String::as_str));
            writer.write_record(header)?;
            for row in &self.rows {
                let cells = row.labels.iter().map(|label| match label {
                    None => "",
                    Some(false) => "0",
                    Some(true) => "1",
                });
                writer.write_record([row.scan.as_str(), &row.patient].into_iter().chain(cells))?;
            }
            Ok(())
        })
    }

    /// Position of a task, in any case.
    #[must_use]
    pub fn task(&self, name: &str) -> Option<usize> {
        self.tasks
            .iter()
            .position(|task| task.eq_ignore_ascii_case(name))
    }

    /// Label of a scan for a task by position; `None` where there is none.
    #[must_use]
    pub fn by_scan(&self, task: usize) -> BTreeMap<&str, bool> {
        let labeled = |row: &'_ LabelRow| row.labels.get(task).copied().flatten();
        self.rows
            .iter()
            .filter_map(|row| labeled(row).map(|label| (row.scan.as_str(), label)))
            .collect()
    }

    /// The patients, each once.
    #[must_use]
    pub fn patients(&self) -> BTreeSet<&str> {
        self.rows.iter().map(|row| row.patient.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<LabelTable, CohortError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.csv");
        std::fs::write(&path, text).unwrap();
        LabelTable::read(&path)
    }

    #[test]
    fn labels_read_back_as_they_were_written_and_empty_is_not_negative() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.csv");
        let table = LabelTable {
            tasks: vec!["ICH".into(), "Tumor".into()],
            rows: vec![LabelRow {
                scan: "s1".into(),
                patient: "p1".into(),
                labels: vec![Some(true), None],
            }],
        };
        table.write(&path).unwrap();
        assert_eq!(LabelTable::read(&path).unwrap(), table);
        assert_eq!(table.by_scan(0), BTreeMap::from([("s1", true)]));
        assert_eq!(table.by_scan(1), BTreeMap::new());
    }

    #[test]
    fn labels_of_other_scans_or_patients_are_refused_by_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.csv");
        let scans = [crate::cohort::bare_scan("s1", "p1", None)];
        for (text, words) in [
            (
                "scan,patient,ICH\ns1,p1,1\ns9,p1,1\n",
                "row 3 column scan: scan \"s9\" is not in scans.csv",
            ),
            (
                "scan,patient,ICH\ns1,p2,1\n",
                "row 2 column patient: \"p2\", expected \"p1\"",
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = LabelTable::read_for(&path, Path::new("scans.csv"), &scans).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn columns_are_bound_by_name_not_by_place() {
        let table = read("ICH,patient,scan\n1,p,s\n").unwrap();
        assert_eq!(
            (table.rows[0].scan.as_str(), table.rows[0].labels[0]),
            ("s", Some(true))
        );
    }

    #[test]
    fn bad_rows_are_named_by_row_and_column() {
        for (text, words) in [
            (
                "scan,patient,ICH\ns1,p,2\n",
                "row 2 column ICH: \"2\", expected 0, 1 or an empty cell",
            ),
            (
                "scan,patient,ICH\ns1,p,1\ns1,p,1\n",
                "row 3 column scan: \"s1\" stands already in row 2",
            ),
            (
                "scan,patient,ICH\n,p,1\n",
                "row 2 column scan: an empty cell",
            ),
            ("scan,ICH\ns1,1\n", "no column \"patient\""),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
