//! Names of files and columns of plain CSV records.

use std::path::Path;

use serde::Deserialize;

use super::super::error::CohortError;

/// Where plain CSV records keep what; read from a TOML file, every entry optional.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    /// Form of dates as for `strptime`, such as `%m/%d/%Y`; ISO 8601 without it.
    pub date_format: Option<String>,
    /// The table of diagnoses.
    pub diagnoses: Diagnoses,
    /// The table of medications.
    pub medications: Medications,
}

/// Columns of the table of diagnoses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Diagnoses {
    /// File name.
    pub file: String,
    /// Column of the pseudonym.
    pub patient: String,
    /// Column of the date.
    pub date: String,
    /// Column of the code.
    pub code: String,
    /// Column of the code system; absent where every code is ICD-10.
    pub system: Option<String>,
}

impl Default for Diagnoses {
    fn default() -> Self {
        Self {
            file: "diagnoses.csv".into(),
            patient: "patient".into(),
            date: "date".into(),
            code: "code".into(),
            system: None,
        }
    }
}

/// Columns of the table of medications.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Medications {
    /// File name; the file may be absent.
    pub file: String,
    /// Column of the pseudonym.
    pub patient: String,
    /// Column of the date.
    pub date: String,
    /// Column of the drug's text.
    pub name: String,
}

impl Default for Medications {
    fn default() -> Self {
        Self {
            file: "medications.csv".into(),
            patient: "patient".into(),
            date: "date".into(),
            name: "name".into(),
        }
    }
}

impl Mapping {
    /// Reads a mapping.
    ///
    /// # Errors
    /// A file that cannot be read or has an unknown entry.
    pub fn read(path: &Path) -> Result<Self, CohortError> {
        let text = std::fs::read_to_string(path).map_err(CohortError::io(path))?;
        toml::from_str(&text).map_err(CohortError::document(path))
    }
}
