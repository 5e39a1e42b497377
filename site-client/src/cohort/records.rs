//! Health records in three forms: plain CSV, OMOP CSV, FHIR NDJSON.

mod date;
mod fhir;
mod mapping;
mod omop;
mod plain;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use serde::Serialize;

use super::error::CohortError;
use super::sheet::Sheet;

pub use mapping::Mapping;

/// Most places listed for one kind of trouble; all are counted.
const MOST_LISTED: usize = 20;

/// What one record says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// An ICD-10 code.
    Code(String),
    /// A drug's text.
    Medication(String),
}

/// The records of a cohort, by patient, and what could not be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    by_patient: BTreeMap<String, History>,
    troubles: BTreeMap<Trouble, Places>,
}

/// What is known of one patient.
#[derive(Clone, Debug, PartialEq, Eq)]
struct History {
    facts: Vec<(Date, Fact)>,
    /// Where the first of them stands.
    place: String,
}

/// Why a record was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// A code of a system other than ICD-10, or that is no ICD-10 code.
    UnknownCodeSystem,
    /// A date that is none.
    UnparsableDate,
    /// A record that names no patient the reader can find.
    NoPatient,
    /// A record of a patient without a scan.
    UnknownPatient,
    /// A record marked as an error or refuted.
    Withdrawn,
}

/// How often, and where at first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Places {
    /// All of them.
    pub count: u64,
    /// The first few: file, row, column; of unknown patients the first record of each.
    pub first: Vec<String>,
}

/// The form of a folder of health records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RecordFormat {
    /// `diagnoses.csv` and `medications.csv`.
    Plain,
    /// OMOP common data model tables as CSV.
    Omop,
    /// FHIR resources, one JSON document per line.
    Fhir,
}

impl RecordFormat {
    /// The form of the files in a folder.
    ///
    /// # Errors
    /// A folder that cannot be listed or holds none of the three.
    pub fn detect(folder: &Path, mapping: &Mapping) -> Result<Self, CohortError> {
        if folder.join(&mapping.diagnoses.file).is_file() {
            Ok(Self::Plain)
        } else if folder.join(omop::CONDITIONS).is_file() {
            Ok(Self::Omop)
        } else if !fhir::documents(folder)?.is_empty() {
            Ok(Self::Fhir)
        } else {
            Err(CohortError::NoRecords {
                path: folder.to_owned(),
            })
        }
    }
}

impl Records {
    /// Reads a folder of records.
    ///
    /// # Errors
    /// A missing file or column, a broken line, or dates of mixed forms, with row and column.
    pub fn read(
        folder: &Path,
        format: RecordFormat,
        mapping: &Mapping,
    ) -> Result<Self, CohortError> {
        let mut records = Self::default();
        match format {
            RecordFormat::Plain => plain::read(folder, mapping, &mut records)?,
            RecordFormat::Omop => omop::read(folder, &mut records)?,
            RecordFormat::Fhir => fhir::read(folder, &mut records)?,
        }
        records.sort();
        Ok(records)
    }

    /// A patient's records, by date.
    #[must_use]
    pub fn of(&self, patient: &str) -> &[(Date, Fact)] {
        self.by_patient
            .get(patient)
            .map_or(&[], |history| &history.facts)
    }

    /// The patients with records.
    pub fn patients(&self) -> impl Iterator<Item = &str> {
        self.by_patient.keys().map(String::as_str)
    }

    /// What was left out and why.
    #[must_use]
    pub const fn troubles(&self) -> &BTreeMap<Trouble, Places> {
        &self.troubles
    }

    /// Renames the records' patients by a table with columns `patient` (the pseudonym) and `mrn` or
    /// `record` (the name in the records), as `mrn.csv` of an import; those not in it keep their
    /// names. A patient of several scans may stand there several times.
    ///
    /// # Errors
    /// A missing column, an empty cell, or a record name with two pseudonyms, with row and column.
    pub fn link(&mut self, path: &Path) -> Result<(), CohortError> {
        let mut sheet = Sheet::open(path)?;
        let patient = sheet.column("patient")?;
        let record = match sheet.find("mrn") {
            Some(column) => column,
            None => sheet.column("record")?,
        };
        let mut pseudonyms: BTreeMap<String, (String, u64)> = BTreeMap::new();
        while let Some(row) = sheet.next()? {
            let name = row.required(record)?;
            let here = (row.required(patient)?.to_owned(), row.line());
            let (before, first) = pseudonyms
                .entry(name.to_owned())
                .or_insert_with(|| here.clone());
            if *before != here.0 {
                return Err(CohortError::Twice {
                    place: row.place(record),
                    key: name.to_owned(),
                    first: *first,
                });
            }
        }
        for (name, history) in std::mem::take(&mut self.by_patient) {
            let pseudonym = match pseudonyms.get(&name) {
                Some((pseudonym, _)) => pseudonym.clone(),
                None => name,
            };
            match self.by_patient.entry(pseudonym) {
                Entry::Occupied(mut known) => known.get_mut().facts.extend(history.facts),
                Entry::Vacant(place) => {
                    place.insert(history);
                }
            }
        }
        self.sort();
        Ok(())
    }

    fn sort(&mut self) {
        for History { facts, .. } in self.by_patient.values_mut() {
            facts.sort();
            facts.dedup();
        }
    }

    pub(crate) fn push(&mut self, patient: &str, (date, fact): (Date, Fact), place: impl ToString) {
        let history = self
            .by_patient
            .entry(patient.to_owned())
            .or_insert_with(|| History {
                facts: Vec::new(),
                place: place.to_string(),
            });
        history.facts.push((date, fact));
    }

    pub(crate) fn trouble(&mut self, trouble: Trouble, place: impl ToString) {
        let places = self.troubles.entry(trouble).or_default();
        places.count += 1;
        if places.first.len() < MOST_LISTED {
            places.first.push(place.to_string());
        }
    }

    /// Leaves out, and counts, the records of patients that are not in the cohort.
    pub(crate) fn keep_patients(&mut self, known: impl Fn(&str) -> bool) {
        let strangers: Vec<String> = self
            .by_patient
            .keys()
            .filter(|patient| !known(patient))
            .cloned()
            .collect();
        for patient in strangers {
            // The name of a stranger is no business of the report.
            let Some(History { facts, place }) = self.by_patient.remove(&patient) else {
                continue;
            };
            self.trouble(Trouble::UnknownPatient, place);
            let places = self.troubles.entry(Trouble::UnknownPatient).or_default();
            places.count += facts.len() as u64 - 1;
        }
    }
}

/// A file of a folder that must be there.
fn existing(folder: &Path, name: &str) -> Result<PathBuf, CohortError> {
    let path = folder.join(name);
    if path.is_file() {
        return Ok(path);
    }
    let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
    Err(CohortError::Io {
        path,
        source: missing,
    })
}
