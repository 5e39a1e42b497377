//! Cohorts of phantom patients on disk: scans, `scans.csv`, health records, and the truth apart.

mod dicom;
mod extract;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use core_model::ct::{Affine, Volume};
use core_model::phantom::{Acquisition, Disease, Grid, Patient, Sex, Site};
use jiff::ToSpan;
use jiff::civil::DateTime;
use rayon::prelude::*;

use crate::ingest::nifti;
use crate::scans::{self, Scan};

use super::error::CohortError;
use super::records::RecordFormat;
use super::sheet::write_whole;
use super::table::{LabelRow, LabelTable};

/// Patients rendered before their rows are kept: bounds memory, not the result.
const BATCH: u64 = 64;
/// Tasks of CQ500 beside the ten diseases, as its table spells them.
const READ_TASKS: [&str; 4] = [
    "BleedLocation-Left",
    "BleedLocation-Right",
    "MassEffect",
    "MidlineShift",
];

/// How scans are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FileFormat {
    /// One `.nii.gz` per scan, and `scans.csv`.
    Nifti,
    /// One folder of DICOM files per scan, to be imported as a hospital's are.
    Dicom,
}

/// What to make.
#[derive(Clone, Debug)]
pub struct PhantomPlan {
    /// The site.
    pub site: Site,
    /// Patients.
    pub patients: u64,
    /// The first patient's number: cohorts of one seed with disjoint numbers share nobody.
    pub first: u64,
    /// Seed.
    pub seed: u64,
    /// How scans are stored.
    pub format: FileFormat,
    /// Voxels a side of a cube at model size, instead of the scanner's slices.
    pub grid: Option<usize>,
    /// Pixels a side of a slice.
    pub matrix: usize,
    /// Forms of the health records.
    pub records: Vec<RecordFormat>,
    /// Whether lesion masks are stored.
    pub masks: bool,
}

/// What was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhantomSummary {
    /// Patients.
    pub patients: u64,
    /// Scans.
    pub scans: u64,
}

/// Writes cohorts of phantom patients.
#[derive(Debug)]
pub struct Cohort<'a> {
    plan: &'a PhantomPlan,
    folder: &'a Path,
}

/// A patient and the names and times of its scans.
struct Chart {
    patient: Patient,
    name: String,
    visits: Vec<Visit>,
}

struct Visit {
    scan: String,
    number: u32,
    time: DateTime,
}

impl PhantomPlan {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// No patient, a grid or matrix out of range, or a grid of DICOM files.
    pub fn check(&self) -> Result<(), CohortError> {
        let refuse = |object: &str, found: String, expected: &str| {
            Err(CohortError::rule(
                format!("phantom: {object}"),
                found,
                expected,
            ))
        };
        if self.patients == 0 {
            return refuse("patients", "0".into(), "1 or more");
        }
        if let Some(grid) = self.grid
            && !(8..=256).contains(&grid)
        {
            return refuse("grid", grid.to_string(), "8 to 256");
        }
        if self.grid.is_some() && self.format == FileFormat::Dicom {
            return refuse("grid", "a cube at model size as DICOM".into(), "NIfTI");
        }
        if !(32..=1024).contains(&self.matrix) {
            return refuse("matrix", self.matrix.to_string(), "32 to 1024");
        }
        Ok(())
    }
}

impl<'a> Cohort<'a> {
    /// Writes a cohort to a folder: `scans.csv` and `nifti/` (or `dicom/`), `ehr/` with one folder
    /// per form, and `truth/` with labels, findings and masks. The same plan writes the same bytes
    /// on any number of threads.
    ///
    /// # Errors
    /// A plan that breaks a rule, or a file that cannot be written.
    pub fn write(
        plan: &'a PhantomPlan,
        folder: &'a Path,
        progress: impl Fn(u64) + Sync,
    ) -> Result<PhantomSummary, CohortError> {
        plan.check()?;
        let cohort = Self { plan, folder };
        cohort.make_folders()?;
        let mut rows = Vec::new();
        let mut charts = Vec::new();
        let last = plan.first + plan.patients;
        let mut next = plan.first;
        while next < last {
            let until = (next + BATCH).min(last);
            let batch: Vec<(Chart, Vec<Scan>)> = (next..until)
                .into_par_iter()
                .map(|index| {
                    let chart = cohort.chart(index);
                    let scans = chart.visits.iter().map(|visit| cohort.scan(&chart, visit));
                    let scans = scans.collect::<Result<Vec<_>, _>>()?;
                    progress(1);
                    Ok((chart, scans))
                })
                .collect::<Result<_, CohortError>>()?;
            for (chart, scans) in batch {
                rows.extend(scans);
                charts.push(chart);
            }
            next = until;
        }
        if plan.format == FileFormat::Nifti {
            scans::write(&folder.join(scans::FILE_NAME), &rows)?;
        }
        cohort.write_truth(&charts)?;
        for format in &plan.records {
            extract::write(
                &cohort.records_folder(*format),
                *format,
                &plan.site,
                &charts,
            )?;
        }
        Ok(PhantomSummary {
            patients: plan.patients,
            scans: rows.len() as u64,
        })
    }

