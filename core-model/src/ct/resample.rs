use rayon::prelude::*;

use super::affine::{determinant, inverse, product, transpose};
use super::spline::{LANES, Lines, Tap};
use super::{Affine, CtError, Volume};

/// Resamples to 1 mm along each axis with cubic B-splines, removing any shear (gantry tilt).
///
/// MONAI's `Spacing(pixdim=1, mode=3)`, the interpolation of the released code; the paper says
/// "bicubic". An axis within 0.001 mm of 1 mm keeps its spacing; a volume whose grid would not
/// change is returned as it is.
///
/// # Errors
/// [`CtError::TooLarge`] if the result would exceed `max_voxels`.
pub fn to_1mm(volume: Volume, max_voxels: usize) -> Result<Volume, CtError> {
    let grid = Grid::at_1mm(volume.shape(), volume.affine(), max_voxels)?;
    let unchanged = grid.shape == volume.shape()
        && grid
            .affine
            .rows()
            .iter()
            .flatten()
            .zip(volume.affine().rows().iter().flatten())
            .all(|(new, old)| (new - old).abs() <= TOLERANCE + RELATIVE_TOLERANCE * old.abs());
    if unchanged {
        Ok(volume)
    } else {
        Ok(resample(volume, &grid))
    }
}

/// Where the voxels of a resampled volume lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// Voxels along each axis.
    pub shape: [usize; 3],
    /// Voxel index to mm.
    pub affine: Affine,
}

impl Grid {
    /// The 1 mm grid that covers a volume, with orthogonal axes.
    ///
    /// # Errors
    /// [`CtError::TooLarge`] if it would hold more than `max_voxels`.
    pub fn at_1mm(shape: [usize; 3], affine: &Affine, max_voxels: usize) -> Result<Self, CtError> {
        let spacing = affine.spacing();
        let new_spacing = spacing.map(|s| if (s - 1.0).abs() <= TOLERANCE { s } else { 1.0 });
        let linear = orthogonal(affine, new_spacing);
        let to_new = product(inverse(linear), affine.linear());
        let last = shape.map(|n| (n - 1) as f64);
        let corners = (0..8)
            .map(|bits| [bits & 4, bits & 2, bits & 1].map(|bit| f64::from(u8::from(bit != 0))));
        let corners: Vec<[f64; 3]> = corners.map(|c| [0, 1, 2].map(|a| c[a] * last[a])).collect();
        let mapped: Vec<[f64; 3]> = corners
            .iter()
            .map(|&corner| apply(to_new, corner))
            .collect();
        let (mut low, mut high) = (mapped[0], mapped[0]);
        for corner in &mapped {
            low = [0, 1, 2].map(|a| low[a].min(corner[a]));
            high = [0, 1, 2].map(|a| high[a].max(corner[a]));
        }
        let lengths = [0, 1, 2].map(|a| (high[a] - low[a] + 1.0).round_ties_even());
        let new_shape = lengths.map(|n| n as usize);
        let voxels: u128 = new_shape.iter().map(|&n| n as u128).product();
        if voxels > max_voxels as u128 {
            return Err(CtError::TooLarge {
                shape: new_shape,
                found: voxels,
                limit: max_voxels,
            });
        }
        // Voxel 0 goes to the corner that is smallest on every axis; where tilt leaves no such
        // corner, the two grids share their center (n/2, as MONAI has it).
        let smallest = mapped.iter().position(|corner| {
            [0, 1, 2]
                .iter()
                .all(|&a| corner[a] - low[a] <= CORNER_TOLERANCE)
        });
        let origin = match smallest {
            Some(corner) => affine.apply(corners[corner]),
            None => {
                let center = affine.apply(shape.map(|n| n as f64 / 2.0));
                let half = apply(linear, lengths.map(|n| n / 2.0));
                [0, 1, 2].map(|a| center[a] - half[a])
            }
        };
        Ok(Self {
            shape: new_shape,
            affine: Affine::from_parts(linear, origin)?,
        })
    }
}

