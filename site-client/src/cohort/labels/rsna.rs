//! RSNA 2019: labels of images (`stage_2_train.csv`) gathered into labels of series.
//!
//! The table says nothing about which images form a series: that stands in the headers of the DICOM
//! files, where each study has exactly one series. A series is positive if any of its slices is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dicom_object::OpenFileOptions;
use serde::Serialize;

use super::super::error::CohortError;
use super::super::sheet::Sheet;
use super::super::table::{LabelRow, LabelTable};

/// Subtypes as the table spells them, and their task.
const SUBTYPES: [(&str, &str); 6] = [
    ("epidural", "EDH"),
    ("intraparenchymal", "IPH"),
    ("intraventricular", "IVH"),
    ("subarachnoid", "SAH"),
    ("subdural", "SDH"),
    ("any", "ICH"),
];
const ALL_SUBTYPES: u8 = (1 << SUBTYPES.len()) - 1;
/// The one image of the set whose pixel data end early: its series lacks a slice.
const TRUNCATED: &str = "ID_6431af929";

/// Which series and patient each image belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceMap {
    series: Vec<(String, String)>,
    images: BTreeMap<String, usize>,
}

/// What happened to the images and series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RsnaReport {
    /// Series labeled.
    pub series: usize,
    /// Rows that repeat an earlier row word for word.
    pub duplicate_rows: u64,
    /// Images with labels but in no series given.
    pub images_without_series: u64,
    /// Series left out because an image of theirs has no complete set of labels.
    pub incomplete: Vec<String>,
    /// Series left out because an image of theirs is known to be truncated.
    pub truncated: Vec<String>,
}

impl SliceMap {
    /// Reads a table with columns `image`, `study`, `patient` and, optionally, `scan`: the scan's
    /// name in `scans.csv`, which is otherwise the study.
    ///
    /// # Errors
    /// A missing column, an empty cell, an image in two series, a series of two patients.
    pub fn read(path: &Path) -> Result<Self, CohortError> {
        let mut sheet = Sheet::open(path)?;
        let (image, study) = (sheet.column("image")?, sheet.column("study")?);
        let (patient, scan) = (sheet.column("patient")?, sheet.find("scan"));
        let mut builder = Builder::default();
        while let Some(row) = sheet.next()? {
            let series = scan.map_or_else(|| row.required(study), |column| row.required(column))?;
            let added = builder.add(row.required(image)?, series, row.required(patient)?);
            added.map_err(|found| {
                row.error(image, found, "one series per image, one patient per series")
            })?;
        }
        Ok(builder.map)
    }

    /// Reads the headers of a folder of DICOM files, pixel data left unread.
    ///
    /// # Errors
    /// A folder or file that cannot be read, or an identifier missing.
    pub fn from_dicom(folder: &Path) -> Result<Self, CohortError> {
        let mut builder = Builder::default();
        for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
            let entry = entry.map_err(CohortError::document(folder))?;
            let path = entry.path();
            if !entry.file_type().is_file() || path.extension().is_none_or(|e| e != "dcm") {
                continue;
            }
            let object = OpenFileOptions::new()
                .read_until(dicom_object::Tag(0x7fe0, 0x0010))
                .open_file(path)
                .map_err(CohortError::document(path))?;
            let text = |name: &str| -> Result<String, CohortError> {
                let element = object
                    .element_by_name(name)
                    .map_err(CohortError::document(path))?;
                let text = element.to_str().map_err(CohortError::document(path))?;
                Ok(text.trim_end_matches(['\0', ' ']).to_owned())
            };
            let (image, study) = (text("SOPInstanceUID")?, text("StudyInstanceUID")?);
            let added = builder.add(&image, &study, &text("PatientID")?);
            added.map_err(|found| {
                let object = path.display().to_string();
                CohortError::rule(
                    object,
                    found,
                    "one series per image, one patient per series",
                )
            })?;
        }
        Ok(builder.map)
    }
}

#[derive(Default)]
struct Builder {
    map: SliceMap,
    positions: BTreeMap<String, usize>,
}

impl Builder {
    fn add(&mut self, image: &str, series: &str, patient: &str) -> Result<(), String> {
        let position = match self.positions.get(series) {
            Some(&position) => position,
            None => {
                self.positions
                    .insert(series.to_owned(), self.map.series.len());
                self.map
                    .series
                    .push((series.to_owned(), patient.to_owned()));
                self.map.series.len() - 1
            }
        };
        if self.map.series[position].1 != patient {
            return Err(format!("series {series} of two patients"));
        }
        match self.map.images.insert(image.to_owned(), position) {
            Some(before) if before != position => Err(format!("image {image} in two series")),
            _ => Ok(()),
        }
    }
}

