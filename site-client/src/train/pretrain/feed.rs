//! What the loader's threads do for pre-training: from sample numbers to a batch on the host.

use std::sync::Arc;

use core_model::ssl::views::{Augmentation, Scan, ViewGeometry, views};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Objective;
use crate::train::Plan;
use crate::train::data::{Order, Reading, Source, Windowed, stream};

/// One pass of one device, prepared on the host.
#[derive(Debug, Default)]
pub struct Batch {
    /// Scans of the batch, as indices of the source.
    pub scans: Vec<usize>,
    /// One for MAE; for DINO the global views, then the local ones.
    pub views: Vec<View>,
    /// Mask noise `[B, N]` (MAE).
    pub noise: Vec<f32>,
    /// Scans that could not be read, with the reason; another scan stood in for each.
    pub skipped: Vec<(usize, String)>,
}

/// One view of every scan of a batch.
#[derive(Debug, Default)]
pub struct View {
    /// Edge in voxels.
    pub size: usize,
    /// `[B, C, S, S, S]`, row-major.
    pub values: Vec<f32>,
}

/// Prepares the passes of a run; pass `p` holds samples `p · batch` to `(p + 1) · batch`.
///
/// Every draw comes from a stream of its own, named by seed, epoch, scan and purpose, so a batch is
/// the same on any thread, and a large batch is the union of the small ones it is split into.
#[derive(Debug)]
pub struct Feed {
    source: Arc<dyn Source>,
    order: Order,
    seed: u64,
    batch: usize,
    recipe: Recipe,
}

#[derive(Debug)]
enum Recipe {
    Dino {
        geometry: ViewGeometry,
        augmentation: Augmentation,
    },
    Mae {
        augmentation: Augmentation,
        patches: usize,
    },
}

impl Feed {
    /// A feed of `source` for one objective.
    #[must_use]
    pub fn new(plan: &Plan, objective: Objective, source: Arc<dyn Source>) -> Self {
        let config = plan.config();
        let (batch, recipe) = match objective {
            Objective::Dino => (
                config.dino.device_batch,
                Recipe::Dino {
                    geometry: plan.views().clone(),
                    augmentation: plan.dino_augmentation(),
                },
            ),
            Objective::Mae => {
                let mae = &config.mae;
                let augmentation = light(mae.flip, mae.shift);
                let patches = plan.vit().patches();
                (
                    mae.device_batch,
                    Recipe::Mae {
                        augmentation,
                        patches,
                    },
                )
            }
        };
        let order = Order::new(config.seed, source.len());
        Self {
            source,
            order,
            seed: config.seed,
            batch,
            recipe,
        }
    }

    /// Where the scans come from.
    #[must_use]
    pub fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// Prepares pass `pass`.
    #[must_use]
    pub fn prepare(&self, pass: u64) -> Batch {
        let mut batch = Batch::default();
        for slot in 0..self.batch as u64 {
            self.add(pass * self.batch as u64 + slot, &mut batch);
        }
        batch
    }

    fn add(&self, sample: u64, batch: &mut Batch) {
        let epoch = self.order.visit(sample).epoch;
        let Some((scan, volume)) = self.load(sample, batch) else {
            return;
        };
        batch.scans.push(scan);
        let draw = |purpose| stream(self.seed, purpose, &[epoch, scan as u64]);
        match &self.recipe {
            Recipe::Dino {
                geometry,
                augmentation,
            } => {
                let voxels = volume.to_f32();
                let edges = [volume.size; 3];
                let scan_views = views(
                    Scan::new(&voxels, volume.channels, edges),
                    geometry,
                    augmentation,
                    [self.seed, epoch, scan as u64],
                );
                batch.views.resize_with(scan_views.len(), View::default);
                for (view, values) in batch.views.iter_mut().zip(scan_views) {
                    view.size = geometry.size;
                    view.values.extend(values);
                }
            }
            Recipe::Mae {
                augmentation,
                patches,
            } => {
                batch.views.resize_with(1, View::default);
                batch.views[0].size = volume.size;
                volume.augmented(
                    augmentation,
                    draw("augmentation"),
                    &mut batch.views[0].values,
                );
                let mut rng = ChaCha8Rng::seed_from_u64(draw("mask"));
                batch
                    .noise
                    .extend((0..*patches).map(|_| rng.random::<f32>()));
            }
        }
    }

    /// The scan of a sample, or the first readable one of a random sequence in its place.
    fn load(&self, sample: u64, batch: &mut Batch) -> Option<(usize, Arc<Windowed>)> {
        const ATTEMPTS: u64 = 50;
        let reading = match self.recipe {
            Recipe::Dino { .. } => Reading::Views,
            Recipe::Mae { .. } => Reading::Training,
        };
        let mut scan = self.order.visit(sample).scan;
        for attempt in 0..ATTEMPTS {
            match self.source.load(scan, reading) {
                Ok(volume) => return Some((scan, volume)),
                Err(reason) => batch.skipped.push((scan, reason)),
            }
            let draw = stream(self.seed, "replacement", &[sample, attempt]);
            scan = (draw % self.source.len() as u64) as usize;
        }
        None
    }
}

/// Flips and shifts alone.
pub(crate) fn light(flip: [f64; 3], shift: f64) -> Augmentation {
    Augmentation {
        flip,
        shift,
        ..Augmentation::light()
    }
}