/// Cubic B-spline interpolation on another grid with the same axis directions up to shear.
///
/// Beyond the volume the nearest voxel continues. The grid must come from [`Grid::at_1mm`]: then
/// an input coordinate depends only on the output indices of its own and later axes, and the
/// interpolation separates into three passes.
#[must_use]
pub fn resample(volume: Volume, grid: &Grid) -> Volume {
    let to_old = inverse(volume.affine().linear());
    let matrix = product(to_old, grid.affine.linear());
    let offset = {
        let (new, old) = (grid.affine.origin(), volume.affine().origin());
        apply(to_old, [0, 1, 2].map(|a| new[a] - old[a]))
    };
    let mut passes = [0, 1, 2].map(|axis| {
        let shear = [0, 1, 2].map(|other| {
            let reach = matrix[axis][other] * grid.shape[other] as f64;
            if other > axis && reach.abs() > NEGLIGIBLE {
                matrix[axis][other]
            } else {
                0.0
            }
        });
        Pass {
            axis,
            len: grid.shape[axis],
            start: offset[axis],
            step: matrix[axis][axis],
            shear,
        }
    });
    let mut shape = volume.shape();
    if passes.iter().any(Pass::is_sheared) {
        // A pass uses the output indices of later axes, so those come first.
        passes.reverse();
    } else {
        // The axis that shrinks most goes first, so that the others have less to do.
        passes.sort_by(|a, b| b.step.total_cmp(&a.step));
    }
    let mut voxels = volume.into_voxels_hu();
    for pass in passes {
        if !pass.is_identity(shape) {
            voxels = pass.run(&voxels, shape);
            shape[pass.axis] = pass.len;
        }
    }
    Volume::new(shape, grid.affine, voxels).expect("the passes fill the grid")
}

/// Interpolation along one axis: output index j reads at `start + step·j + Σ shear[b]·j_b`.
struct Pass {
    axis: usize,
    len: usize,
    start: f64,
    step: f64,
    shear: [f64; 3],
}

impl Pass {
    fn is_sheared(&self) -> bool {
        self.shear != [0.0; 3]
    }

    fn is_identity(&self, shape: [usize; 3]) -> bool {
        !self.is_sheared()
            && self.len == shape[self.axis]
            && self.start.abs() < NEGLIGIBLE
            && ((self.step - 1.0) * self.len as f64).abs() < NEGLIGIBLE
    }

    fn run(&self, voxels: &[f32], [nx, ny, nz]: [usize; 3]) -> Vec<f32> {
        match self.axis {
            0 => {
                let mut out = vec![0.0; self.len * ny * nz];
                let mut rows_at_y: Vec<Vec<&mut [f32]>> = Vec::new();
                rows_at_y.resize_with(ny, || Vec::with_capacity(self.len));
                for (row, part) in out.chunks_mut(nz).enumerate() {
                    rows_at_y[row % ny].push(part);
                }
                rows_at_y
                    .into_par_iter()
                    .enumerate()
                    .for_each(|(y, mut rows)| {
                        let lines: Vec<&[f32]> = (0..nx)
                            .map(|x| &voxels[(x * ny + y) * nz..][..nz])
                            .collect();
                        self.across(&lines, &mut rows, self.start + self.shear[1] * y as f64);
                    });
                out
            }
            1 => {
                let mut out = vec![0.0; nx * self.len * nz];
                let planes = out
                    .par_chunks_mut(self.len * nz)
                    .zip(voxels.par_chunks(ny * nz));
                planes.for_each(|(to, from)| {
                    let lines: Vec<&[f32]> = from.chunks(nz).collect();
                    let mut rows: Vec<&mut [f32]> = to.chunks_mut(nz).collect();
                    self.across(&lines, &mut rows, self.start);
                });
                out
            }
            _ => {
                let mut out = vec![0.0; nx * ny * self.len];
                let taps = self.taps(self.start, nz);
                let rows = out
                    .par_chunks_mut(LANES * self.len)
                    .zip(voxels.par_chunks(LANES * nz));
                rows.for_each_init(
                    || Lines::new(nz),
                    |lines, (to, from)| along(lines, from, to, &taps),
                );
                out
            }
        }
    }

