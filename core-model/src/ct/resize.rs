use rayon::prelude::*;

/// Adaptive average pooling to `size`, after mapping each voxel: torch's mode "area".
///
/// Output `i` averages the inputs `⌊i·n/S⌋ … ⌈(i+1)·n/S⌉ − 1` on each axis, also when it upsamples.
///
/// # Shapes
/// `voxels` [X, Y, Z] row-major as `shape` → [S₀, S₁, S₂] row-major.
///
/// # Panics
/// If `voxels` does not fill `shape`, or an axis of either is empty.
#[must_use]
pub fn resize_area(
    voxels: &[f32],
    shape: [usize; 3],
    size: [usize; 3],
    map: impl Fn(f32) -> f32 + Sync,
) -> Vec<f32> {
    let [_, ny, nz] = shape;
    assert_eq!(
        voxels.len(),
        shape.iter().product::<usize>(),
        "voxels fill their shape"
    );
    let bins = [0, 1, 2].map(|axis| bins(shape[axis], size[axis]));
    let mut out = vec![0.0; size.iter().product()];
    out.par_chunks_mut(size[1] * size[2])
        .zip(&bins[0])
        .for_each(|(plane, &(x0, x1))| {
            // Sum whole rows first: contiguous, so the compiler vectorizes it.
            let mut sums = vec![0.0_f32; nz];
            for (row, &(y0, y1)) in plane.chunks_mut(size[2]).zip(&bins[1]) {
                sums.fill(0.0);
                for x in x0..x1 {
                    for y in y0..y1 {
                        let line = &voxels[(x * ny + y) * nz..][..nz];
                        for (sum, &value) in sums.iter_mut().zip(line) {
                            *sum += map(value);
                        }
                    }
                }
                for (value, &(z0, z1)) in row.iter_mut().zip(&bins[2]) {
                    let count = (x1 - x0) * (y1 - y0) * (z1 - z0);
                    *value = sums[z0..z1].iter().sum::<f32>() / count as f32;
                }
            }
        });
    out
}

/// The input range [first, end) of each output.
fn bins(len: usize, size: usize) -> Vec<(usize, usize)> {
    (0..size)
        .map(|i| (i * len / size, ((i + 1) * len).div_ceil(size)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_overlap_as_adaptive_pooling_does() {
        assert_eq!(bins(5, 2), [(0, 3), (2, 5)]);
        assert_eq!(bins(2, 4), [(0, 1), (0, 1), (1, 2), (1, 2)]);
    }

    #[test]
    fn the_mean_of_whole_bins_is_kept() {
        let voxels: Vec<f32> = (0..64).map(|i| i as f32).collect();
        let small = resize_area(&voxels, [4, 4, 4], [2, 2, 2], |x| x);
        assert_eq!(small.iter().sum::<f32>() / 8.0, 31.5);
        assert_eq!(
            small[0],
            (0.0 + 1.0 + 4.0 + 5.0 + 16.0 + 17.0 + 20.0 + 21.0) / 8.0
        );
        assert_eq!(resize_area(&voxels, [4; 3], [4; 3], |x| x), voxels);
    }
}
