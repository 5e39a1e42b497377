//! A prepared cohort as a source: `scans.csv`, `split.csv`, `labels.csv` and the cache, as
//! `import`, `split`, `labels` and `preprocess` leave them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use core_model::ct::{Order, Preprocessing, Preset, Window, resize_area};
use half::f16;

use super::{Labelled, LabelledScan, Reading, Source, Windowed, window, windows};
use crate::cohort::{self, CohortError, LabelTable, Split};
use crate::evaluate::Part;
use crate::ingest::{Cache, IngestError};
use crate::scans::{self, Scan};
use crate::train::config::Geometry;
use crate::train::{Plan, TrainError};

/// Where a prepared cohort lies.
#[derive(Clone, Debug)]
pub struct CohortFiles {
    /// Its folder; the folder's name is the site's name in predictions.
    pub folder: PathBuf,
    /// Its labels; `labels.csv` in the folder otherwise, or none.
    pub labels: Option<PathBuf>,
    /// Its parts; `split.csv` in the folder otherwise.
    pub split: Option<PathBuf>,
    /// The part of every scan of a cohort without a table of parts; without this, it is refused.
    pub unsplit: Option<Part>,
}

/// The scans of a prepared cohort, read from its cache.
///
/// | geometry | views | training | evaluation |
/// |---|---|---|---|
/// | `paper` | the 224 mm cube at 1 mm (as many voxels a side as `dino.cube`) | the same, at model size | its center of 192 mm, at model size |
/// | `repo` | the model's input, as released | the model's input | the model's input: the box of HU > 0 |
///
/// Evaluation reads the stored half-precision input, the rest the stored head crop; a model of one
/// window, whose input is not stored, reads the head crop throughout.
#[derive(Debug)]
pub struct CohortScans {
    cache: Cache,
    geometry: Geometry,
    /// Side of the volume that views are cut from, voxels.
    cube: usize,
    windows: Vec<Window>,
    ids: Vec<Arc<str>>,
}

impl CohortScans {
    fn new(folder: &Path, plan: &Plan) -> Self {
        let config = plan.config();
        let chain = Preprocessing {
            preset: match config.data.geometry {
                Geometry::Paper => Preset::Paper,
                Geometry::Repo => Preset::Repo,
            },
            order: Order::WindowThenResize,
            size: config.model.input,
            max_voxels: Preprocessing::MAX_VOXELS,
        };
        Self {
            cache: Cache::new(folder, chain),
            geometry: config.data.geometry,
            cube: plan.views().cube,
            windows: windows(config.model.channels),
            ids: Vec::new(),
        }
    }

    /// A volume made of the head crop.
    fn out_of_head(&self, scan: &str, reading: Reading) -> Result<Windowed, IngestError> {
        const CUBE: usize = Preprocessing::PAPER_CUBE_MM;
        let head = self.cache.head(scan)?;
        let chain = self.cache.chain();
        Ok(match (self.geometry, reading) {
            (Geometry::Paper, Reading::Views) => {
                self.windowed(&head.cube(CUBE), [CUBE; 3], self.cube)
            }
            (Geometry::Paper, Reading::Training) => {
                self.windowed(&head.cube(CUBE), [CUBE; 3], chain.size)
            }
            (Geometry::Repo, _) | (_, Reading::Evaluation) => {
                let cropped = chain
                    .cropped(&head.volume())
                    .map_err(|source| IngestError::volume(Path::new(scan), source))?;
                self.windowed(cropped.voxels_hu(), cropped.shape(), chain.size)
            }
        })
    }

    fn windowed(&self, voxels_hu: &[f32], shape: [usize; 3], size: usize) -> Windowed {
        if shape == [size; 3] {
            return window(voxels_hu, &self.windows, size);
        }
        let channel = |window: &Window| {
            let seen = resize_area(voxels_hu, shape, [size; 3], |hu| window.apply(hu));
            seen.into_iter().map(f16::from_f32)
        };
        Windowed {
            channels: self.windows.len(),
            size,
            values: self.windows.iter().flat_map(channel).collect(),
        }
    }
}

impl Source for CohortScans {
    fn len(&self) -> usize {
        self.ids.len()
    }

    fn id(&self, scan: usize) -> String {
        self.ids[scan].to_string()
    }

    fn load(&self, scan: usize, reading: Reading) -> Result<Arc<Windowed>, String> {
        let id = &self.ids[scan];
        let model_input = self.geometry == Geometry::Repo || reading == Reading::Evaluation;
        let loaded = if model_input && self.windows.len() == 3 {
            let (channels, size) = (self.windows.len(), self.cache.chain().size);
            self.cache.input_f16(id).map(|values| Windowed {
                channels,
                size,
                values,
            })
        } else {
            self.out_of_head(id, reading)
        };
        loaded.map(Arc::new).map_err(|error| error.reason())
    }
}

