//! Scans with labels and parts: what fine-tuning, probing and evaluation run on.

use std::sync::Arc;

use core_model::phantom::{Disease, Sex};
use rayon::prelude::*;

use super::{Classes, Phantoms, Reading, Source, Subset, phantom_tasks, refuse_many, stream};
use crate::evaluate::{Part, Prediction};
use crate::train::TrainError;

/// Labelled scans of one site.
#[derive(Clone, Debug)]
pub struct Labelled {
    source: Arc<dyn Source>,
    tasks: Vec<Arc<str>>,
    rows: Vec<LabelledScan>,
}

/// What is known about one scan, by the index it has in its source.
#[derive(Clone)]
pub struct LabelledScan {
    /// Pseudonymous patient.
    pub patient: Arc<str>,
    /// Pseudonymous scan.
    pub scan: Arc<str>,
    /// Hospital.
    pub site: Option<Arc<str>>,
    /// Maker of the scanner.
    pub manufacturer: Option<Arc<str>>,
    /// Slice thickness, mm.
    pub thickness: Option<f64>,
    /// Sex as recorded.
    pub sex: Option<Arc<str>>,
    /// Age, years.
    pub age: Option<f64>,
    /// Part of the split.
    pub part: Part,
    /// One per task; unknown is not negative.
    pub labels: Vec<Option<bool>>,
}

impl std::fmt::Debug for LabelledScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LabelledScan")
            .field("part", &self.part)
            .finish_non_exhaustive()
    }
}

impl Labelled {
    /// Joins scans and what is known about them.
    ///
    /// # Errors
    ///
    /// A patient in two parts; row counts that differ.
    pub fn new(
        source: Arc<dyn Source>,
        tasks: Vec<Arc<str>>,
        rows: Vec<LabelledScan>,
    ) -> Result<Self, TrainError> {
        if source.len() != rows.len() || rows.iter().any(|row| row.labels.len() != tasks.len()) {
            let (scans, rows) = (source.len(), rows.len());
            return Err(TrainError::data(format!(
                "labels: {rows} rows for {scans} scans"
            )));
        }
        let mut parts = std::collections::BTreeMap::new();
        for row in &rows {
            let part = *parts.entry(&row.patient).or_insert(row.part);
            if part != row.part {
                let (patient, one, two) = (&row.patient, part.name(), row.part.name());
                let reason = format!("patient {patient}: in the {one} part and in the {two} part");
                return Err(TrainError::data(reason));
            }
        }
        Ok(Self {
            source,
            tasks,
            rows,
        })
    }

    /// A phantom site with the true labels, split 8:1:1 by patient.
    #[must_use]
    pub fn phantoms(phantoms: Phantoms) -> Self {
        let site: Arc<str> = phantoms.site().into();
        let row = |(index, scan): (usize, &super::PhantomScan)| LabelledScan {
            patient: phantoms.patient_id(scan.patient).into(),
            scan: phantoms.id(index).into(),
            site: Some(Arc::clone(&site)),
            manufacturer: Some(Arc::clone(&scan.manufacturer)),
            // A double of what the table of scans would say: 0.6, not 0.600000023.
            thickness: scan.thickness_mm.to_string().parse().ok(),
            sex: Some(match scan.sex {
                Sex::Female => "F".into(),
                Sex::Male => "M".into(),
            }),
            age: Some(f64::from(scan.age)),
            part: match stream(0, "part", &[scan.patient]) % 10 {
                0 => Part::Test,
                1 => Part::Validation,
                _ => Part::Train,
            },
            labels: Disease::ALL
                .iter()
                .map(|disease| Some(scan.truth.diseases.contains(*disease)))
                .collect(),
        };
        let rows = phantoms.scans().iter().enumerate().map(row).collect();
        Self {
            tasks: phantom_tasks(),
            rows,
            source: Arc::new(phantoms),
        }
    }

    /// The same rows, with scans read through another source of the same length.
    #[must_use]
    pub fn reading(self, wrap: impl FnOnce(Arc<dyn Source>) -> Arc<dyn Source>) -> Self {
        Self {
            source: wrap(self.source),
            ..self
        }
    }

