//! In which order scans are visited: a fresh shuffle each epoch, by seed.

use std::sync::{Arc, Mutex, PoisonError};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::stream;

/// The order of all samples of a run.
///
/// Sample `k` is scan `k mod n` of the shuffle of epoch `k div n`, so that the position in the data
/// is one number, a batch may span two epochs, and resuming needs nothing but the step.
#[derive(Debug)]
pub struct Order {
    seed: u64,
    scans: usize,
    /// The two shuffles in use; a batch may span two epochs.
    recent: Mutex<Vec<(u64, Arc<[u32]>)>>,
}

/// One visit of one scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Pass over the data, from 0.
    pub epoch: u64,
    /// Index of the scan in its source.
    pub scan: usize,
}

impl Order {
    /// The order of `scans` scans.
    ///
    /// # Panics
    ///
    /// If there are no scans, or more than 2³².
    #[must_use]
    pub fn new(seed: u64, scans: usize) -> Self {
        assert!(
            scans > 0 && u32::try_from(scans).is_ok(),
            "order of {scans} scans"
        );
        Self {
            seed,
            scans,
            recent: Mutex::new(Vec::new()),
        }
    }

    /// Which scan is sample number `sample` of the run, and in which epoch.
    #[must_use]
    pub fn visit(&self, sample: u64) -> Visit {
        let (epoch, place) = (sample / self.scans as u64, sample % self.scans as u64);
        Visit {
            epoch,
            scan: self.shuffle(epoch)[place as usize] as usize,
        }
    }

    fn shuffle(&self, epoch: u64) -> Arc<[u32]> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, shuffle)) = recent.iter().find(|(cached, _)| *cached == epoch) {
            return Arc::clone(shuffle);
        }
        let mut order: Vec<u32> = (0..self.scans as u32).collect();
        let seed = stream(self.seed, "order", &[epoch]);
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let shuffle: Arc<[u32]> = order.into();
        recent.push((epoch, Arc::clone(&shuffle)));
        if recent.len() > 2 {
            recent.remove(0);
        }
        shuffle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(order: &Order, epoch: u64, scans: u64) -> Vec<usize> {
        (0..scans)
            .map(|place| order.visit(epoch * scans + place).scan)
            .collect()
    }

    #[test]
    fn each_epoch_visits_each_scan_once_in_its_own_order() {
        let order = Order::new(3, 50);
        let (first, second) = (epoch(&order, 0, 50), epoch(&order, 1, 50));
        assert_ne!(first, second);
        for mut visited in [first, second] {
            visited.sort_unstable();
            assert_eq!(visited, (0..50).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_order_depends_on_the_seed_and_not_on_where_one_starts() {
        let whole = epoch(&Order::new(3, 50), 4, 50);
        assert_eq!(epoch(&Order::new(3, 50), 4, 50), whole);
        assert_eq!(Order::new(3, 50).visit(4 * 50 + 20).scan, whole[20]);
        assert_ne!(epoch(&Order::new(4, 50), 4, 50), whole);
    }
}
