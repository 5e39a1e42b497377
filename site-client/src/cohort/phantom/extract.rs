//! Health records of phantom patients, in the three forms the label readers know.
//!
//! Every scan is a visit with some everyday diagnoses and the codes of the patient's diseases within
//! ten days. The errors of the site's records are drawn per patient and disease: never coded, or
//! coded only after the 90-day window has closed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use core_model::phantom::{Disease, Site, Stream};
use jiff::ToSpan;
use jiff::civil::Date;
use serde_json::json;

use super::super::error::CohortError;
use super::super::records::{Fact, RecordFormat};
use super::super::sheet::write_whole;
use super::{Chart, sex};

/// Codes that say nothing about the ten diseases.
const EVERYDAY: [&str; 6] = ["I10", "E11.9", "R51.9", "S09.90XA", "R41.82", "E78.5"];
const DEMENTIA_DRUGS: [&str; 3] = [
    "donepezil hydrochloride 10 MG Oral Tablet",
    "MEMANTINE 5 MG",
    "Rivastigmine 4.6 mg/24h patch",
];
const OTHER_DRUGS: [&str; 3] = [
    "lisinopril 10 MG",
    "Levetiracetam 500 MG",
    "acetaminophen 325 MG",
];
/// Share of dementia that shows only in the medication.
const BY_DRUG_ONLY: f64 = 0.25;

/// Codes of a disease that mean no other of the ten (ICH apart).
const fn codes(disease: Disease) -> &'static [&'static str] {
    match disease {
        Disease::Tumor => &["C71.9", "C71.1", "C79.31", "D33.2"],
        Disease::Hydrocephalus => &["G91.0", "G91.1", "G91.2", "G91.9"],
        Disease::Edema => &["G93.6", "G93.5", "G93.82"],
        Disease::Adrd => &["G30.9", "F03.90", "F01.50", "G31.84"],
        Disease::Iph => &["I61.0", "I61.1", "I61.9", "I61.4"],
        Disease::Ivh => &["I61.5"],
        Disease::Sdh => &["S06.5X0A", "I62.00", "I62.01"],
        Disease::Edh => &["S06.4X0A", "I62.1"],
        Disease::Sah => &["I60.9", "I60.7", "S06.6X0A"],
        // The table's ICH holds IPH, IVH and unspecified bleeding; wards code the last beside any.
        Disease::Ich => &["I62.9"],
    }
}

/// One patient's records.
struct Record {
    date: Date,
    fact: Fact,
}

pub(super) fn write(
    folder: &Path,
    format: RecordFormat,
    site: &Site,
    charts: &[Chart],
) -> Result<(), CohortError> {
    let records: Vec<(&Chart, Vec<Record>)> = charts
        .iter()
        .map(|chart| (chart, records(site, chart)))
        .collect();
    match format {
        RecordFormat::Plain => plain(folder, &records),
        RecordFormat::Omop => omop(folder, &records),
        RecordFormat::Fhir => fhir(folder, &records),
    }
}

fn records(site: &Site, chart: &Chart) -> Vec<Record> {
    let noise = site.profile().records;
    let mut stream = chart.patient.record_stream(1);
    let mut records = Vec::new();
    if stream.chance(noise.unlisted) {
        return records;
    }
    let last = chart
        .visits
        .iter()
        .map(|visit| visit.time.date())
        .max()
        .unwrap_or(Date::MIN);
    let mut fates = BTreeMap::new();
    for disease in chart.patient.truth().diseases.iter() {
        let fate = [
            1.0 - noise.missed - noise.delayed,
            noise.missed,
            noise.delayed,
        ];
        fates.insert(disease, stream.pick(fate));
    }
    for visit in &chart.visits {
        let day = visit.time.date();
        let mut add = |date: Date, fact: Fact| records.push(Record { date, fact });
        let everyday = EVERYDAY[stream.pick([1.0; EVERYDAY.len()])];
        add(day, Fact::Code(everyday.to_owned()));
        if stream.chance(0.5) {
            let drug = OTHER_DRUGS[stream.pick([1.0; OTHER_DRUGS.len()])];
            add(day, Fact::Medication(drug.to_owned()));
        }
        for (&disease, &fate) in &fates {
            let fact = fact(disease, &mut stream);
            let soon = stream.uniform(0.0, 10.0) as i32;
            let late = stream.uniform(100.0, 200.0) as i32;
            match fate {
                0 => add(day.saturating_add(soon.days()), fact),
                1 => {}
                _ => add(last.saturating_add(late.days()), fact),
            }
        }
    }
    records
}

fn fact(disease: Disease, stream: &mut Stream) -> Fact {
    if disease == Disease::Adrd && stream.chance(BY_DRUG_ONLY) {
        let drug = DEMENTIA_DRUGS[stream.pick([1.0; DEMENTIA_DRUGS.len()])];
        return Fact::Medication(drug.to_owned());
    }
    let codes = codes(disease);
    Fact::Code(codes[stream.pick(codes.iter().map(|_| 1.0))].to_owned())
}

