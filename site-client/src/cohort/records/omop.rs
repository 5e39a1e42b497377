//! OMOP common data model: `person`, `condition_occurrence`, `drug_exposure`, `concept`.
//!
//! Conditions carry a standard concept (SNOMED) and the source concept they came from; the ICD-10
//! code is the source concept's. Where that is 0, the source value is read if it is an ICD-10 code.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::define::is_icd10;
use super::super::error::CohortError;
use super::super::sheet::{Row, Sheet};
use super::date::{DateColumn, Reading};
use super::{Fact, Records, Trouble, existing};

/// The table that shows a folder to be OMOP.
pub(super) const CONDITIONS: &str = "condition_occurrence.csv";

/// What of a concept matters here.
enum Concept {
    Icd10(String),
    Drug(String),
}

pub(super) fn read(folder: &Path, records: &mut Records) -> Result<(), CohortError> {
    let persons = persons(folder)?;
    let concepts = concepts(folder)?;

    let mut sheet = Sheet::open(&existing(folder, CONDITIONS)?)?;
    let person = sheet.column("person_id")?;
    let date = sheet.column("condition_start_date")?;
    let source = sheet.column("condition_source_concept_id")?;
    let standard = sheet.column("condition_concept_id")?;
    let value = sheet.find("condition_source_value");
    let mut dates = DateColumn::new(None);
    while let Some(row) = sheet.next()? {
        let code =
            [source, standard]
                .iter()
                .find_map(|&column| match concepts.get(row.text(column)) {
                    Some(Concept::Icd10(code)) => Some(code.clone()),
                    _ => None,
                });
        let from_value = || {
            value
                .map(|column| row.text(column))
                .filter(|text| is_icd10(text))
        };
        let fact = code
            .or_else(|| from_value().map(str::to_owned))
            .map(Fact::Code);
        keep(
            records, &row, &persons, person, date, &mut dates, fact, source,
        )?;
    }

    if !folder.join("drug_exposure.csv").is_file() {
        return Ok(());
    }
    let mut sheet = Sheet::open(&folder.join("drug_exposure.csv"))?;
    let person = sheet.column("person_id")?;
    let date = sheet.column("drug_exposure_start_date")?;
    let concept = sheet.column("drug_concept_id")?;
    let value = sheet.find("drug_source_value");
    let mut dates = DateColumn::new(None);
    while let Some(row) = sheet.next()? {
        let name = match concepts.get(row.text(concept)) {
            Some(Concept::Drug(name)) => Some(name.clone()),
            _ => value
                .map(|column| row.text(column).to_owned())
                .filter(|text| !text.is_empty()),
        };
        keep(
            records,
            &row,
            &persons,
            person,
            date,
            &mut dates,
            name.map(Fact::Medication),
            concept,
        )?;
    }
    Ok(())
}

#[expect(
    clippy::too_many_arguments,
    reason = "the columns of one row, used in two places"
)]
fn keep(
    records: &mut Records,
    row: &Row<'_>,
    persons: &BTreeMap<String, String>,
    person: usize,
    date: usize,
    dates: &mut DateColumn,
    fact: Option<Fact>,
    fact_column: usize,
) -> Result<(), CohortError> {
    let day = dates.read(row.text(date), || row.place(date))?;
    match (persons.get(row.text(person)), fact, day) {
        (None, _, _) => records.trouble(Trouble::NoPatient, row.place(person)),
        (_, None, _) => records.trouble(Trouble::UnknownCodeSystem, row.place(fact_column)),
        (_, _, Reading::None) => records.trouble(Trouble::UnparsableDate, row.place(date)),
        (Some(patient), Some(fact), Reading::Date(day)) => {
            records.push(patient, (day, fact), row.place(person));
        }
    }
    Ok(())
}

/// Pseudonyms by person: `person_source_value`, or the number itself where that is empty.
fn persons(folder: &Path) -> Result<BTreeMap<String, String>, CohortError> {
    let mut sheet = Sheet::open(&existing(folder, "person.csv")?)?;
    let id = sheet.column("person_id")?;
    let source = sheet.find("person_source_value");
    let mut persons = BTreeMap::new();
    while let Some(row) = sheet.next()? {
        let pseudonym = source
            .map(|column| row.text(column))
            .filter(|text| !text.is_empty());
        let key = row.required(id)?.to_owned();
        persons.insert(key.clone(), pseudonym.map_or(key, str::to_owned));
    }
    Ok(persons)
}

/// The ICD-10 and drug concepts. The vocabulary holds millions of others, which are passed by.
fn concepts(folder: &Path) -> Result<BTreeMap<String, Concept>, CohortError> {
    let mut sheet = Sheet::open(&existing(folder, "concept.csv")?)?;
    let id = sheet.column("concept_id")?;
    let name = sheet.column("concept_name")?;
    let code = sheet.column("concept_code")?;
    let vocabulary = sheet.column("vocabulary_id")?;
    let domain = sheet.find("domain_id");
    let mut concepts = BTreeMap::new();
    while let Some(row) = sheet.next()? {
        let concept = match row.text(vocabulary) {
            "ICD10" | "ICD10CM" => Concept::Icd10(row.text(code).to_owned()),
            "RxNorm" | "RxNorm Extension" => Concept::Drug(row.text(name).to_owned()),
            _ if domain.is_some_and(|column| row.text(column) == "Drug") => {
                Concept::Drug(row.text(name).to_owned())
            }
            _ => continue,
        };
        concepts.insert(row.required(id)?.to_owned(), concept);
    }
    Ok(concepts)
}
