use std::fmt;

use super::{Affine, CtError};

/// A scan in Hounsfield units on a regular grid.
#[derive(Clone, PartialEq)]
pub struct Volume {
    shape: [usize; 3],
    affine: Affine,
    voxels_hu: Vec<f32>,
}

impl Volume {
    /// Takes voxels in row-major order (axis 2 contiguous).
    ///
    /// # Errors
    /// An empty axis, or voxels that do not fill the shape.
    pub fn new(shape: [usize; 3], affine: Affine, voxels_hu: Vec<f32>) -> Result<Self, CtError> {
        let expected = shape.iter().try_fold(1_usize, |n, &len| n.checked_mul(len));
        match expected {
            Some(0) => Err(CtError::EmptyShape { shape }),
            Some(n) if n == voxels_hu.len() => Ok(Self {
                shape,
                affine,
                voxels_hu,
            }),
            _ => Err(CtError::VoxelCount {
                shape,
                expected: expected.unwrap_or(usize::MAX),
                found: voxels_hu.len(),
            }),
        }
    }

    /// Voxels along each axis.
    #[must_use]
    pub const fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Voxel index to mm in RAS space.
    #[must_use]
    pub const fn affine(&self) -> &Affine {
        &self.affine
    }

    /// Spacing in mm.
    #[must_use]
    pub fn spacing(&self) -> [f64; 3] {
        self.affine.spacing()
    }

    /// The voxels in row-major order, HU.
    #[must_use]
    pub fn voxels_hu(&self) -> &[f32] {
        &self.voxels_hu
    }

    /// The voxels in row-major order, HU, for changing in place.
    pub fn voxels_hu_mut(&mut self) -> &mut [f32] {
        &mut self.voxels_hu
    }

    /// Gives up the voxels.
    #[must_use]
    pub fn into_voxels_hu(self) -> Vec<f32> {
        self.voxels_hu
    }

    /// HU at an index.
    ///
    /// # Panics
    /// If the index lies outside the shape.
    #[must_use]
    pub fn at(&self, [i, j, k]: [usize; 3]) -> f32 {
        assert!(
            i < self.shape[0] && j < self.shape[1] && k < self.shape[2],
            "index in shape"
        );
        self.voxels_hu[(i * self.shape[1] + j) * self.shape[2] + k]
    }
}

/// Shows the shape and the spacing, never a voxel: logs must not hold scans.
impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volume")
            .field("shape", &self.shape)
            .field("spacing_mm", &self.spacing())
            .finish_non_exhaustive()
    }
}
