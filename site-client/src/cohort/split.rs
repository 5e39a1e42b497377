//! Which patients train, validate and test: by patient, 8:1:1 (paper, Datasets).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::Serialize;

use super::error::{CohortError, Place};
use super::sheet::{Sheet, Unique, write_whole};
use super::table::LabelTable;

/// A part of a cohort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Eight tenths.
    Train,
    /// One tenth.
    Validation,
    /// One tenth.
    Test,
}

impl Part {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// Name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Part {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.to_ascii_lowercase().as_str() {
            "train" | "training" => Ok(Self::Train),
            "validation" | "val" | "valid" => Ok(Self::Validation),
            "test" | "held-out" => Ok(Self::Test),
            _ => Err(()),
        }
    }
}

/// The secret that decides a patient's part. With the same key a patient has the same part in every
/// table, whatever else is in it; without the key nobody can tell a part from a pseudonym.
#[derive(Clone)]
pub struct SplitKey([u8; 32]);

impl SplitKey {
    /// A key from any text.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(blake3::derive_key(
            "federated FM-CT cohort split 2026",
            text.as_bytes(),
        ))
    }

    /// A number in 0–1 that belongs to the patient.
    fn place(&self, patient: &str) -> f64 {
        let digest = blake3::keyed_hash(&self.0, patient.as_bytes());
        let mut low = [0; 8];
        low.copy_from_slice(&digest.as_bytes()[..8]);
        // 53 bits fill a double's mantissa.
        (u64::from_le_bytes(low) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl fmt::Debug for SplitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SplitKey(..)")
    }
}

/// Patients and their parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    parts: BTreeMap<String, Part>,
}

/// Share of patients up to which one trains, and up to which one validates.
const TRAIN_UNTIL: f64 = 0.8;
const VALIDATION_UNTIL: f64 = 0.9;

