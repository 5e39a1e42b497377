//! Values at patch centers, read anywhere in the scan.

use core_model::ct::{Affine, Volume};
use rayon::prelude::*;

/// A value per patch over a volume that was resized to the model's cube.
///
/// Patch order as in the model: the last axis runs fastest, axes right, anterior, superior.
#[derive(Debug, Clone)]
pub(super) struct GridMap {
    grid: usize,
    values: Vec<f32>,
    shape: [usize; 3],
    affine: Affine,
}

impl GridMap {
    pub(super) fn new(grid: usize, values: Vec<f32>, cropped: &Volume) -> Self {
        assert_eq!(values.len(), grid.pow(3), "a value for each patch");
        let (shape, affine) = (cropped.shape(), *cropped.affine());
        Self {
            grid,
            values,
            shape,
            affine,
        }
    }

    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    /// The value at a voxel of the volume the model saw.
    pub(super) fn at(&self, index: [f64; 3]) -> f32 {
        self.interpolate(self.grid_position(index))
    }

    /// The map on another grid of voxels, axis 0 contiguous; 0 where the model did not look.
    pub(super) fn on(&self, shape: [usize; 3], affine: &Affine) -> Vec<f32> {
        // Both maps are affine, so their composition needs three steps and an origin.
        let image = |index: [f64; 3]| self.affine.index_of(affine.apply(index));
        let origin = image([0.0; 3]);
        let steps = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].map(|unit| {
            let moved = image(unit);
            [0, 1, 2].map(|axis| moved[axis] - origin[axis])
        });
        let mut out = vec![0.0; shape.iter().product()];
        out.par_chunks_mut(shape[0])
            .enumerate()
            .for_each(|(line, row)| {
                let (y, z) = (line % shape[1], line / shape[1]);
                for (x, value) in row.iter_mut().enumerate() {
                    let voxel = [x as f64, y as f64, z as f64];
                    let index = [0, 1, 2].map(|axis| {
                        origin[axis] + (0..3).map(|a| voxel[a] * steps[a][axis]).sum::<f64>()
                    });
                    let inside = |axis: usize| {
                        index[axis] >= -0.5 && index[axis] <= self.shape[axis] as f64 - 0.5
                    };
                    if (0..3).all(inside) {
                        *value = self.at(index);
                    }
                }
            });
        out
    }

    /// From voxels to patches: patch `p` covers voxels `p·n/grid … (p + 1)·n/grid`.
    fn grid_position(&self, index: [f64; 3]) -> [f64; 3] {
        [0, 1, 2].map(|axis| (index[axis] + 0.5) * self.grid as f64 / self.shape[axis] as f64 - 0.5)
    }

    /// Trilinear between patch centers, constant beyond the outermost.
    fn interpolate(&self, position: [f64; 3]) -> f32 {
        let last = (self.grid - 1) as f64;
        let axes = position.map(|p| {
            let p = p.clamp(0.0, last);
            let below = (p.floor() as usize).min(self.grid.saturating_sub(2));
            (below, (p - below as f64) as f32)
        });
        let mut sum = 0.0;
        for corner in 0..8usize {
            let mut weight = 1.0;
            let mut place = 0;
            for (axis, (below, fraction)) in axes.iter().enumerate() {
                let upper = corner >> axis & 1;
                weight *= if upper == 1 {
                    *fraction
                } else {
                    1.0 - fraction
                };
                place = place * self.grid + (below + upper).min(self.grid - 1);
            }
            sum += weight * self.values[place];
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cropped() -> Volume {
        // 16 × 8 × 8 voxels of 1 mm, starting at (100, 0, −50) mm.
        let affine = Affine::scaled([1.0; 3], [100.0, 0.0, -50.0]).unwrap();
        Volume::new([16, 8, 8], affine, vec![0.0; 1024]).unwrap()
    }

    /// Grid of 4³ with the value of its first axis.
    fn ramp() -> GridMap {
        let values = (0..64).map(|place| (place / 16) as f32).collect();
        GridMap::new(4, values, &cropped())
    }

    #[test]
    fn patch_centers_keep_their_values() {
        // Patch 1 of axis 0 covers voxels 4 to 7, its center is at 5.5.
        assert_eq!(ramp().at([5.5, 0.0, 0.0]), 1.0);
        assert_eq!(ramp().at([9.5, 7.0, 3.0]), 2.0);
    }

    #[test]
    fn between_centers_the_map_is_linear_and_beyond_them_constant() {
        assert!((ramp().at([7.5, 4.0, 4.0]) - 1.5).abs() < 1e-6);
        assert_eq!(ramp().at([-0.5, 4.0, 4.0]), 0.0);
        assert_eq!(ramp().at([15.5, 4.0, 4.0]), 3.0);
    }

    #[test]
    fn a_flipped_and_coarser_scan_sees_the_same_places() {
        // Axis 0 runs to the left in steps of 2 mm from 115 mm: voxel x lies at index 15 − 2x.
        let rows = [
            [-2.0, 0.0, 0.0, 115.0],
            [0.0, 1.0, 0.0, 0.0],
            [0.0, 0.0, 1.0, -50.0],
        ];
        let scan = Affine::new(rows).unwrap();
        let on_scan = ramp().on([8, 8, 8], &scan);
        for (x, &value) in on_scan.iter().take(8).enumerate() {
            let expected = ramp().at([15.0 - 2.0 * x as f64, 0.0, 0.0]);
            assert!((value - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn outside_the_models_view_the_map_is_zero() {
        let far = Affine::scaled([1.0; 3], [0.0; 3]).unwrap();
        assert!(ramp().on([4, 4, 4], &far).iter().all(|value| *value == 0.0));
    }
}
