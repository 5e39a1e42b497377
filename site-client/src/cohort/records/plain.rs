//! Plain CSV: one table of diagnoses, one of medications.

use std::path::Path;

use super::super::define::is_icd10;
use super::super::error::CohortError;
use super::super::sheet::Sheet;
use super::date::{DateColumn, Reading};
use super::{Fact, Mapping, Records, Trouble, existing};

pub(super) fn read(
    folder: &Path,
    mapping: &Mapping,
    records: &mut Records,
) -> Result<(), CohortError> {
    let columns = &mapping.diagnoses;
    let mut sheet = Sheet::open(&existing(folder, &columns.file)?)?;
    let (patient, date) = (
        sheet.column(&columns.patient)?,
        sheet.column(&columns.date)?,
    );
    let code = sheet.column(&columns.code)?;
    let system = match &columns.system {
        Some(name) => Some(sheet.column(name)?),
        None => sheet.find("system"),
    };
    let mut dates = DateColumn::new(mapping.date_format.clone());
    while let Some(row) = sheet.next()? {
        let day = dates.read(row.text(date), || row.place(date))?;
        if row.text(patient).is_empty() {
            records.trouble(Trouble::NoPatient, row.place(patient));
        } else if !is_icd10(row.text(code))
            || system.is_some_and(|column| !is_icd10_system(row.text(column)))
        {
            records.trouble(
                Trouble::UnknownCodeSystem,
                row.place(system.unwrap_or(code)),
            );
        } else if let Reading::Date(day) = day {
            records.push(
                row.text(patient),
                (day, Fact::Code(row.text(code).to_owned())),
                row.place(patient),
            );
        } else {
            records.trouble(Trouble::UnparsableDate, row.place(date));
        }
    }

    let columns = &mapping.medications;
    if !folder.join(&columns.file).is_file() {
        return Ok(());
    }
    let mut sheet = Sheet::open(&folder.join(&columns.file))?;
    let (patient, date) = (
        sheet.column(&columns.patient)?,
        sheet.column(&columns.date)?,
    );
    let name = sheet.column(&columns.name)?;
    let mut dates = DateColumn::new(mapping.date_format.clone());
    while let Some(row) = sheet.next()? {
        let day = dates.read(row.text(date), || row.place(date))?;
        if row.text(patient).is_empty() {
            records.trouble(Trouble::NoPatient, row.place(patient));
        } else if let Reading::Date(day) = day {
            records.push(
                row.text(patient),
                (day, Fact::Medication(row.text(name).to_owned())),
                row.place(patient),
            );
        } else {
            records.trouble(Trouble::UnparsableDate, row.place(date));
        }
    }
    Ok(())
}

/// ICD10, ICD-10, ICD10CM, ICD-10-CM and the like.
fn is_icd10_system(name: &str) -> bool {
    let letters: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_uppercase();
    letters.starts_with("ICD10") && !letters.contains("PCS")
}