    /// Without the labelled scans that cannot be read, each of which is named in the log.
    ///
    /// Scans of the training part are read as `training` says, which is what they are trained on as,
    /// the others as for evaluation. Reads every labelled scan once for each of these; with
    /// [`Memory`](super::Memory) below, not in vain.
    ///
    /// # Errors
    ///
    /// More than 1 % of the labelled scans cannot be read.
    pub fn readable(self, training: &[Reading]) -> Result<Self, TrainError> {
        let labelled = self.labelled();
        let read = |scan: &usize| {
            let readings = match self.rows[*scan].part {
                Part::Train => training,
                Part::Validation | Part::Test => &[Reading::Evaluation],
            };
            let failed = |reading: &Reading| self.source.load(*scan, *reading).err();
            let reason = readings.iter().find_map(failed)?;
            let id = self.source.id(*scan);
            tracing::warn!(scan = id, reason, "a scan cannot be read: left out");
            Some(*scan)
        };
        let unreadable: Vec<usize> = labelled.par_iter().filter_map(read).collect();
        let ids = unreadable.iter().map(|scan| self.source.id(*scan));
        refuse_many(ids, labelled.len())?;
        if unreadable.is_empty() {
            return Ok(self);
        }
        let kept: Vec<usize> = (0..self.rows.len())
            .filter(|scan| !unreadable.contains(scan))
            .collect();
        let rows = kept.iter().map(|scan| self.rows[*scan].clone()).collect();
        Ok(Self {
            source: Arc::new(Subset::new(self.source, kept)),
            tasks: self.tasks,
            rows,
        })
    }

    /// The same scans with other parts.
    #[must_use]
    pub fn with_parts(mut self, part: impl Fn(usize, &LabelledScan) -> Part) -> Self {
        for index in 0..self.rows.len() {
            self.rows[index].part = part(index, &self.rows[index]);
        }
        self
    }

    /// Where the scans come from.
    #[must_use]
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// Names of the tasks.
    #[must_use]
    pub fn tasks(&self) -> &[Arc<str>] {
        &self.tasks
    }

    /// What is known about each scan.
    #[must_use]
    pub fn rows(&self) -> &[LabelledScan] {
        &self.rows
    }

    /// Only some tasks, in the given order.
    ///
    /// # Errors
    ///
    /// A task without a label column.
    pub fn of_tasks(&self, tasks: &[Arc<str>]) -> Result<Self, TrainError> {
        let place = |task: &Arc<str>| {
            self.tasks
                .iter()
                .position(|known| known == task)
                .ok_or_else(|| {
                    let known = self.tasks.join(", ");
                    TrainError::data(format!("task {task}: no such label; there are {known}"))
                })
        };
        let places = tasks.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let pick = |row: &LabelledScan| LabelledScan {
            labels: places.iter().map(|place| row.labels[*place]).collect(),
            ..row.clone()
        };
        let rows = self.rows.iter().map(pick).collect();
        Ok(Self {
            source: Arc::clone(&self.source),
            tasks: tasks.to_vec(),
            rows,
        })
    }

    /// The given tasks; one without a label column is unknown in every scan. Also names those.
    #[must_use]
    pub fn over_tasks(&self, tasks: &[Arc<str>]) -> (Self, Vec<Arc<str>>) {
        let place = |task: &Arc<str>| self.tasks.iter().position(|known| known == task);
        let places: Vec<Option<usize>> = tasks.iter().map(place).collect();
        let label = |row: &LabelledScan, place: &Option<usize>| place.and_then(|at| row.labels[at]);
        let pick = |row: &LabelledScan| LabelledScan {
            labels: places.iter().map(|place| label(row, place)).collect(),
            ..row.clone()
        };
        let missing = tasks.iter().zip(&places);
        let missing = missing.filter(|(_, place)| place.is_none());
        let missing = missing.map(|(task, _)| Arc::clone(task)).collect();
        let set = Self {
            source: Arc::clone(&self.source),
            tasks: tasks.to_vec(),
            rows: self.rows.iter().map(pick).collect(),
        };
        (set, missing)
    }

    /// Scans of any part with at least one known label.
    #[must_use]
    pub fn labelled(&self) -> Vec<usize> {
        let known = |index: &usize| self.rows[*index].labels.iter().any(Option::is_some);
        (0..self.rows.len()).filter(known).collect()
    }

    /// Checks that each part holds both classes of each task: otherwise nothing can be trained,
    /// selected or measured.
    ///
    /// # Errors
    ///
    /// The first class without a scan, with its task and part.
    pub fn require_classes(&self) -> Result<(), TrainError> {
        for task in 0..self.tasks.len() {
            for part in [Part::Train, Part::Validation, Part::Test] {
                self.classes(task, part)?;
            }
        }
        Ok(())
    }

