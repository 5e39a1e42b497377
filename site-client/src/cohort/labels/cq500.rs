//! CQ500: three readers' votes per patient (`reads.csv`), given to the patient's series.
//!
//! Each label is voted on its own: ICH is not the union of its kinds (in the published reads the
//! two differ for six patients).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::super::error::CohortError;
use super::super::sheet::Sheet;
use super::super::table::{LabelRow, LabelTable};

const READERS: [&str; 3] = ["R1", "R2", "R3"];
const LABELS: [&str; 14] = [
    "ICH",
    "IPH",
    "IVH",
    "SDH",
    "EDH",
    "SAH",
    "BleedLocation-Left",
    "BleedLocation-Right",
    "ChronicBleed",
    "Fracture",
    "CalvarialFracture",
    "OtherFracture",
    "MassEffect",
    "MidlineShift",
];
/// Votes that make a label positive.
const MAJORITY: usize = 2;
/// What dcm2niix appends to the copies it makes: tilt corrected, slices equalized.
const TWINS: [&str; 3] = ["_tilt_", "_tilt_eq_", "_eq_"];
/// Words in the names of series made with contrast.
const CONTRAST: [&str; 9] = [
    "4cc", "cect", "contrast", "oral iv", "ct c ", "cta", "angio", "post c", "iv con",
];

/// Which series to take in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cq500Options {
    /// Take tilt-corrected and equalized copies, though their originals are in the set.
    pub twins: bool,
    /// Take series made with contrast.
    pub contrast: bool,
}

/// A series that was not taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The scan.
    pub scan: String,
    /// Why.
    pub reason: &'static str,
}

/// Labels of the series listed in `series`: a CSV with columns `scan`, `patient` and `name`, or a
/// folder of NIfTI files in the layout of the set. Returns the labels, and the series left out with
/// the reason.
///
/// # Errors
/// A missing column, a vote other than 0 or 1, a patient twice, or a series of a patient without
/// reads, with row and column.
pub fn from_cq500(
    reads: &Path,
    series: &Path,
    options: Cq500Options,
) -> Result<(LabelTable, Vec<LeftOut>), CohortError> {
    let votes = read_votes(reads)?;
    let listed = if series.is_dir() {
        walk(series)?
    } else {
        list(series)?
    };
    let mut table = LabelTable {
        tasks: LABELS.map(str::to_owned).to_vec(),
        rows: Vec::new(),
    };
    let mut left_out = Vec::new();
    for Series {
        scan,
        patient,
        name,
    } in listed
    {
        let name = name.to_lowercase();
        if !options.twins && is_twin(&name) {
            left_out.push(LeftOut {
                scan,
                reason: "a corrected copy of a series that is in the set",
            });
        } else if !options.contrast && CONTRAST.iter().any(|word| name.contains(word)) {
            left_out.push(LeftOut {
                scan,
                reason: "made with contrast",
            });
        } else if let Some(labels) = votes.get(&key(&patient)) {
            let labels = labels.iter().map(|&positive| Some(positive)).collect();
            table.rows.push(LabelRow {
                scan,
                patient,
                labels,
            });
        } else {
            left_out.push(LeftOut {
                scan,
                reason: "no reads of this patient",
            });
        }
    }
    Ok((table, left_out))
}

struct Series {
    scan: String,
    patient: String,
    name: String,
}

fn read_votes(path: &Path) -> Result<BTreeMap<String, [bool; LABELS.len()]>, CohortError> {
    let mut sheet = Sheet::open(path)?;
    let name = sheet.column("name")?;
    let mut columns = [[0; READERS.len()]; LABELS.len()];
    for (row, label) in columns.iter_mut().zip(LABELS) {
        for (cell, reader) in row.iter_mut().zip(READERS) {
            *cell = sheet.column(&format!("{reader}:{label}"))?;
        }
    }
    let mut votes = BTreeMap::new();
    while let Some(row) = sheet.next()? {
        let mut labels = [false; LABELS.len()];
        for (label, readers) in labels.iter_mut().zip(&columns) {
            let mut count = 0;
            for &column in readers {
                match row.label(column)? {
                    Some(vote) => count += usize::from(vote),
                    None => return Err(row.error(column, "an empty cell", "0 or 1")),
                }
            }
            *label = count >= MAJORITY;
        }
        let patient = key(row.required(name)?);
        if votes.insert(patient, labels).is_some() {
            return Err(row.error(
                name,
                format!("\"{}\" again", row.text(name)),
                "each patient once",
            ));
        }
    }
    Ok(votes)
}

fn list(path: &Path) -> Result<Vec<Series>, CohortError> {
    let mut sheet = Sheet::open(path)?;
    let (scan, patient) = (sheet.column("scan")?, sheet.column("patient")?);
    let name = sheet.column("name")?;
    let mut unique = super::super::sheet::Unique::default();
    let mut found = Vec::new();
    while let Some(row) = sheet.next()? {
        unique.insert(&row, scan)?;
        found.push(Series {
            scan: row.required(scan)?.to_owned(),
            patient: row.required(patient)?.to_owned(),
            name: row.text(name).to_owned(),
        });
    }
    Ok(found)
}

