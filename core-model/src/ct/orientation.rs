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

    /// Copies an array with the given element strides to row-major RAS order, converting each
    /// element, and moves the affine with it.
    ///
    /// # Panics
    /// If an index within `shape` lies outside `stored`.
    pub fn gather<S: Copy + Sync, T: Copy + Default + Send>(
        &self,
        stored: &[S],
        shape: [usize; 3],
        strides: [usize; 3],
        affine: &Affine,
        convert: impl Fn(S) -> T + Sync,
    ) -> ([usize; 3], Affine, Vec<T>) {
        let out_shape = self.from_axis.map(|axis| shape[axis]);
        let out_strides = self.from_axis.map(|axis| strides[axis]);
        // The stored offset of output index i on an axis is first + i·step.
        let last: [usize; 3] = [0, 1, 2].map(|a| (out_shape[a] - 1) * out_strides[a]);
        let offset = |axis: usize, i: usize| {
            let forward = i * out_strides[axis];
            if self.flipped[axis] {
                last[axis] - forward
            } else {
                forward
            }
        };
        let [nx, ny, nz] = out_shape;
        let mut out = vec![T::default(); nx * ny * nz];
        // Blocks of planes: stored axis 0 is often contiguous, so a cache line that was fetched for
        // one plane serves its neighbors while it is still there. Planes of a scan lie a multiple of
        // 4 KiB apart and would evict one another, so their lines are gathered side by side first.
        let pitch = nz + LINE_GAP;
        out.par_chunks_mut(PLANES_PER_BLOCK * ny * nz)
            .enumerate()
            .for_each(|(block, planes)| {
                let first_plane = block * PLANES_PER_BLOCK;
                let in_block = planes.len() / (ny * nz);
                let starts: Vec<usize> = (0..in_block)
                    .map(|plane| offset(0, first_plane + plane))
                    .collect();
                let mut lines = vec![T::default(); in_block * pitch];
                for y in 0..ny {
                    let at_y = offset(1, y);
                    for z in 0..nz {
                        let at_z = at_y + offset(2, z);
                        for (line, start) in lines.chunks_exact_mut(pitch).zip(&starts) {
                            line[z] = convert(stored[at_z + start]);
                        }
                    }
                    for (plane, line) in planes.chunks_exact_mut(ny * nz).zip(lines.chunks(pitch)) {
                        plane[y * nz..][..nz].copy_from_slice(&line[..nz]);
                    }
                }
            });
        (out_shape, self.reorient(affine, shape), out)
    }

    fn reorient(&self, affine: &Affine, shape: [usize; 3]) -> Affine {
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
    let (shape, affine, voxels) =
        orientation.gather(volume.voxels_hu(), shape, strides, volume.affine(), |hu| hu);
    Volume::new(shape, affine, voxels).expect("a permuted volume keeps its voxels")
}

/// Output planes filled together: one cache line of 16-bit voxels.
const PLANES_PER_BLOCK: usize = 32;

/// Elements between two lines: they begin in different sets of the cache.
const LINE_GAP: usize = 16;
