//! Preprocesses one scan, or the scans of a cohort into its cache.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use core_model::ct::{HeadCrop, Preprocessing};

use super::cache::Cache;
use super::qc::Portrait;
use super::{IngestError, nifti};
use crate::scans::Scan;

/// One machine's part of a cohort: every `of`-th scan, from `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub index: usize,
    /// Number of shards.
    pub of: usize,
}

impl Shard {
    /// Everything.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// The scans of this shard; the same whatever the order of the table.
    #[must_use]
    pub fn select<'a>(&self, scans: &'a [Scan]) -> Vec<&'a Scan> {
        let mut all: Vec<&Scan> = scans.iter().collect();
        all.sort_by(|a, b| a.scan.cmp(&b.scan));
        all.into_iter().skip(self.index).step_by(self.of).collect()
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text
            .split_once('/')
            .and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, of)) if index < of => Ok(Self { index, of }),
            _ => Err(format!(
                "shard: {text:?}, expected I/N with I from 0 to N-1"
            )),
        }
    }
}

/// What became of a scan.
#[derive(Debug)]
pub enum Outcome {
    /// Preprocessed and stored.
    Stored,
    /// Already there, made from the same content.
    Present,
    /// Refused or unreadable; the others go on.
    Failed(IngestError),
}

/// Fills a cohort's cache, one scan per worker; `report` hears of each scan as it ends.
///
/// Scans already there are skipped, so a killed run resumes.
///
/// # Errors
/// The first entry that cannot be written: with a full disk the others would fail too.
pub fn fill(
    cohort: &Path,
    cache: &Cache,
    scans: &[&Scan],
    workers: usize,
    with_portraits: bool,
    mut report: impl FnMut(&Scan, &Outcome, Option<Portrait>),
) -> Result<(), IngestError> {
    cache.create()?;
    let next = AtomicUsize::new(0);
    let (done, finished) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..workers.max(1) {
            let (done, next) = (done.clone(), &next);
            scope.spawn(move || {
                while let Some(&scan) = scans.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = one(cohort, cache, scan, with_portraits);
                    if done.send((scan, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        for (scan, outcome) in finished {
            let (outcome, portrait) = match outcome {
                Ok(ended) => ended,
                Err(
                    error @ IngestError::Io {
                        action: "write", ..
                    },
                ) => return Err(error),
                Err(error) => (Outcome::Failed(error), None),
            };
            report(scan, &outcome, portrait);
        }
        Ok(())
    })
}

fn one(
    cohort: &Path,
    cache: &Cache,
    scan: &Scan,
    with_portrait: bool,
) -> Result<(Outcome, Option<Portrait>), IngestError> {
    let path = cohort.join(&scan.file);
    let bytes = fs::read(&path).map_err(IngestError::io("read", &path))?;
    let content = blake3::hash(&bytes);
    if !with_portrait && cache.holds(&scan.scan, &content) {
        return Ok((Outcome::Present, None));
    }
    let volume = nifti::read_ras_bytes(&bytes, None, cache.chain().max_voxels)
        .map_err(|source| IngestError::nifti(&path, source))?;
    drop(bytes);
    let refused = |source| IngestError::volume(&path, source);
    let chain = cache.chain();
    let at_1mm = chain.at_1mm(volume).map_err(refused)?;
    let portrait = with_portrait.then(|| Portrait::of(scan, &at_1mm));
    let head = HeadCrop::new(&at_1mm).map_err(refused)?;
    let cropped = chain.cropped(&at_1mm).map_err(refused)?;
    drop(at_1mm);
    cache.store(&scan.scan, &content, &chain.model_input(&cropped), &head)?;
    Ok((Outcome::Stored, portrait))
}

/// The whole chain for one file.
///
/// # Errors
/// As [`nifti::read_ras`], or a volume that cannot be preprocessed.
pub fn one_file(
    path: &Path,
    chain: &Preprocessing,
) -> Result<core_model::ct::ModelInput, IngestError> {
    chain
        .run(nifti::read_ras(path, chain.max_voxels)?)
        .map_err(|source| IngestError::volume(path, source))
}
