use rayon::prelude::*;

use super::{CtError, Volume};

/// A box of voxels: from `start`, `shape` voxels along each axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// First index on each axis.
    pub start: [usize; 3],
    /// Voxels along each axis.
    pub shape: [usize; 3],
}

impl Region {
    /// The tightest box around every voxel above `threshold_hu`.
    ///
    /// # Errors
    /// [`CtError::EmptyForeground`] if there is none.
    pub fn above(volume: &Volume, threshold_hu: f32) -> Result<Self, CtError> {
        let [_, ny, nz] = volume.shape();
        let bounds = volume
            .voxels_hu()
            .par_chunks(ny * nz)
            .enumerate()
            .map(|(i, plane)| plane_bounds(i, plane, nz, threshold_hu))
            .reduce(
                || EMPTY,
                |a, b| [0, 1, 2].map(|x| (a[x].0.min(b[x].0), a[x].1.max(b[x].1))),
            );
        if bounds[0].0 == usize::MAX {
            return Err(CtError::EmptyForeground { threshold_hu });
        }
        Ok(Self {
            start: bounds.map(|(first, _)| first),
            shape: bounds.map(|(first, last)| last - first + 1),
        })
    }

    /// Cuts the box out of a volume.
    ///
    /// # Panics
    /// If the box reaches outside the volume.
    #[must_use]
    pub fn cut(&self, volume: &Volume) -> Volume {
        let [_, ny, nz] = volume.shape();
        let [sx, sy, sz] = self.shape;
        let mut voxels = Vec::with_capacity(sx * sy * sz);
        for x in self.start[0]..self.start[0] + sx {
            for y in self.start[1]..self.start[1] + sy {
                let row = (x * ny + y) * nz + self.start[2];
                voxels.extend_from_slice(&volume.voxels_hu()[row..row + sz]);
            }
        }
        let affine = volume.affine().shifted(self.start.map(|i| i as f64));
        Volume::new(self.shape, affine, voxels).expect("a box holds the voxels of its shape")
    }
}

/// Crops to the box of HU > 0: MONAI's `CropForeground`, the geometry of the released code.
///
/// # Errors
/// [`CtError::EmptyForeground`] if no voxel is above 0 HU.
pub fn foreground(volume: &Volume) -> Result<Volume, CtError> {
    Ok(Region::above(volume, 0.0)?.cut(volume))
}

/// Brings every axis to `size` voxels around the center: short axes are padded with `fill_hu`
/// (the smaller half first), long ones cropped. MONAI's `ResizeWithPadOrCrop`.
#[must_use]
pub fn pad_or_crop(volume: &Volume, size: [usize; 3], fill_hu: f32) -> Volume {
    let shape = volume.shape();
    let start = [0, 1, 2].map(|a| center_shift(shape[a], size[a]));
    let voxels = copy_shifted(volume.voxels_hu(), shape, start, size, fill_hu);
    let affine = volume.affine().shifted(start.map(|s| s as f64));
    Volume::new(size, affine, voxels).expect("the buffer was made for this size")
}

/// Crops every axis longer than `size` around the center. MONAI's `CenterSpatialCrop`.
#[must_use]
pub fn center_crop(volume: &Volume, size: [usize; 3]) -> Volume {
    let shape = volume.shape();
    Region {
        start: [0, 1, 2].map(|a| crop_start(shape[a], size[a]).unsigned_abs()),
        shape: [0, 1, 2].map(|a| shape[a].min(size[a])),
    }
    .cut(volume)
}

/// The input index that output index 0 shows when an axis is padded or cropped around its center.
pub(super) fn center_shift(len: usize, size: usize) -> isize {
    crop_start(len, size) - pad_before(len, size)
}

