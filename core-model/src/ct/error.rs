use thiserror::Error;

use super::Region;

/// Why a volume cannot be made or processed.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum CtError {
    /// An entry is NaN or infinite.
    #[error("affine: entry [{row}][{column}] is {found}, expected a finite number")]
    AffineNotFinite {
        /// Row of the entry.
        row: usize,
        /// Column of the entry.
        column: usize,
        /// The entry.
        found: f64,
    },
    /// An axis has no length.
    #[error("affine: spacing {found} mm on axis {axis}, expected > 0")]
    Spacing {
        /// The axis.
        axis: usize,
        /// Its spacing in mm.
        found: f64,
    },
    /// The axes lie in a plane.
    #[error("affine: its axes lie in a plane (determinant {determinant:e}), expected a volume")]
    AffineSingular {
        /// Determinant of the linear part over the product of the spacings.
        determinant: f64,
    },
    /// No voxel is above the threshold, so there is nothing to crop to.
    #[error("volume: no voxel above {threshold_hu} HU, expected a head")]
    EmptyForeground {
        /// The threshold in HU.
        threshold_hu: f32,
    },
    /// An axis has no voxel.
    #[error("volume: shape {shape:?}, expected at least one voxel on every axis")]
    EmptyShape {
        /// The shape.
        shape: [usize; 3],
    },
    /// A stored crop does not fit its volume.
    #[error("head crop: box {region:?} reaches outside its volume {shape:?}")]
    RegionOutside {
        /// The box.
        region: Region,
        /// The volume's shape.
        shape: [usize; 3],
    },
    /// The volume is too thin to be a scan.
    #[error("volume: shape {shape:?}, expected at least {limit} voxels on every axis")]
    TooThin {
        /// The shape.
        shape: [usize; 3],
        /// The least number of voxels.
        limit: usize,
    },
    /// The resampled volume would exceed the cap.
    #[error("volume: {found} voxels at 1 mm ({shape:?}), expected at most {limit}")]
    TooLarge {
        /// The shape it would have.
        shape: [usize; 3],
        /// The voxels it would have.
        found: u128,
        /// The cap.
        limit: usize,
    },
    /// The voxels do not fill the shape.
    #[error("volume: {found} voxels for shape {shape:?}, expected {expected}")]
    VoxelCount {
        /// The shape.
        shape: [usize; 3],
        /// Voxels the shape asks for.
        expected: usize,
        /// Voxels given.
        found: usize,
    },
}
