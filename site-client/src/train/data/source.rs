//! Where scans come from.

use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use core_model::ssl::views::Augmentation;
use half::f16;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A scan as the model sees it: windowed, cubic, values about 0…1.
#[derive(Clone, PartialEq)]
pub struct Windowed {
    /// One per window.
    pub channels: usize,
    /// Edge in voxels.
    pub size: usize,
    /// `[C, S, S, S]`, row-major; half precision as in the published cache.
    pub values: Vec<f16>,
}

impl Debug for Windowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { channels, size, .. } = self;
        write!(f, "Windowed[{channels}, {size}, {size}, {size}]")
    }
}

impl Windowed {
    /// Appends the voxels, flipped and shifted as `augmentation` says with draws from `seed`.
    pub fn augmented(&self, augmentation: &Augmentation, seed: u64, out: &mut Vec<f32>) {
        let start = out.len();
        out.extend(self.values.iter().map(|value| value.to_f32()));
        augmentation.apply(
            &mut out[start..],
            self.size,
            &mut ChaCha8Rng::seed_from_u64(seed),
        );
    }

    /// The voxels in single precision.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        self.values.iter().map(|value| value.to_f32()).collect()
    }
}

/// What a scan is read for: the published geometry differs between these three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// To cut views from (DINO): the largest volume, cubic but not of the model's size.
    Views,
    /// To train on as it is (MAE, fine-tuning): the model's size.
    Training,
    /// To be scored, or turned into features: the model's size.
    Evaluation,
}

impl Reading {
    /// How many there are.
    const COUNT: usize = 3;
}

/// Scans by index.
///
/// An index names the same scan for the life of the source, and loading it twice gives the same
/// values; random access from several threads is what makes shuffling and background loading free.
pub trait Source: Debug + Send + Sync {
    /// Number of scans.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pseudonymous id of a scan, for messages about it.
    fn id(&self, scan: usize) -> String;

    /// What fixes the scans beside their ids, in words; nothing where the ids say it all.
    fn origin(&self) -> Option<String> {
        None
    }

    /// Reads a scan for a purpose.
    ///
    /// # Errors
    ///
    /// Why it cannot be read, in words.
    fn load(&self, scan: usize, reading: Reading) -> Result<Arc<Windowed>, String>;
}

/// Keeps decoded scans in memory, first come, until a budget is spent.
#[derive(Debug)]
pub struct Memory {
    source: Arc<dyn Source>,
    kept: Vec<[OnceLock<Arc<Windowed>>; Reading::COUNT]>,
    left: AtomicUsize,
}

impl Memory {
    /// Keeps up to `mib` MiB of the scans of `source`.
    #[must_use]
    pub fn new(source: Arc<dyn Source>, mib: usize) -> Self {
        let kept = (0..source.len()).map(|_| Default::default()).collect();
        Self {
            source,
            kept,
            left: AtomicUsize::new(mib << 20),
        }
    }
}

impl Source for Memory {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn id(&self, scan: usize) -> String {
        self.source.id(scan)
    }

    fn origin(&self) -> Option<String> {
        self.source.origin()
    }

    fn load(&self, scan: usize, reading: Reading) -> Result<Arc<Windowed>, String> {
        let place = &self.kept[scan][reading as usize];
        if let Some(kept) = place.get() {
            return Ok(Arc::clone(kept));
        }
        let loaded = self.source.load(scan, reading)?;
        let bytes = size_of_val(loaded.values.as_slice());
        let spend = |left: usize| left.checked_sub(bytes);
        if self
            .left
            .try_update(Ordering::Relaxed, Ordering::Relaxed, spend)
            .is_ok()
        {
            // Another thread may have kept it meanwhile: the same values, counted twice.
            drop(place.set(Arc::clone(&loaded)));
        }
        Ok(loaded)
    }
}

/// Some scans of a source, as a source.
#[derive(Debug)]
pub struct Subset {
    source: Arc<dyn Source>,
    scans: Vec<usize>,
}

impl Subset {
    /// The scans `scans` of `source`, in that order.
    #[must_use]
    pub fn new(source: Arc<dyn Source>, scans: Vec<usize>) -> Self {
        Self { source, scans }
    }
}

impl Source for Subset {
    fn len(&self) -> usize {
        self.scans.len()
    }

    fn id(&self, scan: usize) -> String {
        self.source.id(self.scans[scan])
    }

    fn origin(&self) -> Option<String> {
        self.source.origin()
    }

    fn load(&self, scan: usize, reading: Reading) -> Result<Arc<Windowed>, String> {
        self.source.load(self.scans[scan], reading)
    }
}

/// Whether a patient belongs to the first `fraction` of all patients.
///
/// Each patient has a fixed place in [0, 1), so a smaller share is contained in a larger one and no
/// patient is split between shares.
#[must_use]
pub fn in_fraction(patient: &str, fraction: f64) -> bool {
    let place = super::stream(0, patient, &[]) as f64 / u64::MAX as f64;
    fraction >= 1.0 || place < fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Counted(Vec<AtomicUsize>);

    impl Source for Counted {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn id(&self, scan: usize) -> String {
            format!("scan-{scan}")
        }

        fn load(&self, scan: usize, _: Reading) -> Result<Arc<Windowed>, String> {
            self.0[scan].fetch_add(1, Ordering::SeqCst);
            let values = vec![f16::from_f32(scan as f32); 1 << 18];
            Ok(Arc::new(Windowed {
                channels: 1,
                size: 64,
                values,
            }))
        }
    }

    #[test]
    fn memory_keeps_scans_within_its_budget_and_reads_the_others_again() {
        let source = Arc::new(Counted((0..4).map(|_| AtomicUsize::new(0)).collect()));
        let memory = Memory::new(Arc::<Counted>::clone(&source), 1);
        for _ in 0..2 {
            for scan in 0..4 {
                assert_eq!(
                    memory.load(scan, Reading::Training).unwrap().values[0].to_f32(),
                    scan as f32
                );
            }
        }
        let reads: Vec<usize> = source.0.iter().map(|n| n.load(Ordering::SeqCst)).collect();
        assert_eq!(reads, [1, 1, 2, 2], "two scans of half a MiB fit");
    }

    #[test]
    fn a_smaller_fraction_of_patients_is_contained_in_a_larger_one() {
        let patients: Vec<String> = (0..2000).map(|patient| format!("p{patient}")).collect();
        let within = |share| {
            patients
                .iter()
                .filter(|p| in_fraction(p, share))
                .collect::<Vec<_>>()
        };
        let (tenth, third, all) = (within(0.1), within(0.3), within(1.0));
        assert!(tenth.iter().all(|patient| third.contains(patient)));
        assert!((140..260).contains(&tenth.len()) && (500..700).contains(&third.len()));
        assert_eq!(all.len(), 2000);
    }
}
