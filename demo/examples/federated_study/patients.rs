//! The patients of a repeat: four hospitals, unlabelled pools and labelled sets, one scan each.

use std::sync::Arc;

use core_model::phantom::{SITE_NAMES, Site};
use site_client::evaluate::Part;
use site_client::train::Plan;
use site_client::train::data::{
    Labelled, Memory, Phantoms, Reading, Source, Subset, Windowed, stream,
};

/// Patients for pre-training at each hospital: as many everywhere, since each gives as many scans to
/// a federated step. Otherwise pooled training would see another mixture of hospitals.
const POOL: u64 = 300;
/// Labelled patients of the internal hospital: training, validation, test.
const LABELLED: [usize; 3] = [128, 150, 240];
/// Labelled patients of each external hospital, all for the test.
const EXTERNAL: u64 = 100;
/// Least prevalence of each disease.
const FLOOR: f64 = 0.15;

/// Hospitals; the first is the internal one.
pub(crate) fn hospitals() -> [&'static str; 4] {
    SITE_NAMES
}

/// A hospital's pool for pre-training.
pub(crate) fn pool(plan: &Plan, seed: u64, hospital: usize) -> anyhow::Result<Labelled> {
    let set = one_scan_each(plan, hospital, stream(seed, "pool", &[]), POOL)?;
    Ok(set.with_parts(|_, _| Part::Train))
}

/// All pools as one, which no hospital could have.
pub(crate) fn pooled(plan: &Plan, seed: u64) -> anyhow::Result<Labelled> {
    let pools = (0..hospitals().len()).map(|hospital| pool(plan, seed, hospital));
    let pools = pools.collect::<anyhow::Result<Vec<_>>>()?;
    let rows = pools.iter().flat_map(|pool| pool.rows().to_vec()).collect();
    let tasks = pools[0].tasks().to_vec();
    let sources = pools.iter().map(|pool| Arc::clone(pool.source())).collect();
    Ok(Labelled::new(Arc::new(Union(sources)), tasks, rows)?)
}

/// The labelled patients of the internal hospital.
pub(crate) fn labelled(plan: &Plan, seed: u64) -> anyhow::Result<Labelled> {
    let [train, validation, test] = LABELLED;
    let patients = (train + validation + test) as u64;
    let set = one_scan_each(plan, 0, stream(seed, "labelled", &[]), patients)?;
    // Patients are drawn one by one, so the first ones are as good as any.
    Ok(set.with_parts(move |scan, _| {
        if scan < train {
            Part::Train
        } else if scan < train + validation {
            Part::Validation
        } else {
            Part::Test
        }
    }))
}

/// The labelled patients of the other hospitals.
pub(crate) fn external(plan: &Plan, seed: u64) -> anyhow::Result<Vec<Labelled>> {
    let seed = stream(seed, "external", &[]);
    (1..hospitals().len())
        .map(|hospital| {
            let set = one_scan_each(plan, hospital, seed, EXTERNAL)?;
            Ok(set.with_parts(|_, _| Part::Test))
        })
        .collect()
}

/// Phantom patients of a hospital with one scan each: scans are then independent.
fn one_scan_each(
    plan: &Plan,
    hospital: usize,
    seed: u64,
    patients: u64,
) -> anyhow::Result<Labelled> {
    let site = Site::builtin(hospitals()[hospital]).expect("a built-in site");
    let site = Site::new(site.profile().clone().with_prevalence_floor(FLOOR))?;
    let model = &plan.config().model;
    let set = Labelled::phantoms(Phantoms::new(
        site,
        seed,
        patients,
        model.input,
        model.channels,
    ));
    let rows = set.rows();
    let first = |scan: &usize| *scan == 0 || rows[*scan].patient != rows[scan - 1].patient;
    let scans: Vec<usize> = (0..rows.len()).filter(first).collect();
    let rows = scans.iter().map(|scan| rows[*scan].clone()).collect();
    let source = Arc::new(Subset::new(Arc::clone(set.source()), scans));
    let set = Labelled::new(source, set.tasks().to_vec(), rows)?;
    Ok(set.reading(|source| Arc::new(Memory::new(source, MEMORY_MIB))))
}

/// Scans of several sources, one source after the other.
#[derive(Debug)]
struct Union(Vec<Arc<dyn Source>>);

impl Union {
    fn find(&self, mut scan: usize) -> (&dyn Source, usize) {
        for source in &self.0 {
            if scan < source.len() {
                return (&**source, scan);
            }
            scan -= source.len();
        }
        unreachable!("a scan's index is below the number of scans")
    }
}

impl Source for Union {
    fn len(&self) -> usize {
        self.0.iter().map(|source| source.len()).sum()
    }

    fn id(&self, scan: usize) -> String {
        let (source, scan) = self.find(scan);
        source.id(scan)
    }

    fn load(&self, scan: usize, reading: Reading) -> Result<Arc<Windowed>, String> {
        let (source, scan) = self.find(scan);
        source.load(scan, reading)
    }
}

const MEMORY_MIB: usize = 512;
