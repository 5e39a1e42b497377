//! Who is scanned: the unlabelled pool, the labelled site, the external sites.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use core_model::phantom::Site;
use half::f16;
use rayon::prelude::*;
use serde::Serialize;
use site_client::evaluate::Part;
use site_client::train::Plan;
use site_client::train::data::{
    Labelled, Phantoms, Reading, Source, Subset, Windowed, in_fraction, stream,
};

/// The external sites.
pub(crate) const EXTERNAL: [&str; 3] = ["longisland", "rsna", "cq500"];

/// How many patients there are, one scan of each.
#[derive(Clone, Debug, Serialize, clap::Args)]
pub(crate) struct Scale {
    /// Unlabelled patients for pre-training, at langone.
    #[arg(long, default_value_t = 4000)]
    pool: u64,
    /// Labelled patients at langone to draw training scans from.
    #[arg(long, default_value_t = 2100)]
    train: u64,
    /// Validation patients at each site.
    #[arg(long, default_value_t = 300)]
    validation: u64,
    /// Test patients at langone.
    #[arg(long, default_value_t = 600)]
    test: u64,
    /// Test patients at each external site, and as many for training there.
    #[arg(long, default_value_t = 200)]
    external: u64,
    /// Labelled training scans in a subset.
    #[arg(long, default_value_t = 64)]
    labelled: usize,
    /// Least prevalence of each disease.
    #[arg(long, default_value_t = 0.15)]
    floor: f64,
}

/// The scans of the study.
pub(crate) struct Cohorts {
    pool: Labelled,
    internal: Labelled,
    external: Vec<Labelled>,
    labelled: usize,
}

impl Cohorts {
    /// Opens the tables of scans under `dir`, drawing those that are not there.
    pub(crate) fn open(dir: &Path, plan: &Plan, scale: &Scale) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let site = |name: &str, seed, patients| cohort(dir, plan, scale, (name, seed, patients));
        let patients = scale.train + scale.validation + scale.test;
        let internal = site("langone", 2, patients)?.with_parts(by_place(scale.test, scale));
        let external = EXTERNAL.map(|name| {
            let patients = 2 * scale.external + scale.validation;
            Ok(site(name, 3, patients)?.with_parts(by_place(scale.external, scale)))
        });
        Ok(Self {
            pool: site("langone", 1, scale.pool)?,
            internal,
            external: external.into_iter().collect::<anyhow::Result<_>>()?,
            labelled: scale.labelled,
        })
    }

    /// The scans of the first `percent` of the pool's patients; no label of theirs is read.
    pub(crate) fn pool(&self, percent: u64) -> Arc<dyn Source> {
        let fraction = percent as f64 / 100.0;
        let wanted = |scan: &usize| in_fraction(&self.pool.rows()[*scan].patient, fraction);
        let scans = (0..self.pool.rows().len()).filter(wanted).collect();
        Arc::new(Subset::new(Arc::clone(self.pool.source()), scans))
    }

    /// The labelled site, all its training scans.
    pub(crate) fn internal(&self) -> &Labelled {
        &self.internal
    }

    /// The external sites; their training parts serve the in-site reference alone.
    pub(crate) fn external(&self) -> &[Labelled] {
        &self.external
    }

    /// A site with its training part reduced to a drawn subset that holds both classes of every
    /// task.
    pub(crate) fn subset(&self, set: &Labelled, subset: u64) -> anyhow::Result<Labelled> {
        let train = set.part(Part::Train);
        for attempt in 0..100 {
            let mut order = train.clone();
            order.sort_by_key(|scan| stream(subset, "subset", &[attempt, *scan as u64]));
            order.truncate(self.labelled);
            order.sort_unstable();
            let wanted = |scan: &usize| {
                set.rows()[*scan].part != Part::Train || order.binary_search(scan).is_ok()
            };
            let kept: Vec<usize> = (0..set.rows().len()).filter(wanted).collect();
            let rows = kept.iter().map(|scan| set.rows()[*scan].clone()).collect();
            let source = Arc::new(Subset::new(Arc::clone(set.source()), kept));
            let chosen = Labelled::new(source, set.tasks().to_vec(), rows)?;
            let tasks = 0..set.tasks().len();
            if tasks
                .clone()
                .all(|task| chosen.classes(task, Part::Train).is_ok())
            {
                return Ok(chosen);
            }
        }
        anyhow::bail!("no subset of {} scans holds every class", self.labelled)
    }
}

