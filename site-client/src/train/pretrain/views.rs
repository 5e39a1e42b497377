//! The views of DINO, drawn from a scan at model size.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::View;
use crate::train::Plan;
use crate::train::data::Windowed;

/// How many views, how large, how augmented.
#[derive(Clone, Debug)]
pub(super) struct ViewSet {
    global: usize,
    local: usize,
    size: usize,
    flip: [f64; 3],
    shift: f64,
}

impl ViewSet {
    /// The views of a plan.
    #[must_use]
    pub(super) fn new(plan: &Plan) -> Self {
        let dino = &plan.config().dino;
        Self {
            global: dino.global_views,
            local: dino.local_views,
            size: plan.vit().image,
            flip: dino.flip,
            shift: dino.shift,
        }
    }

    /// Appends the views of one scan to those of its batch; all draws come from `seed`.
    pub(super) fn add(&self, volume: &Windowed, seed: u64, views: &mut Vec<View>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        views.resize_with(self.global + self.local, View::default);
        for (index, view) in views.iter_mut().enumerate() {
            let global = index < self.global;
            view.size = self.size;
            let range = if global { 0.5..=1.0 } else { 0.3..=0.5 };
            let edges = [0, 1, 2].map(|_| {
                let share: f64 = rng.random_range(range.clone());
                ((volume.size as f64 * share).round() as usize).clamp(1, volume.size)
            });
            let start = edges.map(|edge| rng.random_range(0..=volume.size - edge));
            let flip = self
                .flip
                .map(|probability| rng.random_bool(probability) && global);
            let shifted = rng.random_bool(0.5) && global;
            let offset = (rng.random::<f64>() * 2.0 - 1.0) * self.shift;
            let offset = if shifted { offset as f32 } else { 0.0 };
            resize(
                volume,
                start,
                edges,
                flip,
                self.size,
                offset,
                &mut view.values,
            );
        }
    }
}

/// Area resize of a box, flipped and shifted.
fn resize(
    volume: &Windowed,
    start: [usize; 3],
    edges: [usize; 3],
    flip: [bool; 3],
    size: usize,
    offset: f32,
    out: &mut Vec<f32>,
) {
    let span = |axis: usize, index: usize| {
        let index = if flip[axis] { size - 1 - index } else { index };
        let (from, to) = (
            index * edges[axis] / size,
            ((index + 1) * edges[axis]).div_ceil(size),
        );
        start[axis] + from..start[axis] + to
    };
    let edge = volume.size;
    for channel in volume.values.chunks_exact(edge.pow(3)) {
        for i in 0..size {
            for j in 0..size {
                for k in 0..size {
                    let (mut sum, mut count) = (0.0, 0.0);
                    for a in span(0, i) {
                        for b in span(1, j) {
                            for c in span(2, k) {
                                sum += channel[(a * edge + b) * edge + c].to_f32();
                                count += 1.0;
                            }
                        }
                    }
                    out.push(sum / count + offset);
                }
            }
        }
    }
}