/// Labels of series: EDH, IPH, IVH, SAH, SDH and ICH, each the largest over the slices.
///
/// # Errors
/// A row that is no `ID_<image>_<subtype>`, a label other than 0 or 1, or two rows that contradict
/// each other, with row and column.
pub fn from_rsna(path: &Path, map: &SliceMap) -> Result<(LabelTable, RsnaReport), CohortError> {
    let mut sheet = Sheet::open(path)?;
    let (id, label) = (sheet.column("ID")?, sheet.column("Label")?);
    let mut report = RsnaReport::default();
    // Per image: subtypes seen, subtypes positive.
    let mut images: BTreeMap<String, (u8, u8)> = BTreeMap::new();
    while let Some(row) = sheet.next()? {
        let expected = "ID_<image>_<subtype>, the subtype one of epidural, intraparenchymal, \
                        intraventricular, subarachnoid, subdural, any";
        let text = row.required(id)?;
        let (image, subtype) = text
            .rsplit_once('_')
            .ok_or_else(|| row.error(id, format!("\"{text}\""), expected))?;
        let bit = SUBTYPES
            .iter()
            .position(|(name, _)| *name == subtype)
            .ok_or_else(|| row.error(id, format!("\"{text}\""), expected))?;
        let Some(positive) = row.label(label)? else {
            return Err(row.error(label, "an empty cell", "0 or 1"));
        };
        let mask = 1_u8 << bit;
        let entry = images.entry(image.to_owned()).or_default();
        if entry.0 & mask != 0 {
            if (entry.1 & mask != 0) != positive {
                return Err(row.error(
                    label,
                    "a label unlike that of an earlier row",
                    "one label per image and subtype",
                ));
            }
            report.duplicate_rows += 1;
        }
        entry.0 |= mask;
        entry.1 |= if positive { mask } else { 0 };
    }

    let mut positive = vec![0_u8; map.series.len()];
    let mut left_out: BTreeSet<usize> = BTreeSet::new();
    let mut truncated: BTreeSet<usize> = BTreeSet::new();
    for (image, &series) in &map.images {
        match images.remove(image) {
            Some((ALL_SUBTYPES, found)) => positive[series] |= found,
            _ => {
                left_out.insert(series);
            }
        }
        if image == TRUNCATED {
            truncated.insert(series);
        }
    }
    report.images_without_series = images.len() as u64;
    let mut table = LabelTable {
        tasks: SUBTYPES
            .iter()
            .map(|(_, task)| (*task).to_owned())
            .collect(),
        rows: Vec::new(),
    };
    for (index, (series, patient)) in map.series.iter().enumerate() {
        if truncated.contains(&index) {
            report.truncated.push(series.clone());
        } else if left_out.contains(&index) {
            report.incomplete.push(series.clone());
        } else {
            let labels = (0..SUBTYPES.len()).map(|bit| Some(positive[index] & (1 << bit) != 0));
            table.rows.push(LabelRow {
                scan: series.clone(),
                patient: patient.clone(),
                labels: labels.collect(),
            });
        }
    }
    report.series = table.rows.len();
    Ok((table, report))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(labels: &str, slices: &str) -> Result<(LabelTable, RsnaReport), CohortError> {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (
            folder.path().join("stage_2_train.csv"),
            folder.path().join("slices.csv"),
        );
        std::fs::write(&a, labels).unwrap();
        std::fs::write(&b, slices).unwrap();
        from_rsna(&a, &SliceMap::read(&b)?)
    }

    /// All six rows of an image, positive where named. The values are made up.
    fn rows(image: &str, positive: &[&str]) -> String {
        SUBTYPES
            .iter()
            .map(|(name, _)| format!("{image}_{name},{}\n", u8::from(positive.contains(name))))
            .collect()
    }

    const SLICES: &str = "image,study,patient\n\
        ID_00000000a,ID_study0001,ID_pat1\nID_00000000b,ID_study0001,ID_pat1\n\
        ID_00000000c,ID_study0002,ID_pat1\nID_00000000d,ID_study0003,ID_pat2\n";

    #[test]
    fn a_series_is_positive_if_any_slice_is() {
        let labels = format!(
            "ID,Label\n{}{}{}{}",
            rows("ID_00000000a", &[]),
            rows("ID_00000000b", &["epidural", "any"]),
            rows("ID_00000000c", &[]),
            rows("ID_00000000d", &["subdural", "any"]),
        );
        let (table, report) = run(&labels, SLICES).unwrap();
        assert_eq!(report.series, 3);
        let row = |scan: &str| table.rows.iter().find(|row| row.scan == scan).unwrap();
        let found: Vec<bool> = row("ID_study0001")
            .labels
            .iter()
            .map(|l| l.unwrap())
            .collect();
        assert_eq!(found, [true, false, false, false, false, true]);
        // Two studies of one patient carry the same patient, so a split keeps them together.
        assert_eq!(row("ID_study0001").patient, row("ID_study0002").patient);
    }

    #[test]
    fn repeated_rows_are_counted_and_contradictions_refused() {
        let once = rows("ID_00000000d", &["any"]);
        let slices = "image,study,patient\nID_00000000d,s,p\n";
        let (_, report) = run(&format!("ID,Label\n{once}{once}"), slices).unwrap();
        assert_eq!(report.duplicate_rows, 6);
        let other = "ID_00000000d_any,0\n";
        let error = run(&format!("ID,Label\n{once}{other}"), slices)
            .unwrap_err()
            .to_string();
        assert!(error.contains("row 8 column Label"), "{error}");
    }

    #[test]
    fn incomplete_and_truncated_series_are_left_out_and_named() {
        let labels = format!(
            "ID,Label\n{}{}",
            rows("ID_00000000a", &[]),
            rows(TRUNCATED, &["any"])
        );
        let slices = format!("{SLICES}{TRUNCATED},ID_study0004,ID_pat3\n");
        let (table, report) = run(&labels, &slices).unwrap();
        assert!(table.rows.is_empty());
        assert_eq!(
            report.incomplete,
            ["ID_study0001", "ID_study0002", "ID_study0003"]
        );
        assert_eq!(report.truncated, ["ID_study0004"]);
    }

    #[test]
    fn rows_of_another_form_are_refused_by_row() {
        let error = run("ID,Label\nID_00000000a_chronic,1\n", SLICES)
            .unwrap_err()
            .to_string();
        assert!(error.contains("row 2 column ID"), "{error}");
        let error = run("ID,Label\n", "image,study,patient\na,s1,p\na,s2,p\n")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("row 3 column image: image a in two series"),
            "{error}"
        );
    }
}