/// The first patients test, the next validate, the others train.
fn by_place(
    test: u64,
    scale: &Scale,
) -> impl Fn(usize, &site_client::train::data::LabelledScan) -> Part {
    let validation = test + scale.validation;
    move |scan, _| match scan as u64 {
        scan if scan < test => Part::Test,
        scan if scan < validation => Part::Validation,
        _ => Part::Train,
    }
}

/// Patients of a site with one scan each: scans are then independent, and scan i is patient i's.
fn cohort(
    dir: &Path,
    plan: &Plan,
    scale: &Scale,
    (name, seed, patients): (&str, u64, u64),
) -> anyhow::Result<Labelled> {
    let site = Site::builtin(name).expect("a built-in site");
    let site = Site::new(site.profile().clone().with_prevalence_floor(scale.floor))?;
    let model = &plan.config().model;
    let phantoms = Phantoms::new(site, seed, patients, model.input, model.channels);
    let set = Labelled::phantoms(phantoms);
    let first = |scan: &usize| {
        let rows = set.rows();
        *scan == 0 || rows[*scan].patient != rows[scan - 1].patient
    };
    let scans: Vec<usize> = (0..set.rows().len()).filter(first).collect();
    let rows = scans.iter().map(|scan| set.rows()[*scan].clone()).collect();
    let source = Subset::new(Arc::clone(set.source()), scans);
    let (size, channels) = (model.input, model.channels);
    let file = format!("{name}-{seed}-{patients}-{size}x{channels}.f16");
    let table = Table::open(&dir.join(file), source, size, channels)?;
    Ok(Labelled::new(Arc::new(table), set.tasks().to_vec(), rows)?)
}

/// Scans in one file, half precision, one after the other: processes share its pages.
#[derive(Debug)]
struct Table {
    drawn: Subset,
    file: File,
    size: usize,
    channels: usize,
}

impl Table {
    fn open(path: &Path, drawn: Subset, size: usize, channels: usize) -> anyhow::Result<Self> {
        let lock = File::create(path.with_extension("lock"))?;
        lock.lock()?;
        if !path.exists() {
            draw(&drawn, path).with_context(|| format!("{}: drawing", path.display()))?;
        }
        Ok(Self {
            drawn,
            file: File::open(path)?,
            size,
            channels,
        })
    }
}

fn draw(source: &Subset, path: &Path) -> anyhow::Result<()> {
    let scans: Result<Vec<_>, String> = (0..source.len())
        .into_par_iter()
        .map(|scan| source.load(scan, Reading::Training))
        .collect();
    let mut bytes = Vec::new();
    for scan in scans.map_err(anyhow::Error::msg)? {
        bytes.extend(scan.values.iter().flat_map(|value| value.to_le_bytes()));
    }
    let partial = PathBuf::from(format!("{}.partial", path.display()));
    fs::write(&partial, bytes)?;
    Ok(fs::rename(partial, path)?)
}

impl Source for Table {
    fn len(&self) -> usize {
        self.drawn.len()
    }

    fn id(&self, scan: usize) -> String {
        self.drawn.id(scan)
    }

    fn load(&self, scan: usize, _: Reading) -> Result<Arc<Windowed>, String> {
        let values = self.channels * self.size.pow(3);
        let mut bytes = vec![0; 2 * values];
        let place = (scan * bytes.len()) as u64;
        self.file
            .read_exact_at(&mut bytes, place)
            .map_err(|error| error.to_string())?;
        let (pairs, _) = bytes.as_chunks::<2>();
        Ok(Arc::new(Windowed {
            channels: self.channels,
            size: self.size,
            values: pairs.iter().map(|pair| f16::from_le_bytes(*pair)).collect(),
        }))
    }
}
