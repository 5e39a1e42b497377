use std::fmt;

use super::crop::copy_shifted;
use super::{AIR_HU, Affine, CtError, Region, Volume};

/// A 1 mm volume cut to what any window can see, in whole HU: the source of training views.
///
/// Outside its box every voxel is at most −800 HU, where all [`HEAD_WINDOWS`](super::HEAD_WINDOWS)
/// are 0, so [`HeadCrop::volume`] and [`HeadCrop::cube`] fill with air and lose nothing but the
/// rounding to whole HU.
#[derive(Clone, PartialEq)]
pub struct HeadCrop {
    region: Region,
    full_shape: [usize; 3],
    full_affine: Affine,
    voxels_hu: Vec<i16>,
}

impl HeadCrop {
    /// Cuts a 1 mm volume.
    ///
    /// # Errors
    /// [`CtError::EmptyForeground`] if every voxel is at most −800 HU.
    pub fn new(at_1mm: &Volume) -> Result<Self, CtError> {
        let region = Region::above(at_1mm, INVISIBLE_HU)?;
        let voxels_hu = region
            .cut(at_1mm)
            .voxels_hu()
            .iter()
            .map(|hu| hu.round() as i16)
            .collect();
        let (full_shape, full_affine) = (at_1mm.shape(), *at_1mm.affine());
        Ok(Self {
            region,
            full_shape,
            full_affine,
            voxels_hu,
        })
    }

    /// Puts a stored crop together again.
    ///
    /// # Errors
    /// Voxels that do not fill the box, or a box that reaches outside the full volume.
    pub fn from_parts(
        region: Region,
        full_shape: [usize; 3],
        full_affine: Affine,
        voxels_hu: Vec<i16>,
    ) -> Result<Self, CtError> {
        let shape = region.shape;
        let expected = shape.iter().try_fold(1_usize, |n, &len| n.checked_mul(len));
        let inside = (0..3).all(|a| {
            shape[a] > 0
                && region.start[a]
                    .checked_add(shape[a])
                    .is_some_and(|end| end <= full_shape[a])
        });
        if !inside {
            return Err(CtError::RegionOutside {
                region,
                shape: full_shape,
            });
        }
        if expected != Some(voxels_hu.len()) {
            let expected = expected.unwrap_or(usize::MAX);
            return Err(CtError::VoxelCount {
                shape,
                expected,
                found: voxels_hu.len(),
            });
        }
        Ok(Self {
            region,
            full_shape,
            full_affine,
            voxels_hu,
        })
    }

    /// The box within the full volume.
    #[must_use]
    pub const fn region(&self) -> Region {
        self.region
    }

    /// Shape of the full 1 mm volume.
    #[must_use]
    pub const fn full_shape(&self) -> [usize; 3] {
        self.full_shape
    }

    /// Affine of the full 1 mm volume.
    #[must_use]
    pub const fn full_affine(&self) -> &Affine {
        &self.full_affine
    }

    /// The voxels of the box, row-major.
    #[must_use]
    pub fn voxels_hu(&self) -> &[i16] {
        &self.voxels_hu
    }

    /// The full 1 mm volume, air outside the box.
    #[must_use]
    pub fn volume(&self) -> Volume {
        let shift = self.region.start.map(|i| -(i as isize));
        let voxels = copy_shifted(
            &self.voxels_hu,
            self.region.shape,
            shift,
            self.full_shape,
            AIR_HU,
        );
        Volume::new(self.full_shape, self.full_affine, voxels).expect("filled by construction")
    }

    /// A cube of `side` voxels around the center of the full volume:
    /// [`pad_or_crop`](super::pad_or_crop) of [`HeadCrop::volume`].
    ///
    /// # Shapes
    /// [side, side, side] row-major, HU.
    #[must_use]
    pub fn cube(&self, side: usize) -> Vec<f32> {
        let shift = [0, 1, 2].map(|a| {
            super::crop::center_shift(self.full_shape[a], side) - self.region.start[a] as isize
        });
        copy_shifted(&self.voxels_hu, self.region.shape, shift, [side; 3], AIR_HU)
    }
}

/// Shows the box, never a voxel.
impl fmt::Debug for HeadCrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeadCrop")
            .field("region", &self.region)
            .field("full_shape", &self.full_shape)
            .finish_non_exhaustive()
    }
}

/// Where the widest window begins: nothing at or below is visible.
const INVISIBLE_HU: f32 = -800.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ct::{HEAD_WINDOWS, pad_or_crop};

    #[test]
    fn a_cropped_head_gives_the_same_windows_in_every_geometry() {
        let shape = [9, 12, 7];
        let mut volume = Volume::new(
            shape,
            Affine::scaled([1.0; 3], [0.0; 3]).unwrap(),
            vec![-1000.0; 9 * 12 * 7],
        )
        .unwrap();
        for (i, hu) in volume
            .voxels_hu_mut()
            .iter_mut()
            .enumerate()
            .skip(200)
            .take(300)
        {
            *hu = (i % 97) as f32 * 20.0 - 900.0;
        }
        let head = HeadCrop::new(&volume).unwrap();
        let windowed = |voxels: &[f32]| -> Vec<[f32; 3]> {
            voxels
                .iter()
                .map(|&hu| HEAD_WINDOWS.map(|window| window.apply(hu)))
                .collect()
        };
        assert_eq!(
            windowed(head.volume().voxels_hu()),
            windowed(volume.voxels_hu())
        );
        for side in [5, 10, 16] {
            let cube = pad_or_crop(&volume, [side; 3], AIR_HU);
            assert_eq!(
                windowed(&head.cube(side)),
                windowed(cube.voxels_hu()),
                "side {side}"
            );
        }
        let parts = (head.region(), head.full_shape(), *head.full_affine());
        let again = HeadCrop::from_parts(parts.0, parts.1, parts.2, head.voxels_hu().to_vec());
        assert_eq!(again.unwrap(), head);
        let outside = HeadCrop::from_parts(parts.0, [3; 3], parts.2, head.voxels_hu().to_vec());
        assert!(matches!(outside, Err(CtError::RegionOutside { .. })));
    }
}
