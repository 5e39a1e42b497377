//! A PACS export, or a folder of NIfTI files, becomes a cohort: `nifti/`, `scans.csv`, `rejected.csv`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use core_model::ct::{Affine, Preprocessing};
use serde::Serialize;
use walkdir::WalkDir;

use super::dicom::{self, Assembled, Filter, Reason, Slice};
use super::nifti::{self, Voxels};
use super::pseudonym::Pseudonyms;
use super::{IngestError, metadata, private};
use crate::scans::{self, Scan};

/// How to import.
#[derive(Debug, Clone)]
pub struct Import {
    /// Which series enter.
    pub filter: Filter,
    /// Accept series with missing slices.
    pub allow_gaps: bool,
    /// Refuse volumes with more voxels.
    pub max_voxels: usize,
    /// Write `mrn.csv`, which links pseudonyms to identifiers.
    pub keep_mrn: bool,
}

impl Default for Import {
    fn default() -> Self {
        Self {
            filter: Filter::paper(),
            allow_gaps: false,
            max_voxels: Preprocessing::MAX_VOXELS,
            keep_mrn: false,
        }
    }
}

/// What an import did.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Scans in the cohort, those of earlier imports included.
    pub scans: Vec<Scan>,
    /// Scans this import added or replaced.
    pub accepted: usize,
    /// What was refused.
    pub rejected: Vec<Rejected>,
}

/// A refused file or series: one row of `rejected.csv`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rejected {
    /// The file, or the first file of the series, relative to the imported folder.
    pub source: PathBuf,
    /// Files refused with it.
    pub files: usize,
    /// For machines: see [`Reason::code`].
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Rejected {
    fn new(source: &Path, files: usize, reason: &Reason) -> Self {
        let (reason, message) = (reason.code(), reason.to_string());
        Self {
            source: source.to_owned(),
            files,
            reason,
            message,
        }
    }
}

/// One row of `mrn.csv`.
#[derive(Serialize)]
struct Link {
    patient: String,
    mrn: String,
    scan: String,
    source: PathBuf,
}

/// Walks a DICOM tree; `report` hears how many files were looked at and series finished.
///
/// # Errors
/// A folder that cannot be walked or written to.
pub fn dicom_tree(
    from: &Path,
    cohort: &Path,
    import: &Import,
    mut report: impl FnMut(Progress),
) -> Result<Summary, IngestError> {
    let mut output = Output::open(cohort, import)?;
    let mut series: BTreeMap<String, Vec<Slice>> = BTreeMap::new();
    for path in files(from)? {
        report(Progress::File);
        match dicom::read_slices(&path) {
            Ok(slices) => {
                for slice in slices {
                    series.entry(slice.series.clone()).or_default().push(slice);
                }
            }
            Err(reason) => output.reject(relative(&path, from), 1, &reason),
        }
    }
    report(Progress::Series(series.len()));
    for (uid, slices) in series {
        let (first, files) = (slices[0].clone(), slices.len());
        let source = relative(&first.path, from);
        let volume = import.filter.check(&first).and_then(|()| {
            let Import {
                filter,
                max_voxels,
                allow_gaps,
                ..
            } = import;
            let volume = dicom::assemble(slices, filter.min_slices, *max_voxels, *allow_gaps)?;
            check_head(volume.shape, &volume.affine, &volume.voxels)?;
            Ok(volume)
        });
        match volume {
            Ok(volume) => {
                let scan = metadata::scan(&output.pseudonyms, &uid, &first, &volume);
                output.accept(scan, &volume, &first.patient.id, source)?;
            }
            Err(reason) => output.reject(source, files, &reason),
        }
        report(Progress::Finished);
    }
    output.close()
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A file was looked at.
    File,
    /// All files were: so many series follow.
    Series(usize),
    /// A series was accepted or refused.
    Finished,
}