impl Split {
    /// Splits patients by the keyed hash of their pseudonym alone. Adding patients or scans changes
    /// nobody's part.
    #[must_use]
    pub fn by_hash<'a>(patients: impl IntoIterator<Item = &'a str>, key: &SplitKey) -> Self {
        let part = |patient: &str| match key.place(patient) {
            place if place < TRAIN_UNTIL => Part::Train,
            place if place < VALIDATION_UNTIL => Part::Validation,
            _ => Part::Test,
        };
        Self {
            parts: patients
                .into_iter()
                .map(|p| (p.to_owned(), part(p)))
                .collect(),
        }
    }

    /// Splits so that every part holds its share of the positives of every task, and keeps whom an
    /// earlier split placed. A patient belongs to the rarest task it is positive for; each such
    /// group is dealt out in the order of the keyed hash.
    #[must_use]
    pub fn stratified(labels: &LabelTable, key: &SplitKey, earlier: Option<&Self>) -> Self {
        let positives = positives_by_patient(labels);
        let mut counts = vec![0_usize; labels.tasks.len()];
        for tasks in positives.values() {
            tasks.iter().for_each(|&task| counts[task] += 1);
        }
        let mut groups: BTreeMap<Option<usize>, Vec<&str>> = BTreeMap::new();
        for (&patient, tasks) in &positives {
            let rarest = tasks
                .iter()
                .copied()
                .min_by_key(|&task| (counts[task], task));
            groups.entry(rarest).or_default().push(patient);
        }
        let mut split = Self::default();
        for patients in groups.values_mut() {
            patients.sort_by(|a, b| key.place(a).total_cmp(&key.place(b)).then(a.cmp(b)));
            let mut dealt = [0_usize; 3];
            let (placed, free): (Vec<&str>, Vec<&str>) = patients
                .iter()
                .partition(|p| earlier.is_some_and(|split| split.part(p).is_some()));
            for patient in placed {
                if let Some(part) = earlier.and_then(|split| split.part(patient)) {
                    dealt[part as usize] += 1;
                    split.parts.insert(patient.to_owned(), part);
                }
            }
            for patient in free {
                // To the part that is furthest below its share of ten.
                let behind = |part: &Part| {
                    let share = if *part == Part::Train { 8 } else { 1 };
                    (dealt[*part as usize] * 8 / share, *part)
                };
                let part = Part::ALL
                    .into_iter()
                    .min_by_key(behind)
                    .unwrap_or(Part::Train);
                dealt[part as usize] += 1;
                split.parts.insert(patient.to_owned(), part);
            }
        }
        split
    }

    /// A patient's part.
    #[must_use]
    pub fn part(&self, patient: &str) -> Option<Part> {
        self.parts.get(patient).copied()
    }

    /// Patients in a part.
    #[must_use]
    pub fn count(&self, part: Part) -> usize {
        self.parts.values().filter(|&&other| other == part).count()
    }

    /// Reads a table with columns `scan`, `patient`, `part`.
    ///
    /// # Errors
    /// A patient in two parts, a scan twice, or an unknown part, with row and column.
    pub fn read(path: &Path) -> Result<Self, CohortError> {
        let parts = Self::read_scans(path)?.into_values().collect();
        Ok(Self { parts })
    }

    /// Reads the same table scan by scan: patient and part of each.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_scans(path: &Path) -> Result<BTreeMap<String, (String, Part)>, CohortError> {
        let mut sheet = Sheet::open(path)?;
        let (scan, patient) = (sheet.column("scan")?, sheet.column("patient")?);
        let part = sheet.column("part")?;
        let mut unique = Unique::default();
        let mut first: BTreeMap<String, (Part, u64)> = BTreeMap::new();
        let mut scans = BTreeMap::new();
        while let Some(row) = sheet.next()? {
            unique.insert(&row, scan)?;
            let name = row.required(part)?;
            let here: Part = name.parse().map_err(|()| {
                row.error(part, format!("\"{name}\""), "train, validation or test")
            })?;
            let who = row.required(patient)?;
            let line = row.line();
            let (before, line) = *first.entry(who.to_owned()).or_insert((here, line));
            if before != here {
                return Err(leak(row.place(patient), who, here, before, line));
            }
            scans.insert(row.text(scan).to_owned(), (who.to_owned(), here));
        }
        Ok(scans)
    }

    /// Writes one row per scan.
    ///
    /// # Errors
    /// A scan whose patient has no part, or a file that cannot be written.
    pub fn write<'a>(
        &self,
        path: &Path,
        scans: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), CohortError> {
        let mut rows = Vec::new();
        for (scan, patient) in scans {
            let part = self.part(patient).ok_or_else(|| {
                CohortError::rule(
                    format!("split: patient of scan {scan}"),
                    "no part",
                    "one part",
                )
            })?;
            rows.push([scan, patient, part.name()]);
        }
        write_whole(path, |writer| {
            writer.write_record(["scan", "patient", "part"])?;
            rows.iter().try_for_each(|row| writer.write_record(row))
        })
    }

    /// Takes over an official split: a table with one row per scan, whose names stand in
    /// `scan_column` and whose parts in `part`, or one table per part. Scans are matched by name to
    /// `patients`; rows of scans the cohort lacks are passed by.
    ///
    /// Some official splits divide the scans of one patient. With `drop_leaks` such a patient stays
    /// only in the latest of its parts (test before validation before train); the others' scans are
    /// returned to be left out.
    ///
    /// # Errors
    /// A patient in two parts without `drop_leaks`, with row and column.
    pub fn import(
        files: &[(Option<Part>, &Path)],
        scan_column: &str,
        patients: &BTreeMap<&str, &str>,
        drop_leaks: bool,
    ) -> Result<(Self, BTreeSet<String>), CohortError> {
        let mut found: BTreeMap<String, Vec<(String, Part)>> = BTreeMap::new();
        for (whole_file, path) in files {
            let mut sheet = Sheet::open(path)?;
            let scan = sheet.column(scan_column)?;
            let part = if whole_file.is_none() {
                Some(sheet.column("part")?)
            } else {
                None
            };
            while let Some(row) = sheet.next()? {
                let here = match (whole_file, part) {
                    (Some(part), _) => *part,
                    (None, Some(column)) => row.required(column)?.parse().map_err(|()| {
                        row.error(
                            column,
                            format!("\"{}\"", row.text(column)),
                            "train, validation or test",
                        )
                    })?,
                    (None, None) => Part::Train,
                };
                let name = row.required(scan)?;
                let Some(&patient) = patients.get(name) else {
                    continue;
                };
                let scans = found.entry(patient.to_owned()).or_default();
                if let Some((_, before)) = scans.iter().find(|(_, before)| *before != here)
                    && !drop_leaks
                {
                    return Err(leak(row.place(scan), patient, here, *before, 0));
                }
                scans.push((name.to_owned(), here));
            }
        }
        let mut split = Self::default();
        let mut dropped = BTreeSet::new();
        for (patient, scans) in found {
            let part = scans
                .iter()
                .map(|(_, part)| *part)
                .max()
                .unwrap_or(Part::Train);
            dropped.extend(
                scans
                    .into_iter()
                    .filter(|(_, p)| *p != part)
                    .map(|(scan, _)| scan),
            );
            split.parts.insert(patient, part);
        }
        Ok((split, dropped))
    }
}

fn leak(place: Place, patient: &str, here: Part, other: Part, first: u64) -> CohortError {
    CohortError::Leak {
        place,
        patient: patient.to_owned(),
        part: here.name(),
        other: other.name(),
        first,
    }
}