    fn make_folders(&self) -> Result<(), CohortError> {
        let images = match self.plan.format {
            FileFormat::Nifti => "nifti",
            FileFormat::Dicom => "dicom",
        };
        let mut folders = vec![self.folder.join(images), self.folder.join("truth")];
        if self.plan.masks {
            folders.push(self.folder.join("truth/masks"));
        }
        folders.extend(
            self.plan
                .records
                .iter()
                .map(|format| self.records_folder(*format)),
        );
        folders
            .iter()
            .try_for_each(|path| fs::create_dir_all(path).map_err(CohortError::io(path)))
    }

    fn records_folder(&self, format: RecordFormat) -> PathBuf {
        let name = match format {
            RecordFormat::Plain => "ehr/plain",
            RecordFormat::Omop => "ehr/omop",
            RecordFormat::Fhir => "ehr/fhir",
        };
        self.folder.join(name)
    }

    /// Draws a patient and gives names and times to its scans: some day of the years the paper's
    /// scans are from, then some days apart.
    fn chart(&self, index: u64) -> Chart {
        let site = &self.plan.site;
        let patient = Patient::draw(site, self.plan.seed, index);
        let name = format!("{}-{index:06}", site.profile().name);
        let mut stream = patient.record_stream(0);
        let first = jiff::civil::date(2009, 1, 1).at(0, 0, 0, 0);
        let days = stream.uniform(0.0, 5200.0) as i32;
        let minutes = stream.uniform(0.0, 1439.0) as i32;
        let mut time = first.saturating_add(days.days().minutes(minutes));
        let visits = (0..patient.scans()).map(|number| {
            let visit = Visit {
                scan: format!("{name}-{number}"),
                number,
                time,
            };
            time = time.saturating_add((stream.uniform(4.0, 150.0) as i32).hours());
            visit
        });
        let visits = visits.collect();
        Chart {
            patient,
            name,
            visits,
        }
    }

    fn scan(&self, chart: &Chart, visit: &Visit) -> Result<Scan, CohortError> {
        let patient = &chart.patient;
        let acquisition = patient.acquisition(&self.plan.site, visit.number);
        let grid = match self.plan.grid {
            Some(n) => patient.model_grid(&acquisition, n),
            None => patient.scanner_grid(&acquisition, self.plan.matrix),
        };
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| CohortError::Phantom {
            scan: visit.scan.clone(),
            source,
        };
        let voxels_hu: Vec<f32> = patient
            .render(&acquisition, &grid)
            .into_iter()
            .map(f32::round)
            .collect();
        let affine = Affine::new(grid.affine()).map_err(|error| failed(error.into()))?;
        let file = PathBuf::from(format!("nifti/{}.nii.gz", visit.scan));
        let digest = digest(&voxels_hu, &grid);
        match self.plan.format {
            FileFormat::Nifti => {
                let volume = Volume::new(grid.shape(), affine, voxels_hu)
                    .map_err(|error| failed(error.into()))?;
                nifti::write_volume(&self.folder.join(&file), &volume)
                    .map_err(|error| failed(error.into()))?;
            }
            FileFormat::Dicom => {
                let folder = self
                    .folder
                    .join("dicom")
                    .join(&chart.name)
                    .join(&visit.scan);
                fs::create_dir_all(&folder).map_err(CohortError::io(&folder))?;
                let series = dicom::Series {
                    chart,
                    visit,
                    acquisition: &acquisition,
                    grid: &grid,
                };
                series.write(&folder, &voxels_hu).map_err(failed)?;
            }
        }
        if self.plan.masks {
            let mask = patient
                .render_mask(&acquisition, &grid)
                .into_iter()
                .map(f32::from)
                .collect();
            let volume =
                Volume::new(grid.shape(), affine, mask).map_err(|error| failed(error.into()))?;
            let path = self
                .folder
                .join(format!("truth/masks/{}.nii.gz", visit.scan));
            nifti::write_volume(&path, &volume).map_err(|error| failed(error.into()))?;
        }
        Ok(row(chart, visit, &acquisition, &grid, file, digest))
    }