    /// Scans of a part with at least one known label.
    #[must_use]
    pub fn part(&self, part: Part) -> Vec<usize> {
        let wanted = |index: &usize| {
            let row = &self.rows[*index];
            row.part == part && row.labels.iter().any(Option::is_some)
        };
        (0..self.rows.len()).filter(wanted).collect()
    }

    /// The scans of a part by class of one task.
    ///
    /// # Errors
    ///
    /// A class without a scan.
    pub fn classes(&self, task: usize, part: Part) -> Result<Classes, TrainError> {
        let rows = self
            .rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.part == part);
        let labels = rows.map(|(scan, row)| (scan, row.labels[task]));
        Classes::new(&self.tasks[task], part.name(), labels)
    }

    /// The prediction rows of `scans` from their scores (`scans` × tasks, row by row).
    #[must_use]
    pub fn predictions(&self, scans: &[usize], scores: &[f64]) -> Vec<Prediction> {
        let mut predictions = Vec::new();
        for (scan, scores) in scans.iter().zip(scores.chunks_exact(self.tasks.len())) {
            let row = &self.rows[*scan];
            for ((task, label), score) in self.tasks.iter().zip(&row.labels).zip(scores) {
                let Some(label) = *label else { continue };
                let (patient, scan) = (Arc::clone(&row.patient), Arc::clone(&row.scan));
                let mut prediction =
                    Prediction::new(patient, scan, Arc::clone(task), label, *score);
                prediction.site.clone_from(&row.site);
                prediction.manufacturer.clone_from(&row.manufacturer);
                prediction.thickness = row.thickness;
                prediction.sex.clone_from(&row.sex);
                prediction.age = row.age;
                prediction.part = row.part;
                predictions.push(prediction);
            }
        }
        predictions
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::super::Windowed;
    use super::*;

    /// Scans of which some cannot be read for one purpose.
    #[derive(Debug)]
    struct Damaged {
        scans: Vec<usize>,
        reading: Reading,
    }

    const SCANS: usize = 200;

    impl Source for Damaged {
        fn len(&self) -> usize {
            SCANS
        }

        fn id(&self, scan: usize) -> String {
            format!("scan-{scan}")
        }

        fn load(&self, scan: usize, reading: Reading) -> Result<Arc<Windowed>, String> {
            if reading == self.reading && self.scans.contains(&scan) {
                return Err("head crop: digest differs".into());
            }
            Ok(Arc::new(Windowed {
                channels: 1,
                size: 1,
                values: vec![f16::ZERO],
            }))
        }
    }

    /// Scans 0 to 99 train, the others test; every tenth has no label.
    fn set(scans: &[usize], reading: Reading) -> Labelled {
        let row = |scan: usize| LabelledScan {
            patient: format!("p{scan}").into(),
            scan: format!("scan-{scan}").into(),
            site: None,
            manufacturer: None,
            thickness: None,
            sex: None,
            age: None,
            part: if scan < 100 { Part::Train } else { Part::Test },
            labels: vec![(!scan.is_multiple_of(10)).then_some(scan.is_multiple_of(3))],
        };
        let (scans, rows) = (scans.to_vec(), (0..SCANS).map(row).collect());
        Labelled::new(
            Arc::new(Damaged { scans, reading }),
            vec!["SDH".into()],
            rows,
        )
        .unwrap()
    }

    fn left(scans: &[usize], reading: Reading, training: Reading) -> Result<usize, String> {
        let set = set(scans, reading).readable(&[training]);
        set.map(|set| set.rows().len())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_scan_is_left_out_if_it_cannot_be_read_as_it_will_be() {
        use Reading::{Evaluation, Training};
        assert_eq!(left(&[7], Training, Training), Ok(SCANS - 1));
        assert_eq!(left(&[7], Training, Evaluation), Ok(SCANS), "for probes");
        assert_eq!(left(&[7], Evaluation, Training), Ok(SCANS), "never scored");
        assert_eq!(left(&[107], Evaluation, Training), Ok(SCANS - 1));
        assert_eq!(left(&[107], Training, Training), Ok(SCANS));
        assert_eq!(left(&[10], Training, Training), Ok(SCANS), "no label");
        let error = left(&[7, 8], Training, Training).unwrap_err();
        assert!(
            error.contains("2 of 180") && error.contains("scan-8"),
            "{error}"
        );
    }
}