impl Labelled {
    /// A prepared cohort, at the size and in the geometry of `plan`.
    ///
    /// Scans without a part are left out, as are scans that are not in the cache.
    ///
    /// # Errors
    /// A table that is missing, breaks a rule or does not fit the others; a patient in two parts;
    /// more than 1 % of the scans not in the cache.
    pub fn cohort(files: &CohortFiles, plan: &Plan) -> Result<Self, TrainError> {
        let table = files.folder.join(scans::FILE_NAME);
        let all = scans::read(&table)?;
        let parts = files.parts(&all)?;
        let labels = match files.table(files.labels.as_deref(), "labels.csv") {
            Some(path) => LabelTable::read_for(&path, &table, &all)?,
            None => LabelTable::default(),
        };
        let (listed, total) = (parts.len(), all.len());
        if listed < total {
            tracing::warn!(
                left_out = total - listed,
                "scans that are in no part of the split are left out"
            );
        }
        let mut source = CohortScans::new(&files.folder, plan);
        let (present, missing): (Vec<&Scan>, Vec<&Scan>) = all
            .iter()
            .filter(|scan| parts.contains_key(&*scan.scan))
            .partition(|scan| source.cache.has(&scan.scan));
        if present.is_empty() && listed > 0 {
            let chain = source.cache.chain();
            let (preset, size, folder) = (chain.preset, chain.size, files.folder.display());
            return Err(TrainError::data(format!(
                "cohort {folder}: none of {listed} scans is preprocessed for preset {preset} at \
                 size {size}; run: fmct-site preprocess {folder} --preset {preset} --size {size}"
            )));
        }
        for scan in &missing {
            tracing::warn!(scan = scan.scan, "a scan is not in the cache: left out");
        }
        refuse_many(missing.iter().map(|scan| scan.scan.clone()), listed)?;

        let mut known: BTreeMap<String, Vec<Option<bool>>> = labels
            .rows
            .into_iter()
            .map(|row| (row.scan, row.labels))
            .collect();
        let site = files.site();
        let rows = present.iter().map(|scan| {
            let unknown = || vec![None; labels.tasks.len()];
            let labels = known.remove(&scan.scan).unwrap_or_else(unknown);
            row(scan, parts[&*scan.scan], &site, labels)
        });
        let rows = rows.collect();
        source.ids = present
            .iter()
            .map(|scan| scan.scan.as_str().into())
            .collect();
        let tasks = labels.tasks.iter().map(|task| task.as_str().into());
        Self::new(Arc::new(source), tasks.collect(), rows)
    }
}

impl CohortFiles {
    /// A cohort's folder with its tables where the commands put them.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            labels: None,
            split: None,
            unsplit: None,
        }
    }

    /// A table given by name, or the folder's own if there is one.
    fn table(&self, given: Option<&Path>, name: &str) -> Option<PathBuf> {
        let own = || Some(self.folder.join(name)).filter(|path| path.is_file());
        given.map(Path::to_owned).or_else(own)
    }

    fn site(&self) -> Arc<str> {
        let folder = self.folder.canonicalize();
        let folder = folder.as_deref().unwrap_or(&self.folder);
        let name = folder.file_name().unwrap_or_default();
        name.to_string_lossy().into()
    }

    /// The part of each scan that has one.
    fn parts<'a>(&self, all: &'a [Scan]) -> Result<BTreeMap<&'a str, Part>, TrainError> {
        let Some(path) = self.table(self.split.as_deref(), "split.csv") else {
            let part = self.unsplit.ok_or_else(|| {
                let folder = self.folder.display();
                TrainError::data(format!(
                    "cohort {folder}: no split.csv, expected what `fmct-site split --table \
                     {folder}/{} --out {folder}/split.csv` writes",
                    scans::FILE_NAME
                ))
            })?;
            return Ok(all.iter().map(|scan| (&*scan.scan, part)).collect());
        };
        let split = Split::read_scans(&path)?;
        let mut parts = BTreeMap::new();
        for scan in all {
            let Some((patient, part)) = split.get(&scan.scan) else {
                continue;
            };
            if *patient != scan.patient {
                return Err(TrainError::Cohort(CohortError::rule(
                    format!("{}: patient of scan {}", path.display(), scan.scan),
                    format!("\"{patient}\""),
                    format!("\"{}\", as in {}", scan.patient, scans::FILE_NAME),
                )));
            }
            let part = match part {
                cohort::Part::Train => Part::Train,
                cohort::Part::Validation => Part::Validation,
                cohort::Part::Test => Part::Test,
            };
            parts.insert(&*scan.scan, part);
        }
        Ok(parts)
    }
}

/// An error if more than 1 % of `total` scans are among `unreadable`.
pub(in crate::train) fn refuse_many(
    unreadable: impl ExactSizeIterator<Item = String>,
    total: usize,
) -> Result<(), TrainError> {
    if unreadable.len() * 100 > total {
        let scans = unreadable.collect();
        return Err(TrainError::Unreadable { scans, total });
    }
    Ok(())
}

fn row(scan: &Scan, part: Part, site: &Arc<str>, labels: Vec<Option<bool>>) -> LabelledScan {
    let text = |value: &Option<String>| value.as_deref().map(Arc::from);
    LabelledScan {
        patient: scan.patient.as_str().into(),
        scan: scan.scan.as_str().into(),
        site: Some(Arc::clone(site)),
        manufacturer: text(&scan.manufacturer),
        thickness: scan.thickness_mm.map(shortest),
        sex: text(&scan.sex),
        age: scan.age_years.map(shortest),
        part,
        labels,
    }
}

/// The double that prints as the single does: 0.6 stays 0.6.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}