/// A box of `out_shape` whose index i shows input index i + `start`, filled outside the input.
pub(super) fn copy_shifted<T: Copy + Into<f32>>(
    voxels: &[T],
    shape: [usize; 3],
    start: [isize; 3],
    out_shape: [usize; 3],
    fill: f32,
) -> Vec<f32> {
    let from = start.map(|s| s.max(0).unsigned_abs());
    let to = start.map(|s| s.min(0).unsigned_abs());
    let copied = [0, 1, 2].map(|a| {
        shape[a]
            .saturating_sub(from[a])
            .min(out_shape[a].saturating_sub(to[a]))
    });
    let mut out = vec![fill; out_shape.iter().product()];
    for x in 0..copied[0] {
        for y in 0..copied[1] {
            let source = ((x + from[0]) * shape[1] + y + from[1]) * shape[2] + from[2];
            let target = ((x + to[0]) * out_shape[1] + y + to[1]) * out_shape[2] + to[2];
            let source = &voxels[source..source + copied[2]];
            for (hu, &value) in out[target..target + copied[2]].iter_mut().zip(source) {
                *hu = value.into();
            }
        }
    }
    out
}

fn crop_start(len: usize, size: usize) -> isize {
    if len > size {
        (len / 2 - size / 2) as isize
    } else {
        0
    }
}

fn pad_before(len: usize, size: usize) -> isize {
    (size.saturating_sub(len) / 2) as isize
}

/// First and last index on each axis of the voxels above the threshold in one plane of axis 0.
fn plane_bounds(i: usize, plane: &[f32], nz: usize, threshold_hu: f32) -> [(usize, usize); 3] {
    let mut bounds = EMPTY;
    for (j, row) in plane.chunks(nz).enumerate() {
        let Some(first) = row.iter().position(|&hu| hu > threshold_hu) else {
            continue;
        };
        let last = row
            .iter()
            .rposition(|&hu| hu > threshold_hu)
            .unwrap_or(first);
        bounds[0] = (i, i);
        bounds[1] = (bounds[1].0.min(j), j);
        bounds[2] = (bounds[2].0.min(first), bounds[2].1.max(last));
    }
    bounds
}

const EMPTY: [(usize, usize); 3] = [(usize::MAX, 0); 3];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ct::{AIR_HU, Affine};

    fn ramp(shape: [usize; 3]) -> Volume {
        let voxels = (0..shape.iter().product::<usize>())
            .map(|i| i as f32 - 3.0)
            .collect();
        Volume::new(shape, Affine::scaled([1.0; 3], [0.0; 3]).unwrap(), voxels).unwrap()
    }

    #[test]
    fn foreground_is_the_tight_box_and_keeps_places() {
        let mut volume = ramp([4, 5, 6]);
        volume.voxels_hu_mut().fill(-10.0);
        volume.voxels_hu_mut()[(5 + 2) * 6 + 3] = 1.0;
        volume.voxels_hu_mut()[(2 * 5 + 4) * 6 + 1] = 2.0;
        let cropped = foreground(&volume).unwrap();
        assert_eq!(cropped.shape(), [2, 3, 3]);
        assert_eq!(cropped.affine().origin(), [1.0, 2.0, 1.0]);
        assert_eq!(cropped.at([1, 2, 0]), 2.0);
        volume.voxels_hu_mut().fill(0.0);
        assert_eq!(
            foreground(&volume),
            Err(CtError::EmptyForeground { threshold_hu: 0.0 })
        );
    }

    #[test]
    fn padding_puts_the_smaller_half_first_and_cropping_keeps_the_center() {
        let volume = ramp([3, 7, 4]);
        let cube = pad_or_crop(&volume, [6, 4, 4], AIR_HU);
        assert_eq!(cube.shape(), [6, 4, 4]);
        assert_eq!(cube.affine().origin(), [-1.0, 1.0, 0.0]);
        assert_eq!(cube.at([0, 0, 0]), AIR_HU);
        assert_eq!(cube.at([1, 0, 0]), volume.at([0, 1, 0]));
        assert_eq!(cube.at([3, 3, 3]), volume.at([2, 4, 3]));
        assert_eq!(cube.at([4, 0, 0]), AIR_HU);
        assert_eq!(center_crop(&volume, [9, 4, 2]).shape(), [3, 4, 2]);
    }
}
