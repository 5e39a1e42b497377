//! Position of a patch in the volume: the 3-D sine–cosine table, and its resampling to other grids.

use burn::tensor::{Device, Tensor, TensorData};

/// Sine–cosine table of a cubic grid, `[grid³, dim]` in row-major order.
///
/// Source: the released FM-CT layout. Row `(i·grid + j)·grid + k` is the patch at `(i, j, k)`. The
/// channels are `[sin | cos]` of axis 1, then of axis 0, then of axis 2, `dim / 6` frequencies
/// each, ω_f = 10000^(−f / (dim / 6)); coordinates are patch indices.
pub fn sincos(dim: usize, grid: usize) -> Vec<f32> {
    let frequencies: Vec<f64> = (0..dim / 6)
        .map(|f| 10_000f64.powf(-(f as f64) / (dim / 6) as f64))
        .collect();
    let mut table = Vec::with_capacity(grid.pow(3) * dim);
    for i in 0..grid {
        for j in 0..grid {
            for k in 0..grid {
                for position in [j, i, k] {
                    let angles = frequencies.iter().map(|omega| position as f64 * omega);
                    table.extend(angles.clone().map(|angle| angle.sin() as f32));
                    table.extend(angles.map(|angle| angle.cos() as f32));
                }
            }
        }
    }
    table
}

/// Resamples a position table to another cubic grid: trilinear, half-voxel centers
/// (`align_corners=False`).
///
/// # Shapes
/// `[1, from³, E]` → `[1, to³, E]`
pub(crate) fn resample(table: Tensor<3>, from: usize, to: usize) -> Tensor<3> {
    if from == to {
        return table;
    }
    let [_, _, dim] = table.dims();
    let weights = trilinear(from, to, &table.device());
    weights
        .matmul(table.reshape([from.pow(3), dim]))
        .reshape([1, to.pow(3), dim])
}

/// Interpolation matrix `[to³, from³]`.
fn trilinear(from: usize, to: usize, device: &Device) -> Tensor<2> {
    let axis: Vec<[(usize, f32); 2]> = (0..to)
        .map(|index| {
            let x = ((index as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
            let low = (x as usize).min(from - 1);
            let high = (low + 1).min(from - 1);
            let fraction = (x - low as f64) as f32;
            [(low, 1.0 - fraction), (high, fraction)]
        })
        .collect();
    let mut weights = vec![0.0; to.pow(3) * from.pow(3)];
    for (row, weights) in weights.chunks_mut(from.pow(3)).enumerate() {
        let (i, j, k) = (row / (to * to), row / to % to, row % to);
        for (a, wa) in axis[i] {
            for (b, wb) in axis[j] {
                for (c, wc) in axis[k] {
                    weights[(a * from + b) * from + c] += wa * wb * wc;
                }
            }
        }
    }
    Tensor::from_data(TensorData::new(weights, [to.pow(3), from.pow(3)]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resampling_keeps_a_linear_ramp_inside_and_a_constant_everywhere() {
        let device = Device::flex();
        let ramp: Vec<f32> = (0..64).flat_map(|row| [(row / 16) as f32, 7.0]).collect();
        let table = Tensor::<3>::from_data(TensorData::new(ramp, [1, 64, 2]), &device);
        let finer = resample(table, 4, 8)
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        for (row, values) in finer.chunks(2).enumerate() {
            let expected = (((row / 64) as f32 + 0.5) / 2.0 - 0.5).clamp(0.0, 3.0);
            assert!(
                (values[0] - expected).abs() < 1e-6,
                "row {row}: {} {expected}",
                values[0]
            );
            assert!((values[1] - 7.0).abs() < 1e-6);
        }
    }
}