    fn taps(&self, start: f64, len_in: usize) -> Vec<Tap> {
        (0..self.len)
            .map(|j| Tap::new(start + self.step * j as f64, len_in))
            .collect()
    }

    /// Interpolates between rows: each column of `from` is a line.
    fn across(&self, from: &[&[f32]], to: &mut [&mut [f32]], start: f64) {
        let taps = self.taps(start, from.len());
        let width = from[0].len();
        let mut lines = Lines::new(from.len());
        for first in (0..width).step_by(LANES) {
            let lanes = LANES.min(width - first);
            for (samples, row) in lines.samples_mut().iter_mut().zip(from) {
                for (sample, &hu) in samples.iter_mut().zip(&row[first..first + lanes]) {
                    *sample = f64::from(hu);
                }
            }
            lines.prefilter();
            if self.shear[2] == 0.0 {
                for (row, tap) in to.iter_mut().zip(&taps) {
                    for (hu, value) in row[first..first + lanes].iter_mut().zip(lines.at(tap)) {
                        *hu = value as f32;
                    }
                }
            } else {
                for (j, row) in to.iter_mut().enumerate() {
                    let x = start + self.step * j as f64;
                    for (lane, hu) in row[first..first + lanes].iter_mut().enumerate() {
                        let tap = Tap::new(x + self.shear[2] * (first + lane) as f64, from.len());
                        *hu = lines.lane_at(&tap, lane) as f32;
                    }
                }
            }
        }
    }
}

/// Interpolates within rows: up to [`LANES`] contiguous lines from `from` to `to`.
fn along(lines: &mut Lines, from: &[f32], to: &mut [f32], taps: &[Tap]) {
    let len = lines.samples_mut().len();
    for (lane, line) in from.chunks(len).enumerate() {
        for (samples, &hu) in lines.samples_mut().iter_mut().zip(line) {
            samples[lane] = f64::from(hu);
        }
    }
    lines.prefilter();
    for (j, tap) in taps.iter().enumerate() {
        let values = lines.at(tap);
        for (line, value) in to.chunks_mut(taps.len()).zip(values) {
            line[j] = value as f32;
        }
    }
}

/// The rotation of an affine (its Gram–Schmidt axes, shear removed) times a spacing.
fn orthogonal(affine: &Affine, spacing: [f64; 3]) -> [[f64; 3]; 3] {
    let linear = affine.linear();
    let upper = transpose(cholesky(product(transpose(linear), linear)));
    let rotation = product(linear, inverse(upper));
    debug_assert!((determinant(rotation).abs() - 1.0).abs() < 1e-6);
    rotation.map(|row| [0, 1, 2].map(|c| row[c] * spacing[c]))
}

/// The lower factor of a positive definite matrix.
fn cholesky(m: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let mut l = [[0.0; 3]; 3];
    for r in 0..3 {
        for c in 0..=r {
            let rest = m[r][c] - (0..c).map(|k| l[r][k] * l[c][k]).sum::<f64>();
            l[r][c] = if r == c { rest.sqrt() } else { rest / l[c][c] };
        }
    }
    l
}

fn apply(m: [[f64; 3]; 3], v: [f64; 3]) -> [f64; 3] {
    m.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2])
}

/// MONAI's `AFFINE_TOL`, in mm.
const TOLERANCE: f64 = 1e-3;

/// The relative part of torch's `allclose`.
const RELATIVE_TOLERANCE: f64 = 1e-5;

/// How much a corner may differ from the smallest, in output voxels: the absolute part of numpy's `allclose`.
const CORNER_TOLERANCE: f64 = 1e-8;

/// Coordinates closer than this, in voxels, are the same: 0.01 HU at a step of 1000 HU.
const NEGLIGIBLE: f64 = 1e-5;