fn plain(folder: &Path, records: &[(&Chart, Vec<Record>)]) -> Result<(), CohortError> {
    write_whole(&folder.join("diagnoses.csv"), |writer| {
        writer.write_record(["patient", "date", "code", "system"])?;
        for (chart, record) in flat(records) {
            if let Fact::Code(code) = &record.fact {
                writer.write_record([&chart.name, &record.date.to_string(), code, "ICD-10-CM"])?;
            }
        }
        Ok(())
    })?;
    write_whole(&folder.join("medications.csv"), |writer| {
        writer.write_record(["patient", "date", "name"])?;
        for (chart, record) in flat(records) {
            if let Fact::Medication(name) = &record.fact {
                writer.write_record([&chart.name, &record.date.to_string(), name])?;
            }
        }
        Ok(())
    })
}

fn omop(folder: &Path, records: &[(&Chart, Vec<Record>)]) -> Result<(), CohortError> {
    // Concepts are numbered from where OMOP keeps a site's own.
    let mut concepts: BTreeMap<&Fact, u64> = BTreeMap::new();
    for (_, record) in flat(records) {
        let next = 2_000_000_001 + concepts.len() as u64;
        concepts.entry(&record.fact).or_insert(next);
    }
    write_whole(&folder.join("concept.csv"), |writer| {
        writer.write_record([
            "concept_id",
            "concept_name",
            "domain_id",
            "vocabulary_id",
            "concept_code",
        ])?;
        for (fact, id) in &concepts {
            let id = id.to_string();
            match fact {
                Fact::Code(code) => {
                    writer.write_record([&id, code, "Condition", "ICD10CM", code])?
                }
                Fact::Medication(name) => {
                    writer.write_record([&id, name, "Drug", "RxNorm", &id])?
                }
            }
        }
        Ok(())
    })?;
    write_whole(&folder.join("person.csv"), |writer| {
        writer.write_record(["person_id", "gender_source_value", "person_source_value"])?;
        for (chart, _) in records {
            let id = chart.patient.index().to_string();
            writer.write_record([&id, sex(chart.patient.sex()), &chart.name])?;
        }
        Ok(())
    })?;
    write_whole(&folder.join("condition_occurrence.csv"), |writer| {
        writer.write_record([
            "condition_occurrence_id",
            "person_id",
            "condition_concept_id",
            "condition_start_date",
            "condition_source_value",
            "condition_source_concept_id",
        ])?;
        let codes = flat(records).filter(|(_, record)| matches!(record.fact, Fact::Code(_)));
        for (number, (chart, record)) in codes.enumerate() {
            let Fact::Code(code) = &record.fact else {
                continue;
            };
            writer.write_record([
                &number.to_string(),
                &chart.patient.index().to_string(),
                "0",
                &record.date.to_string(),
                code,
                &concepts[&record.fact].to_string(),
            ])?;
        }
        Ok(())
    })?;
    write_whole(&folder.join("drug_exposure.csv"), |writer| {
        writer.write_record([
            "drug_exposure_id",
            "person_id",
            "drug_concept_id",
            "drug_exposure_start_date",
            "drug_source_value",
        ])?;
        let drugs = flat(records).filter(|(_, record)| matches!(record.fact, Fact::Medication(_)));
        for (number, (chart, record)) in drugs.enumerate() {
            writer.write_record([
                &number.to_string(),
                &chart.patient.index().to_string(),
                &concepts[&record.fact].to_string(),
                &record.date.to_string(),
                "",
            ])?;
        }
        Ok(())
    })
}

fn fhir(folder: &Path, records: &[(&Chart, Vec<Record>)]) -> Result<(), CohortError> {
    let mut patients = String::new();
    let mut conditions = String::new();
    let mut medications = String::new();
    for (chart, _) in records {
        let resource = json!({
            "resourceType": "Patient",
            "id": format!("pt-{}", chart.patient.index()),
            "identifier": [{"value": chart.name}],
            "gender": if sex(chart.patient.sex()) == "M" { "male" } else { "female" },
        });
        patients += &format!("{resource}\n");
    }
    for (number, (chart, record)) in flat(records).enumerate() {
        let subject = json!({"reference": format!("Patient/pt-{}", chart.patient.index())});
        match &record.fact {
            Fact::Code(code) => {
                // Some systems drop the dot.
                let code = if number % 3 == 0 {
                    code.replace('.', "")
                } else {
                    code.clone()
                };
                let resource = json!({
                    "resourceType": "Condition",
                    "id": format!("c-{number}"),
                    "subject": subject,
                    "recordedDate": record.date.to_string(),
                    "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": code}]},
                });
                conditions += &format!("{resource}\n");
            }
            Fact::Medication(name) => {
                let resource = json!({
                    "resourceType": "MedicationRequest",
                    "id": format!("m-{number}"),
                    "status": "active",
                    "subject": subject,
                    "authoredOn": record.date.to_string(),
                    "medicationCodeableConcept": {"text": name},
                });
                medications += &format!("{resource}\n");
            }
        }
    }
    for (name, text) in [
        ("Patient", patients),
        ("Condition", conditions),
        ("MedicationRequest", medications),
    ] {
        let path = folder.join(format!("{name}.ndjson"));
        fs::write(&path, text).map_err(CohortError::io(&path))?;
    }
    Ok(())
}

fn flat<'a>(
    records: &'a [(&'a Chart, Vec<Record>)],
) -> impl Iterator<Item = (&'a Chart, &'a Record)> {
    records
        .iter()
        .flat_map(|(chart, records)| records.iter().map(|record| (*chart, record)))
}
