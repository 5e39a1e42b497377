use std::ops::Range;

use rayon::prelude::*;

use super::{Affine, Volume};

/// Which stored axis becomes which RAS axis, and which of them run backwards.
///
/// The rule of nibabel's `io_orientation`: the linear part is replaced by the nearest rotation (or
/// reflection), then each stored axis in turn takes the anatomical axis it runs along most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orientation {
    /// The stored axis that becomes axis 0, 1 and 2.
    pub from_axis: [usize; 3],
    /// Whether that stored axis runs toward left, posterior or inferior.
    pub flipped: [bool; 3],
}

impl Orientation {
    /// The orientation of an array with this affine.
    #[must_use]
    pub fn of(affine: &Affine) -> Self {
        let mut rotation = affine.nearest_rotation();
        let mut orientation = Self {
            from_axis: [0; 3],
            flipped: [false; 3],
        };
        let mut free = [true; 3];
        for axis in 0..3 {
            let target = (0..3).filter(|&row| free[row]).max_by(|&a, &b| {
                // Ties go to the first, as numpy's argmax does.
                rotation[a][axis]
                    .abs()
                    .total_cmp(&rotation[b][axis].abs())
                    .then(b.cmp(&a))
            });
            let target = target.expect("three axes take three targets");
            orientation.from_axis[target] = axis;
            orientation.flipped[target] = rotation[target][axis] < 0.0;
            free[target] = false;
            rotation[target] = [0.0; 3];
        }
        orientation
    }

    /// Already left to right, posterior to anterior, inferior to superior.
    #[must_use]
    pub fn is_ras(&self) -> bool {
        self.from_axis == [0, 1, 2] && self.flipped == [false; 3]
    }

    /// Copies a slab to its place in the row-major RAS array of the whole volume, converting each
    /// element. A slab is consecutive slices, the first at index `first` of stored axis 2; stored
    /// axis 0 is contiguous. `shape` is that of the whole stored array.
    ///
    /// # Panics
    /// If `slab` is not whole slices of the volume, or `out` not the whole volume.
    pub fn place<S: Copy + Sync, T: Copy + Default + Send>(
        &self,
        slab: &[S],
        first: usize,
        shape: [usize; 3],
        out: &mut [T],
        convert: impl Fn(S) -> T + Sync,
    ) {
        let slice = shape[0] * shape[1];
        let slices = first..first + slab.len() / slice;
        self.copy(slab, shape, [1, shape[0], slice], slices, out, convert);
    }

    /// Copies the part of the array that has the indices `part` on stored axis 2 and begins there.
    fn copy<S: Copy + Sync, T: Copy + Default + Send>(
        &self,
        stored: &[S],
        shape: [usize; 3],
        strides: [usize; 3],
        part: Range<usize>,
        out: &mut [T],
        convert: impl Fn(S) -> T + Sync,
    ) {
        assert!(part.end <= shape[2] && out.len() == shape.iter().product::<usize>());
        let parts = [0..shape[0], 0..shape[1], part];
        // The output indices that the part covers on each axis, and where in it they are stored.
        let ranges = [0, 1, 2].map(|target| {
            let axis = self.from_axis[target];
            let Range { start, end } = parts[axis];
            if self.flipped[target] {
                shape[axis] - end..shape[axis] - start
            } else {
                start..end
            }
        });
        let offset = |target: usize, index: usize| {
            let range = &ranges[target];
            let along = if self.flipped[target] {
                range.end - 1 - index
            } else {
                index - range.start
            };
            along * strides[self.from_axis[target]]
        };
        let [_, ny, nz] = self.from_axis.map(|axis| shape[axis]);
        let [planes, rows, columns] = &ranges;
        // Blocks of planes: stored axis 0 is often contiguous, so a cache line that was fetched for
        // one plane serves its neighbors while it is still there. Planes of a scan lie a multiple of
        // 4 KiB apart and would evict one another, so their lines are gathered side by side first.
        let pitch = columns.len() + LINE_GAP;
        out[planes.start * ny * nz..planes.end * ny * nz]
            .par_chunks_mut(PLANES_PER_BLOCK * ny * nz)
            .enumerate()
            .for_each(|(block, out)| {
                let first = planes.start + block * PLANES_PER_BLOCK;
                let in_block = out.len() / (ny * nz);
                let starts: Vec<usize> = (first..first + in_block).map(|x| offset(0, x)).collect();
                let mut lines = vec![T::default(); in_block * pitch];
                for y in rows.clone() {
                    let at_y = offset(1, y);
                    for (place, z) in columns.clone().enumerate() {
                        let at_z = at_y + offset(2, z);
                        for (line, start) in lines.chunks_exact_mut(pitch).zip(&starts) {
                            line[place] = convert(stored[at_z + start]);
                        }
                    }
                    for (plane, line) in out.chunks_exact_mut(ny * nz).zip(lines.chunks(pitch)) {
                        plane[y * nz..][columns.clone()].copy_from_slice(&line[..columns.len()]);
                    }
                }
            });
    }

    /// The affine in RAS order of an array stored with this affine and shape.
    #[must_use]
    pub fn reorient(&self, affine: &Affine, shape: [usize; 3]) -> Affine {
        let mut start = [0.0; 3];
        for (axis, flipped) in self.from_axis.into_iter().zip(self.flipped) {
            start[axis] = if flipped {
                (shape[axis] - 1) as f64
            } else {
                0.0
            };
        }
        let linear = affine.linear().map(|row| {
            [0, 1, 2].map(|target| {
                let step = row[self.from_axis[target]];
                if self.flipped[target] { -step } else { step }
            })
        });
        Affine::from_parts(linear, affine.apply(start))
            .expect("permuting and flipping axes keeps an affine invertible")
    }
}

/// Flips and permutes a volume so that its axes run to the right, anterior and superior.
#[must_use]
pub fn to_ras(volume: Volume) -> Volume {
    let orientation = Orientation::of(volume.affine());
    if orientation.is_ras() {
        return volume;
    }
    let shape = volume.shape();
    let strides = [shape[1] * shape[2], shape[2], 1];
    let mut voxels = vec![0.0; volume.voxels_hu().len()];
    orientation.copy(
        volume.voxels_hu(),
        shape,
        strides,
        0..shape[2],
        &mut voxels,
        |hu| hu,
    );
    let affine = orientation.reorient(volume.affine(), shape);
    let shape = orientation.from_axis.map(|axis| shape[axis]);
    Volume::new(shape, affine, voxels).expect("a permuted volume keeps its voxels")
}

/// Output planes filled together: a few cache lines of 16-bit voxels, so that fetching ahead pays.
const PLANES_PER_BLOCK: usize = 128;

/// Elements between two lines: they begin in different sets of the cache.
const LINE_GAP: usize = 16;
