//! FHIR NDJSON (bulk export, R4 and R5): Condition, MedicationRequest, MedicationStatement, Patient.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::define::is_icd10;
use super::super::error::{CohortError, Place};
use super::date::{DateColumn, Reading};
use super::{Fact, Records, Trouble};

/// ICD-10, ICD-10-CM, ICD-10-GM as URLs and as object identifiers.
const ICD10_SYSTEMS: [&str; 5] = [
    "http://hl7.org/fhir/sid/icd-10",
    "http://hl7.org/fhir/sid/icd-10-cm",
    "http://fhir.de/CodeSystem/bfarm/icd-10-gm",
    "urn:oid:2.16.840.1.113883.6.3",
    "urn:oid:2.16.840.1.113883.6.90",
];

/// The NDJSON files of a folder, by name.
pub(super) fn documents(folder: &Path) -> Result<Vec<PathBuf>, CohortError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(CohortError::io(folder))? {
        let path = entry.map_err(CohortError::io(folder))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "ndjson")
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

pub(super) fn read(folder: &Path, records: &mut Records) -> Result<(), CohortError> {
    let documents = documents(folder)?;
    let mut pseudonyms = BTreeMap::new();
    for path in &documents {
        for_each(path, |_, resource| {
            if resource["resourceType"] == "Patient" {
                let value = &resource["identifier"][0]["value"];
                if let (Some(id), Some(pseudonym)) = (resource["id"].as_str(), value.as_str()) {
                    pseudonyms.insert(id.to_owned(), pseudonym.to_owned());
                }
            }
            Ok(())
        })?;
    }
    for path in &documents {
        let mut dates = DateColumn::new(None);
        for_each(path, |line, resource| {
            let resource = Resource {
                path,
                line,
                value: resource,
                pseudonyms: &pseudonyms,
            };
            match resource.value["resourceType"].as_str() {
                Some("Condition") => resource.condition(&mut dates, records),
                Some("MedicationRequest") => {
                    resource.medication(&["authoredOn"], &mut dates, records)
                }
                Some("MedicationStatement") => resource.medication(
                    &["effectiveDateTime", "effectivePeriod.start", "dateAsserted"],
                    &mut dates,
                    records,
                ),
                _ => Ok(()),
            }
        })?;
    }
    Ok(())
}

struct Resource<'a> {
    path: &'a Path,
    line: u64,
    value: &'a Value,
    pseudonyms: &'a BTreeMap<String, String>,
}

impl Resource<'_> {
    fn condition(&self, dates: &mut DateColumn, records: &mut Records) -> Result<(), CohortError> {
        let codings = self.value["code"]["coding"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let code = codings.iter().find_map(|coding| {
            let system = coding["system"].as_str()?.trim_end_matches('/');
            let code = coding["code"].as_str()?;
            (ICD10_SYSTEMS.contains(&system) && is_icd10(code)).then(|| code.to_owned())
        });
        let fact = code.map(Fact::Code);
        let paths = ["onsetDateTime", "onsetPeriod.start", "recordedDate"];
        self.keep(fact, "code", &paths, dates, records)
    }

    fn medication(
        &self,
        paths: &[&str],
        dates: &mut DateColumn,
        records: &mut Records,
    ) -> Result<(), CohortError> {
        // R4 says medicationCodeableConcept or a reference to a contained resource; R5 medication.
        let concept = [
            &self.value["medicationCodeableConcept"],
            &self.value["medication"]["concept"],
            &self.value["contained"][0]["code"],
        ]
        .into_iter()
        .find(|concept| concept.is_object());
        let name = concept.map(|concept| {
            let displays = concept["coding"].as_array().map_or(&[][..], Vec::as_slice);
            let texts = displays
                .iter()
                .filter_map(|coding| coding["display"].as_str());
            texts
                .chain(concept["text"].as_str())
                .collect::<Vec<_>>()
                .join(" | ")
        });
        let fact = name.filter(|name| !name.is_empty()).map(Fact::Medication);
        self.keep(fact, "medication", paths, dates, records)
    }

    fn keep(
        &self,
        fact: Option<Fact>,
        fact_name: &str,
        date_paths: &[&str],
        dates: &mut DateColumn,
        records: &mut Records,
    ) -> Result<(), CohortError> {
        let withdrawn = [
            &self.value["verificationStatus"]["coding"][0]["code"],
            &self.value["status"],
        ]
        .into_iter()
        .filter_map(Value::as_str)
        .any(|status| matches!(status, "entered-in-error" | "refuted" | "cancelled"));
        if withdrawn {
            records.trouble(Trouble::Withdrawn, self.place("status"));
            return Ok(());
        }
        let reference = self.value["subject"]["reference"]
            .as_str()
            .unwrap_or_default();
        let id = reference
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .trim_start_matches("urn:uuid:");
        if id.is_empty() {
            records.trouble(Trouble::NoPatient, self.place("subject"));
            return Ok(());
        }
        let Some(fact) = fact else {
            records.trouble(Trouble::UnknownCodeSystem, self.place(fact_name));
            return Ok(());
        };
        let found = date_paths
            .iter()
            .find_map(|path| self.text(path).map(|text| (*path, text)));
        let Some((path, text)) = found else {
            records.trouble(Trouble::UnparsableDate, self.place(date_paths[0]));
            return Ok(());
        };
        match dates.read(text, || self.place(path))? {
            Reading::Date(day) => {
                records.push(
                    self.pseudonyms.get(id).map_or(id, String::as_str),
                    (day, fact),
                    self.place(path),
                );
            }
            Reading::None => records.trouble(Trouble::UnparsableDate, self.place(path)),
        }
        Ok(())
    }

    fn text(&self, path: &str) -> Option<&str> {
        path.split('.')
            .try_fold(self.value, |value, key| value.get(key))
            .and_then(Value::as_str)
    }

    fn place(&self, column: &str) -> Place {
        Place::new(self.path, self.line, column)
    }
}

fn for_each(
    path: &Path,
    mut each: impl FnMut(u64, &Value) -> Result<(), CohortError>,
) -> Result<(), CohortError> {
    let file = File::open(path).map_err(CohortError::io(path))?;
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(CohortError::io(path))?;
        let number = index as u64 + 1;
        let text = line.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            continue;
        }
        let resource: Value = serde_json::from_str(text).map_err(|error| CohortError::Cell {
            place: Place::new(path, number, error.column().to_string()),
            found: "a line that is no JSON".to_owned(),
            expected: "one FHIR resource per line".to_owned(),
        })?;
        each(number, &resource)?;
    }
    Ok(())
}