    /// The true labels, and what else is true of each scan. A site whose scans are read by
    /// radiologists has no other labels, so they are also the cohort's `labels.csv`.
    fn write_truth(&self, charts: &[Chart]) -> Result<(), CohortError> {
        let tasks = Disease::ALL
            .map(Disease::name)
            .into_iter()
            .chain(READ_TASKS);
        let mut table = LabelTable {
            tasks: tasks.map(str::to_owned).collect(),
            rows: Vec::new(),
        };
        let mut findings = Vec::new();
        for chart in charts {
            let truth = chart.patient.truth();
            let reads = [
                truth.bleed_left,
                truth.bleed_right,
                truth.mass_effect,
                truth.midline_shift,
            ];
            let labels: Vec<Option<bool>> = Disease::ALL
                .map(|disease| truth.diseases.contains(disease))
                .into_iter()
                .chain(reads)
                .map(Some)
                .collect();
            for visit in &chart.visits {
                table.rows.push(LabelRow {
                    scan: visit.scan.clone(),
                    patient: chart.name.clone(),
                    labels: labels.clone(),
                });
                let shift = format!("{:.1}", truth.midline_shift_mm);
                findings.push([visit.scan.clone(), shift]);
            }
        }
        table.write(&self.folder.join("truth/labels.csv"))?;
        let records = self.plan.site.profile().records;
        if records == core_model::phantom::RecordNoise::default() {
            table.write(&self.folder.join("labels.csv"))?;
        }
        write_whole(&self.folder.join("truth/findings.csv"), |writer| {
            writer.write_record(["scan", "midline_shift_mm"])?;
            findings.iter().try_for_each(|row| writer.write_record(row))
        })
    }
}

fn row(
    chart: &Chart,
    visit: &Visit,
    acquisition: &Acquisition,
    grid: &Grid,
    file: PathBuf,
    digest: String,
) -> Scan {
    let [columns, rows, slices] = grid.shape();
    let [spacing_x_mm, spacing_y_mm, spacing_z_mm] = grid.spacing_mm();
    let machine = &acquisition.machine;
    Scan {
        scan: visit.scan.clone(),
        patient: chart.name.clone(),
        file,
        study_time: Some(visit.time),
        age_years: Some(f32::from(chart.patient.age())),
        sex: Some(sex(chart.patient.sex()).to_owned()),
        manufacturer: Some(machine.manufacturer.clone()),
        model: Some(machine.model.clone()),
        kernel: Some(machine.kernel.clone()),
        kvp: Some(f32::from(machine.kvp)),
        thickness_mm: Some(acquisition.thickness_mm),
        spacing_x_mm,
        spacing_y_mm,
        spacing_z_mm,
        rows,
        columns,
        slices,
        body_part: Some("HEAD".to_owned()),
        contrast: Some(false),
        flags: String::new(),
        digest,
    }
}

const fn sex(sex: Sex) -> &'static str {
    match sex {
        Sex::Female => "F",
        Sex::Male => "M",
    }
}

/// BLAKE3 of geometry and voxels.
fn digest(voxels_hu: &[f32], grid: &Grid) -> String {
    let mut hasher = blake3::Hasher::new();
    for n in grid.shape() {
        hasher.update(&(n as u64).to_le_bytes());
    }
    for value in grid.affine().iter().flatten() {
        hasher.update(&value.to_le_bytes());
    }
    let bytes: Vec<u8> = voxels_hu
        .iter()
        .flat_map(|hu| (*hu as i16).to_le_bytes())
        .collect();
    hasher.update(&bytes);
    hasher.finalize().to_hex().to_string()
}