fn positives_by_patient(labels: &LabelTable) -> BTreeMap<&str, BTreeSet<usize>> {
    let mut positives: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for row in &labels.rows {
        let tasks = positives.entry(&row.patient).or_default();
        tasks.extend((0..row.labels.len()).filter(|&task| row.labels[task] == Some(true)));
    }
    positives
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::table::LabelRow;
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("p{i}")).collect()
    }

    fn table(rows: &[(String, usize)], tasks: usize) -> LabelTable {
        let rows = rows
            .iter()
            .enumerate()
            .map(|(index, (patient, positive))| LabelRow {
                scan: format!("s{index}"),
                patient: patient.clone(),
                labels: (0..tasks).map(|task| Some(task == *positive)).collect(),
            });
        LabelTable {
            tasks: (0..tasks).map(|t| format!("t{t}")).collect(),
            rows: rows.collect(),
        }
    }

    #[test]
    fn the_parts_are_eight_one_and_one_tenth() {
        let names = names(20_000);
        let split = Split::by_hash(names.iter().map(String::as_str), &SplitKey::from_text("k"));
        for (part, share) in Part::ALL.into_iter().zip([0.8, 0.1, 0.1]) {
            let found = split.count(part) as f64 / 20_000.0;
            assert!((found - share).abs() < 0.01, "{part}: {found}");
        }
    }

    #[test]
    fn another_key_makes_another_split() {
        let names = names(200);
        let split =
            |key| Split::by_hash(names.iter().map(String::as_str), &SplitKey::from_text(key));
        assert_ne!(split("a"), split("b"));
    }

    #[test]
    fn strata_are_shared_out_evenly() {
        // 40 positives of a rare task, 400 of another, 1,000 of none.
        let rows: Vec<_> = names(1440)
            .into_iter()
            .enumerate()
            .map(|(i, name)| {
                (
                    name,
                    if i < 40 {
                        0
                    } else if i < 440 {
                        1
                    } else {
                        9
                    },
                )
            })
            .collect();
        let labels = table(&rows, 2);
        let split = Split::stratified(&labels, &SplitKey::from_text("k"), None);
        for (task, expected) in [(0, [32, 4, 4]), (1, [320, 40, 40])] {
            let count = |part| {
                rows.iter()
                    .filter(|(name, t)| *t == task && split.part(name) == Some(part))
                    .count()
            };
            assert_eq!(Part::ALL.map(count), expected);
        }
    }

    #[test]
    fn a_leak_made_by_hand_is_refused_with_both_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("split.csv");
        std::fs::write(
            &path,
            "scan,patient,part\ns1,p1,train\ns2,p2,test\ns3,p1,test\n",
        )
        .unwrap();
        let error = Split::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("row 4 column patient") && error.contains("row 2: a leak"),
            "{error}"
        );
    }

    #[test]
    fn an_official_split_that_divides_a_patient_is_refused_or_mended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("official.csv");
        std::fs::write(
            &path,
            "study_id,part\na,train\nb,test\nc,val\nforeign,train\n",
        )
        .unwrap();
        let patients = BTreeMap::from([("a", "p1"), ("b", "p1"), ("c", "p2")]);
        let files = [(None, path.as_path())];
        let error = Split::import(&files, "study_id", &patients, false).unwrap_err();
        assert!(matches!(error, CohortError::Leak { .. }));
        let (split, dropped) = Split::import(&files, "study_id", &patients, true).unwrap();
        assert_eq!(split.part("p1"), Some(Part::Test));
        assert_eq!(split.part("p2"), Some(Part::Validation));
        assert_eq!(dropped, BTreeSet::from(["a".to_owned()]));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, rng_seed: proptest::test_runner::RngSeed::Fixed(4), ..ProptestConfig::default() })]

        /// Scans arrive in batches; after each the split is made anew, written and read back.
        #[test]
        fn no_patient_changes_its_part_under_any_sequence_of_added_scans(
            batches in proptest::collection::vec(proptest::collection::vec((0_usize..60, 0_usize..4), 1..30), 1..6),
            stratify in any::<bool>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("split.csv");
            let key = SplitKey::from_text("k");
            let mut rows: Vec<(String, usize)> = Vec::new();
            let mut before: Option<Split> = None;
            for batch in batches {
                rows.extend(batch.into_iter().map(|(patient, task)| (format!("p{patient}"), task)));
                let labels = table(&rows, 4);
                let split = if stratify {
                    Split::stratified(&labels, &key, before.as_ref())
                } else {
                    Split::by_hash(labels.patients(), &key)
                };
                split.write(&path, labels.rows.iter().map(|r| (r.scan.as_str(), r.patient.as_str()))).unwrap();
                let read = Split::read(&path).unwrap();
                prop_assert_eq!(&read, &split);
                if let Some(before) = before {
                    for (patient, part) in &before.parts {
                        prop_assert_eq!(read.part(patient), Some(*part));
                    }
                }
                before = Some(read);
            }
        }
    }
}
