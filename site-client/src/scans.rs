//! `scans.csv`: one row per accepted scan of a cohort. No name, no birth date, no identifier a PACS
//! would know.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One scan, as [`read`] finds it and [`write()`] keeps it; columns are bound by header name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// Keyed hash of the series, unique in the cohort; names `nifti/<scan>.nii.gz`.
    pub scan: String,
    /// Pseudonym: a keyed hash of the patient's identifier.
    pub patient: String,
    /// The NIfTI file, relative to the cohort's folder.
    pub file: PathBuf,
    /// When the study began, local time of the site, `YYYY-MM-DDTHH:MM:SS`.
    pub study_time: Option<jiff::civil::DateTime>,
    /// Age at the study in years.
    pub age_years: Option<f32>,
    /// `F`, `M` or `O`.
    pub sex: Option<String>,
    /// Maker of the scanner.
    pub manufacturer: Option<String>,
    /// Model of the scanner.
    pub model: Option<String>,
    /// Convolution kernel.
    pub kernel: Option<String>,
    /// Peak tube voltage.
    pub kvp: Option<f32>,
    /// Slice thickness in mm.
    pub thickness_mm: Option<f32>,
    /// Spacing along a row of a slice, in mm.
    pub spacing_x_mm: f32,
    /// Spacing along a column of a slice, in mm.
    pub spacing_y_mm: f32,
    /// Spacing between slices, in mm.
    pub spacing_z_mm: f32,
    /// Rows of a slice.
    pub rows: usize,
    /// Columns of a slice.
    pub columns: usize,
    /// Slices.
    pub slices: usize,
    /// Body part examined.
    pub body_part: Option<String>,
    /// Whether contrast was given, where known.
    pub contrast: Option<bool>,
    /// What was repaired, separated by `;`.
    pub flags: String,
    /// BLAKE3 digest of the voxels and geometry, hex.
    pub digest: String,
}

/// Why a table of scans cannot be read or written.
#[derive(Debug, Error)]
pub enum ScansError {
    /// The file, or a row of it.
    #[error("scans table {}: cannot be read or written", path.display())]
    Csv {
        /// The table.
        path: PathBuf,
        /// What is wrong.
        source: csv::Error,
    },
    /// A file without a header.
    #[error("scans table {} row 1 column 1: the file is empty, expected a header", path.display())]
    Empty {
        /// The table.
        path: PathBuf,
    },
    /// Two rows name one scan.
    #[error("scans table {} row {row} column scan: \"{scan}\" stands already in row {first}", path.display())]
    Duplicate {
        /// The table.
        path: PathBuf,
        /// The scan.
        scan: String,
        /// Line of the second.
        row: u64,
        /// Line of the first.
        first: u64,
    },
}

/// The table's name in a cohort's folder.
pub const FILE_NAME: &str = "scans.csv";

/// Reads a table, refusing a scan that appears twice.
///
/// # Errors
/// A file or row that cannot be read, an empty file, or a repeated scan, with row and column.
pub fn read(path: &Path) -> Result<Vec<Scan>, ScansError> {
    let csv_error = |source| ScansError::Csv {
        path: path.to_owned(),
        source,
    };
    let mut reader = csv::Reader::from_path(path).map_err(csv_error)?;
    let header = reader.headers().map_err(csv_error)?.clone();
    if header.is_empty() {
        return Err(ScansError::Empty {
            path: path.to_owned(),
        });
    }
    let mut scans = Vec::new();
    let mut lines = BTreeMap::new();
    for record in reader.records() {
        let record = record.map_err(csv_error)?;
        let scan: Scan = record.deserialize(Some(&header)).map_err(csv_error)?;
        let row = record.position().map_or(0, csv::Position::line);
        if let Some(first) = lines.insert(scan.scan.clone(), row) {
            return Err(ScansError::Duplicate {
                path: path.to_owned(),
                scan: scan.scan,
                row,
                first,
            });
        }
        scans.push(scan);
    }
    Ok(scans)
}

/// Writes a table; the old one stays until the new one is complete.
///
/// # Errors
/// A file that cannot be written.
pub fn write(path: &Path, scans: &[Scan]) -> Result<(), ScansError> {
    let csv_error = |source: csv::Error| ScansError::Csv {
        path: path.to_owned(),
        source,
    };
    let partial = path.with_extension("csv.partial");
    let mut writer = csv::Writer::from_path(&partial).map_err(csv_error)?;
    for scan in scans {
        writer.serialize(scan).map_err(csv_error)?;
    }
    let file = writer
        .into_inner()
        .map_err(|error| csv_error(error.into_error().into()))?;
    file.sync_all().map_err(|error| csv_error(error.into()))?;
    std::fs::rename(&partial, path).map_err(|error| csv_error(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(id: &str) -> Scan {
        Scan {
            scan: id.into(),
            patient: "p1".into(),
            file: format!("nifti/{id}.nii.gz").into(),
            study_time: Some(jiff::civil::date(2024, 3, 5).at(9, 30, 0, 0)),
            age_years: Some(71.0),
            sex: Some("F".into()),
            manufacturer: None,
            model: None,
            kernel: Some("Hr38".into()),
            kvp: Some(120.0),
            thickness_mm: Some(5.0),
            spacing_x_mm: 0.45,
            spacing_y_mm: 0.45,
            spacing_z_mm: 5.0,
            rows: 512,
            columns: 512,
            slices: 32,
            body_part: Some("HEAD".into()),
            contrast: Some(false),
            flags: "tilt;uneven".into(),
            digest: "00ff".into(),
        }
    }

    #[test]
    fn a_table_reads_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let scans = vec![scan("a"), scan("b")];
        write(&path, &scans).unwrap();
        assert_eq!(read(&path).unwrap(), scans);
    }

    #[test]
    fn an_empty_table_and_a_scan_twice_are_refused_by_row_and_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        write(&path, &[scan("a"), scan("b"), scan("a")]).unwrap();
        let error = read(&path).unwrap_err().to_string();
        let expected = "row 4 column scan: \"a\" stands already in row 2";
        assert!(error.contains(expected), "{error}");
        std::fs::write(&path, "").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(
            error.contains("row 1 column 1: the file is empty"),
            "{error}"
        );
    }

    #[test]
    fn a_byte_order_mark_does_not_hide_the_first_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        write(&path, &[scan("a")]).unwrap();
        let mut bytes = b"\xef\xbb\xbf".to_vec();
        bytes.extend(std::fs::read(&path).unwrap());
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(read(&path).unwrap(), [scan("a")]);
    }
}
