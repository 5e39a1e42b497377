//! Coordinate-wise order statistics by a sorting network.
//!
//! A network compares the same pairs whatever the values are, so whole rows are compared at once
//! and no coordinate branches.

use rayon::prelude::*;

/// Batcher's merge exchange (Knuth, TAOCP 3, algorithm 5.2.2M): comparisons that sort `n` values.
pub(super) struct Network {
    pairs: Vec<(usize, usize)>,
}

impl Network {
    pub(super) fn new(values: usize) -> Self {
        let mut pairs = Vec::new();
        let top = values.next_power_of_two() / 2;
        let mut p = top;
        while p > 0 {
            let (mut q, mut r, mut d) = (top, 0, p);
            loop {
                pairs.extend((0..values - d).filter(|i| i & p == r).map(|i| (i, i + d)));
                if q == p {
                    break;
                }
                (d, q, r) = (q - p, q / 2, p);
            }
            p /= 2;
        }
        Self { pairs }
    }

    /// For each coordinate, the mean of what lies between the `trim` smallest and the `trim`
    /// largest of the scaled values.
    pub(super) fn trimmed_mean(
        &self,
        columns: &[Vec<f32>],
        scales: &[f64],
        trim: usize,
        means: &mut Vec<f64>,
    ) {
        let kept = columns.len() - 2 * trim;
        means.clear();
        means.resize(columns.first().map_or(0, Vec::len), 0.0);
        means.par_chunks_mut(BLOCK).enumerate().for_each_init(
            || vec![[0.0_f32; BLOCK]; columns.len()],
            |rows, (block, means)| {
                let start = block * BLOCK;
                let width = means.len();
                for ((row, column), &scale) in rows.iter_mut().zip(columns).zip(scales) {
                    for (value, &read) in row.iter_mut().zip(&column[start..start + width]) {
                        *value = (f64::from(read) * scale) as f32;
                    }
                }
                self.sort(rows);
                for row in &rows[trim..trim + kept] {
                    for (sum, &value) in means.iter_mut().zip(row) {
                        *sum += f64::from(value);
                    }
                }
                for sum in means {
                    *sum /= kept as f64;
                }
            },
        );
    }

    fn sort(&self, rows: &mut [[f32; BLOCK]]) {
        for &(low, high) in &self.pairs {
            let (head, tail) = rows.split_at_mut(high);
            for (low, high) in head[low].iter_mut().zip(&mut tail[0]) {
                let (a, b) = (*low, *high);
                let swap = b < a;
                *low = if swap { b } else { a };
                *high = if swap { a } else { b };
            }
        }
    }
}

/// Coordinates sorted at a time: the rows of a hundred sites stay in the second-level cache.
const BLOCK: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_sorts_every_pattern_of_zeros_and_ones() {
        // The zero-one principle: a network that sorts these sorts everything.
        for values in 1..=12_usize {
            let network = Network::new(values);
            for pattern in 0..1_usize << values {
                let mut rows = vec![[0.0_f32; BLOCK]; values];
                for (i, row) in rows.iter_mut().enumerate() {
                    row[0] = (pattern >> i & 1) as f32;
                }
                network.sort(&mut rows);
                assert!(
                    rows.is_sorted_by(|a, b| a[0] <= b[0]),
                    "{values} values, {pattern:b}"
                );
            }
        }
    }
}