/// Takes NIfTI files (of dcm2niix, RSNA, CQ500) into a cohort.
///
/// A patient is a top folder of `from` if `patient_is_folder`, else a file.
///
/// # Errors
/// A folder that cannot be walked or written to.
pub fn nifti_tree(
    from: &Path,
    cohort: &Path,
    import: &Import,
    patient_is_folder: bool,
    mut report: impl FnMut(Progress),
) -> Result<Summary, IngestError> {
    let mut output = Output::open(cohort, import)?;
    let paths: Vec<PathBuf> = files(from)?
        .into_iter()
        .filter(|path| is_nifti(path))
        .collect();
    report(Progress::Series(paths.len()));
    for path in paths {
        let source = relative(&path, from);
        let volume = nifti::read(&path, import.max_voxels)
            .and_then(|scan| {
                let affine = scan.header.affine;
                let shape = scan.header.shape;
                let voxels = scan
                    .stored_hu()
                    .map_err(|error| IngestError::nifti(&path, error))?;
                let voxels = Voxels::exact(voxels);
                Ok(Assembled {
                    shape,
                    voxels,
                    affine,
                    flags: Vec::new(),
                })
            })
            .map_err(|error| Reason::Unreadable {
                problem: error.reason(),
            })
            .and_then(|volume| {
                let limit = import.filter.min_slices;
                match volume.shape.into_iter().min() {
                    Some(found) if found < limit => Err(Reason::TooFewSlices { found, limit }),
                    _ => check_head(volume.shape, &volume.affine, &volume.voxels).map(|()| volume),
                }
            });
        match volume {
            Ok(volume) => {
                let name = source.with_extension("").with_extension("");
                let top = name
                    .iter()
                    .next()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let name = name.to_string_lossy().into_owned();
                let patient = if patient_is_folder { top } else { name.clone() };
                let scan = metadata::nifti_scan(&output.pseudonyms, &name, &patient, &volume);
                output.accept(scan, &volume, &patient, source)?;
            }
            Err(reason) => output.reject(source, 1, &reason),
        }
        report(Progress::Finished);
    }
    output.close()
}

fn check_head(shape: [usize; 3], affine: &Affine, voxels: &Voxels) -> Result<(), Reason> {
    match voxels {
        Voxels::I16(hu) => dicom::check_voxels(shape, affine.spacing(), |i| hu[i].into()),
        Voxels::F32(hu) => dicom::check_voxels(shape, affine.spacing(), |i| hu[i]),
    }
}

/// The cohort's folder while it is filled.
struct Output<'a> {
    cohort: &'a Path,
    import: &'a Import,
    pseudonyms: Pseudonyms,
    scans: BTreeMap<String, Scan>,
    accepted: usize,
    rejected: Vec<Rejected>,
    links: Vec<Link>,
}

impl<'a> Output<'a> {
    fn open(cohort: &'a Path, import: &'a Import) -> Result<Self, IngestError> {
        let nifti = cohort.join("nifti");
        fs::create_dir_all(&nifti).map_err(IngestError::io("create", nifti))?;
        let table = cohort.join(scans::FILE_NAME);
        let before = if table.is_file() {
            scans::read(&table)?
        } else {
            Vec::new()
        };
        Ok(Self {
            cohort,
            import,
            pseudonyms: Pseudonyms::open(cohort)?,
            scans: before
                .into_iter()
                .map(|scan| (scan.scan.clone(), scan))
                .collect(),
            accepted: 0,
            rejected: Vec::new(),
            links: Vec::new(),
        })
    }

    fn accept(
        &mut self,
        scan: Scan,
        volume: &Assembled,
        mrn: &str,
        source: PathBuf,
    ) -> Result<(), IngestError> {
        let path = self.cohort.join(&scan.file);
        nifti::write(&path, volume.shape, &volume.voxels, &volume.affine)?;
        let (patient, mrn) = (scan.patient.clone(), mrn.to_owned());
        self.links.push(Link {
            patient,
            mrn,
            scan: scan.scan.clone(),
            source,
        });
        self.scans.insert(scan.scan.clone(), scan);
        self.accepted += 1;
        Ok(())
    }

    fn reject(&mut self, source: PathBuf, files: usize, reason: &Reason) {
        self.rejected.push(Rejected::new(&source, files, reason));
    }

    fn close(self) -> Result<Summary, IngestError> {
        let scans: Vec<Scan> = self.scans.into_values().collect();
        scans::write(&self.cohort.join(scans::FILE_NAME), &scans)?;
        // Folder names of a PACS export may hold names, so these tables are the owner's alone.
        private::write_csv(&self.cohort.join("rejected.csv"), &self.rejected)?;
        if self.import.keep_mrn {
            private::write_csv(&self.cohort.join("mrn.csv"), &self.links)?;
        }
        Ok(Summary {
            scans,
            accepted: self.accepted,
            rejected: self.rejected,
        })
    }
}

/// Every file below a folder, sorted, links not followed.
fn files(folder: &Path) -> Result<Vec<PathBuf>, IngestError> {
    let mut files = Vec::new();
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(folder).to_owned();
            IngestError::io("walk", path)(error.into())
        })?;
        if entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

fn is_nifti(path: &Path) -> bool {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    [".nii", ".nii.gz", ".hdr", ".hdr.gz"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

fn relative(path: &Path, from: &Path) -> PathBuf {
    path.strip_prefix(from).unwrap_or(path).to_owned()
}
