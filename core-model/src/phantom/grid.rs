//! Where a phantom is sampled: voxels on a regular grid in the scanner's millimeters.

use super::geometry::{Vec3, vec3};

/// A regular grid of cells. Index 0 grows to the right, 1 to the front, 2 upward (RAS), possibly
/// sheared by a tilted gantry.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    shape: [usize; 3],
    origin: Vec3,
    steps: [Vec3; 3],
    cells: usize,
    sliced: bool,
}

impl Grid {
    /// A grid from the middle of its first voxel and the steps along each axis, mm.
    ///
    /// # Panics
    /// If an axis is empty or a step has no length.
    #[must_use]
    pub fn new(shape: [usize; 3], origin: [f32; 3], steps: [[f32; 3]; 3]) -> Self {
        let steps = steps.map(|[x, y, z]| vec3(x, y, z));
        assert!(
            shape.iter().all(|&n| n > 0),
            "a grid has voxels along each axis"
        );
        assert!(
            steps.iter().all(|step| step.length() > 0.0),
            "steps have a length"
        );
        let [x, y, z] = origin;
        Self {
            shape,
            origin: vec3(x, y, z),
            steps,
            cells: 1,
            sliced: false,
        }
    }

    /// A box of the given extent around `center`, filled by `shape` voxels.
    pub(crate) fn filling(shape: [usize; 3], center: Vec3, extent: Vec3) -> Self {
        let step = vec3(
            extent.x / shape[0] as f32,
            extent.y / shape[1] as f32,
            extent.z / shape[2] as f32,
        );
        let origin = center - extent * 0.5 + step * 0.5;
        let steps = [[step.x, 0.0, 0.0], [0.0, step.y, 0.0], [0.0, 0.0, step.z]];
        Self::new(shape, [origin.x, origin.y, origin.z], steps)
    }

    /// The same grid as slices of a scanner: each is the average over its thickness of `cells`
    /// cells, sheared by the gantry's tilt.
    pub(crate) fn sliced(mut self, cells: usize, tilt_deg: f32) -> Self {
        self.cells = cells;
        self.sliced = true;
        if tilt_deg != 0.0 {
            // The table moves along z; the slice's rows lean with the gantry.
            let (sin, cos) = tilt_deg.to_radians().sin_cos();
            let row = self.steps[1].y;
            let half = row * (self.shape[1] as f32 - 1.0) * 0.5;
            self.steps[1] = vec3(0.0, row * cos, row * sin);
            self.origin.y += half * (1.0 - cos);
            self.origin.z -= half * sin;
        }
        self
    }

    /// Voxels along each axis.
    #[must_use]
    pub const fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Number of voxels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the grid has no voxel: never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of a step along each axis, mm.
    #[must_use]
    pub fn spacing_mm(&self) -> [f32; 3] {
        self.steps.map(Vec3::length)
    }

    /// Voxel index to millimeters (RAS): three rows of rotation, scale and translation.
    #[must_use]
    pub fn affine(&self) -> [[f64; 4]; 3] {
        let row = |axis: fn(Vec3) -> f32| {
            let [i, j, k] = self.steps.map(axis).map(f64::from);
            [i, j, k, f64::from(axis(self.origin))]
        };
        [row(|v| v.x), row(|v| v.y), row(|v| v.z)]
    }

    pub(crate) const fn origin(&self) -> Vec3 {
        self.origin
    }

    pub(crate) const fn steps(&self) -> [Vec3; 3] {
        self.steps
    }

    pub(crate) const fn cells(&self) -> usize {
        self.cells
    }

    pub(crate) const fn is_sliced(&self) -> bool {
        self.sliced
    }
}
