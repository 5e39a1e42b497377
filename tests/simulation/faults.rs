//! What goes wrong, and how often: drawn from the seed.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How hostile a world is. Numbers are finite, and chances end with [`CALM`], so every run must end.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    /// Chance of a packet to be lost; its link is dead from then on.
    pub(super) loss: f64,
    /// Chance of a packet to arrive twice.
    pub(super) double: f64,
    /// Chance of bytes to arrive damaged.
    pub(super) damage: f64,
    /// Longest way of a packet, in ms. Each takes its own time, so later ones overtake.
    pub(super) delay: u64,
    /// Chance of a site to find its disk full when its state is to be made durable.
    pub(super) site_disk: f64,
    /// Chance of the coordinator to find no room for an update.
    pub(super) storage: f64,
    /// Chance of a fold to fail.
    pub(super) fold: f64,
    /// Chance of training to fail.
    pub(super) training: f64,
    /// Chance of training to take longer than the idle timeout.
    pub(super) hang: f64,
    /// Deaths of the coordinator between two steps.
    pub(super) hub_crashes: u32,
    /// Deaths of each site between two steps.
    pub(super) site_crashes: u32,
    /// Times the journal's disk is full.
    pub(super) journal: u32,
    /// Times a site is cut off.
    pub(super) partitions: u32,
    /// Times the coordinator's clock jumps by up to a day.
    pub(super) jumps: u32,
}

impl Faults {
    /// A world in which nothing goes wrong.
    pub(super) fn none() -> Self {
        Self {
            loss: 0.0,
            double: 0.0,
            damage: 0.0,
            delay: 10,
            site_disk: 0.0,
            storage: 0.0,
            fold: 0.0,
            training: 0.0,
            hang: 0.0,
            hub_crashes: 0,
            site_crashes: 0,
            journal: 0,
            partitions: 0,
            jumps: 0,
        }
    }

    /// What this seed's world is like: each kind of fault is in half of the worlds.
    pub(super) fn draw(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0xfa17);
        let mut chance = |most: f64| {
            if rng.random_bool(0.5) {
                rng.random_range(0.0..most)
            } else {
                0.0
            }
        };
        let [loss, double, damage] = [chance(0.05), chance(0.3), chance(0.2)];
        let [site_disk, storage, fold] = [chance(0.1), chance(0.3), chance(0.5)];
        let [training, hang] = [chance(0.2), chance(0.3)];
        let mut times = |most: u32| {
            if rng.random_bool(0.5) {
                rng.random_range(0..=most)
            } else {
                0
            }
        };
        let [hub_crashes, site_crashes, journal] = [times(8), times(6), times(4)];
        let [partitions, jumps] = [times(4), times(3)];
        let delay = [20, 200, 5000][rng.random_range(0..3)];
        Self {
            loss,
            double,
            damage,
            delay,
            site_disk,
            storage,
            fold,
            training,
            hang,
            hub_crashes,
            site_crashes,
            journal,
            partitions,
            jumps,
        }
    }
}

/// The process is gone: what it held in memory is lost, what it made durable is not.
#[derive(Debug)]
pub(super) struct Down(pub(super) &'static str);

/// Counts steps of a process until it dies between two of them.
#[derive(Debug, Default)]
pub(super) struct Fuse(Option<u32>);

impl Fuse {
    /// Dies after `steps` more.
    pub(super) fn lit(steps: u32) -> Self {
        Self(Some(steps))
    }

    /// One step.
    pub(super) fn burn(&mut self) -> Result<(), Down> {
        match &mut self.0 {
            Some(0) => {
                self.0 = None;
                Err(Down("crashed"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// From this virtual time on, in ms, nothing more goes wrong by chance.
pub(super) const CALM: u64 = 4 * 3600 * 1000;