/// `CQ500CT66 CQ500CT66/Unknown Study/CT Plain/0_Plain_2.nii.gz`: the first folder names the
/// patient; the path names the scan.
fn walk(folder: &Path) -> Result<Vec<Series>, CohortError> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.map_err(CohortError::document(folder))?;
        let path = entry
            .path()
            .strip_prefix(folder)
            .unwrap_or_else(|_| entry.path());
        let text = path.to_string_lossy();
        let is_nifti = text.ends_with(".nii") || text.ends_with(".nii.gz");
        if !is_nifti {
            continue;
        }
        let first = path
            .iter()
            .next()
            .map(|part| part.to_string_lossy().into_owned());
        let patient = first.and_then(|part| part.split(' ').next().map(str::to_owned));
        let scan = text
            .trim_end_matches(".gz")
            .trim_end_matches(".nii")
            .to_owned();
        found.push(Series {
            name: scan.clone(),
            scan,
            patient: patient.unwrap_or_default(),
        });
    }
    Ok(found)
}

/// `CQ500-CT-427` and `CQ500CT427` are one patient.
fn key(patient: &str) -> String {
    patient
        .chars()
        .filter(|c| *c != '-' && !c.is_whitespace())
        .collect::<String>()
        .to_uppercase()
}

fn is_twin(name: &str) -> bool {
    TWINS.iter().any(|mark| {
        name.rfind(mark).is_some_and(|at| {
            name[at + mark.len()..]
                .trim_end_matches(".nii.gz")
                .chars()
                .all(|c| c.is_ascii_digit())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table in the form of the published one; the votes are made up.
    fn reads(rows: &[(&str, [[u8; 14]; 3])]) -> String {
        let header = READERS
            .iter()
            .flat_map(|r| LABELS.iter().map(move |l| format!("{r}:{l}")));
        let mut text = format!("name,Category,{}\n", header.collect::<Vec<_>>().join(","));
        for (name, votes) in rows {
            let votes = votes
                .iter()
                .flatten()
                .map(u8::to_string)
                .collect::<Vec<_>>();
            text += &format!("{name},B1,{}\n", votes.join(","));
        }
        text
    }

    fn run(
        reads: &str,
        series: &str,
        options: Cq500Options,
    ) -> Result<(LabelTable, Vec<LeftOut>), CohortError> {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (
            folder.path().join("reads.csv"),
            folder.path().join("series.csv"),
        );
        std::fs::write(&a, reads).unwrap();
        std::fs::write(&b, series).unwrap();
        from_cq500(&a, &b, options)
    }

    fn votes(positive: &[(usize, usize)]) -> [[u8; 14]; 3] {
        let mut votes = [[0; 14]; 3];
        for &(reader, label) in positive {
            votes[reader][label] = 1;
        }
        votes
    }

    #[test]
    fn two_of_three_readers_make_a_label_and_ich_is_voted_on_its_own() {
        // Readers 1 and 2 say IPH, only reader 1 says ICH.
        let text = reads(&[("CQ500-CT-7", votes(&[(0, 1), (1, 1), (0, 0)]))]);
        let series = "scan,patient,name\ns1,CQ500CT7,Plain\n";
        let (table, _) = run(&text, series, Cq500Options::default()).unwrap();
        let label = |task: &str| table.rows[0].labels[table.task(task).unwrap()];
        assert_eq!(
            (label("IPH"), label("ICH"), label("SDH")),
            (Some(true), Some(false), Some(false))
        );
    }

    #[test]
    fn corrected_copies_and_contrast_are_left_out_unless_asked_for() {
        let text = reads(&[("CQ500-CT-7", votes(&[]))]);
        let series = "scan,patient,name\ns1,CQ500-CT-7,0_Plain_2\ns2,CQ500-CT-7,0_Plain_2_Tilt_1\n\
            s3,CQ500-CT-7,0_Plain_2_Tilt_Eq_1\ns4,CQ500-CT-7,0_Plain_2_Eq_1\n\
            s5,CQ500-CT-7,4cc sec 150cc D3D on\ns6,CQ500-CT-7,CECT thin\ns7,CQ500-CT-9,Plain\n";
        let (table, left_out) = run(&text, series, Cq500Options::default()).unwrap();
        assert_eq!(
            table
                .rows
                .iter()
                .map(|row| row.scan.as_str())
                .collect::<Vec<_>>(),
            ["s1"]
        );
        assert_eq!(left_out.len(), 6);
        let all = Cq500Options {
            twins: true,
            contrast: true,
        };
        assert_eq!(run(&text, series, all).unwrap().0.rows.len(), 6);
    }

    #[test]
    fn the_folders_of_the_set_name_patient_and_series() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder
            .path()
            .join("CQ500CT7 CQ500CT7/Unknown Study/CT Plain");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("0_Plain_2.nii.gz"), []).unwrap();
        let reads_path = folder.path().join("reads.csv");
        std::fs::write(&reads_path, reads(&[("CQ500-CT-7", votes(&[]))])).unwrap();
        let (table, _) = from_cq500(&reads_path, folder.path(), Cq500Options::default()).unwrap();
        assert_eq!(
            table.rows[0].scan,
            "CQ500CT7 CQ500CT7/Unknown Study/CT Plain/0_Plain_2"
        );
        assert_eq!(table.rows[0].patient, "CQ500CT7");
    }

    #[test]
    fn a_patient_twice_or_a_vote_missing_is_named_by_row_and_column() {
        let twice = reads(&[("CQ500-CT-7", votes(&[])), ("CQ500-CT-7", votes(&[]))]);
        let series = "scan,patient,name\n";
        let error = run(&twice, series, Cq500Options::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("row 3 column name"), "{error}");
        let bad = reads(&[("CQ500-CT-7", votes(&[]))]).replace(",B1,0,", ",B1,x,");
        let error = run(&bad, series, Cq500Options::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("row 2 column R1:ICH: \"x\""), "{error}");
    }
}
