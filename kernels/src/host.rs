//! The same formulas as loops over rows, on all cores.
//!
//! Work is cut into pieces of a fixed size, so results do not depend on the number of threads. The
//! loops have no branches and no library calls, so that the compiler can vectorize them.

use rayon::prelude::*;

/// Values handled by one task, rounded up to whole rows.
const PIECE: usize = 1 << 15;

/// Softmax of `scale · scores` over rows, in place.
pub(super) fn softmax(scores: &mut [f32], row: usize, scale: f32) {
    scores.par_chunks_mut(piece(row)).for_each(|rows| {
        for row in rows.chunks_exact_mut(row) {
            let max = max(row) * scale;
            for value in row.iter_mut() {
                *value = exp(*value * scale - max);
            }
            let total = sum(row, |value| value);
            let inverse = 1.0 / total;
            row.iter_mut().for_each(|value| *value *= inverse);
        }
    });
}

/// `scale · w · (g − Σ g w)` over rows; the gradient becomes that of the scores.
pub(super) fn softmax_backward(weights: &[f32], grad: &mut [f32], row: usize, scale: f32) {
    grad.par_chunks_mut(piece(row))
        .zip(weights.par_chunks(piece(row)))
        .for_each(|(grad, weights)| {
            for (grad, weights) in grad.chunks_exact_mut(row).zip(weights.chunks_exact(row)) {
                let total = dot(grad, weights);
                for (grad, weight) in grad.iter_mut().zip(weights) {
                    *grad = (*grad - total) * weight * scale;
                }
            }
        });
}

/// The gradient becomes that of the input; returns those of scale and shift.
pub(super) fn layer_norm_backward(
    x: &[f32],
    gamma: &[f32],
    grad: &mut [f32],
    epsilon: f32,
) -> [Vec<f32>; 2] {
    let dim = gamma.len();
    let sums: Vec<[Vec<f32>; 2]> = grad
        .par_chunks_mut(piece(dim))
        .zip(x.par_chunks(piece(dim)))
        .map(|(grad, x)| {
            let mut sums = [vec![0.0; dim], vec![0.0; dim]];
            let mut normalized = vec![0.0; dim];
            for (grad, x) in grad.chunks_exact_mut(dim).zip(x.chunks_exact(dim)) {
                layer_norm_row(x, gamma, grad, epsilon, &mut normalized, &mut sums);
            }
            sums
        })
        .collect();
    let mut total = [vec![0.0; dim], vec![0.0; dim]];
    for sums in sums {
        for (total, sum) in total.iter_mut().flatten().zip(sums.iter().flatten()) {
            *total += sum;
        }
    }
    total
}

fn layer_norm_row(
    x: &[f32],
    gamma: &[f32],
    grad: &mut [f32],
    epsilon: f32,
    normalized: &mut [f32],
    [dgamma, dbeta]: &mut [Vec<f32>; 2],
) {
    let inverse_len = 1.0 / x.len() as f32;
    let mean = sum(x, |value| value) * inverse_len;
    let variance = sum(x, |value| (value - mean) * (value - mean)) * inverse_len;
    let inverse = 1.0 / (variance + epsilon).sqrt();
    for (normalized, value) in normalized.iter_mut().zip(x) {
        *normalized = (value - mean) * inverse;
    }
    let parameters = dgamma.iter_mut().zip(dbeta.iter_mut()).zip(gamma);
    for ((grad, n), ((dgamma, dbeta), gamma)) in
        grad.iter_mut().zip(normalized.iter()).zip(parameters)
    {
        *dgamma += *grad * n;
        *dbeta += *grad;
        *grad *= gamma;
    }
    let offset = sum(grad, |value| value) * inverse_len;
    let along = dot(grad, normalized) * inverse_len;
    for (grad, n) in grad.iter_mut().zip(normalized.iter()) {
        *grad = (*grad - offset - n * along) * inverse;
    }
}

/// x · Φ(x), in place.
pub(super) fn gelu(x: &mut [f32]) {
    x.par_chunks_mut(PIECE).for_each(|x| {
        for x in x {
            *x *= normal(*x).0;
        }
    });
}

/// `g · (Φ(x) + x φ(x))`, in place of `g`.
pub(super) fn gelu_backward(x: &[f32], grad: &mut [f32]) {
    grad.par_chunks_mut(PIECE)
        .zip(x.par_chunks(PIECE))
        .for_each(|(grad, x)| {
            for (grad, &x) in grad.iter_mut().zip(x) {
                let (cumulative, density) = normal(x);
                *grad *= cumulative + x * density;
            }
        });
}

/// Distribution and density function of the standard normal distribution, to 2e-7.
///
/// Source: Abramowitz & Stegun 7.1.26 for erf.
#[inline]
fn normal(x: f32) -> (f32, f32) {
    const P: f32 = 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2;
    const A: [f32; 5] = [
        0.254_829_6,
        -0.284_496_74,
        1.421_413_7,
        -1.453_152,
        1.061_405_4,
    ];
    let gaussian = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + P * x.abs());
    let tail = t * (A[0] + t * (A[1] + t * (A[2] + t * (A[3] + t * A[4])))) * gaussian;
    let cumulative = 0.5 + (0.5 - 0.5 * tail).copysign(x);
    (
        cumulative,
        gaussian * (0.5 * std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2),
    )
}

/// e^x for x ≤ 0, to 2e-7 relative; e^−87, nearly the least float32, for anything below.
#[inline]
fn exp(x: f32) -> f32 {
    // Added to a small number, 1.5 · 2²³ leaves its nearest whole number in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LEAST: f32 = -87.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Not `max`, which would turn a NaN into a number and hide that training has diverged.
    let x = if x < LEAST { LEAST } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let r = (x - whole * LN_2_HIGH) - whole * LN_2_LOW;
    let p = 1.0
        + r * (1.0
            + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r / 720.0)))));
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    let power = f32::from_bits(exponent.wrapping_add(127) << 23);
    p * power
}

/// Sum of a row after mapping each value, in sixteen lanes.
#[inline]
fn sum(row: &[f32], map: impl Fn(f32) -> f32) -> f32 {
    lanes(row, 0.0, |sum, value| sum + map(value)).iter().sum()
}

#[inline]
fn max(row: &[f32]) -> f32 {
    let start = f32::NEG_INFINITY;
    lanes(row, start, f32::max)
        .into_iter()
        .fold(start, f32::max)
}

#[inline]
fn lanes(row: &[f32], start: f32, fold: impl Fn(f32, f32) -> f32) -> [f32; 16] {
    let mut lanes = [start; 16];
    let (body, tail) = row.as_chunks::<16>();
    for values in body {
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane = fold(*lane, *value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(tail) {
        *lane = fold(*lane, *value);
    }
    lanes
}

#[inline]
fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut lanes = [0.0; 16];
    let ((left, left_tail), (right, right_tail)) =
        (left.as_chunks::<16>(), right.as_chunks::<16>());
    for (left, right) in left.iter().zip(right) {
        for ((lane, left), right) in lanes.iter_mut().zip(left).zip(right) {
            *lane += left * right;
        }
    }
    for ((lane, left), right) in lanes.iter_mut().zip(left_tail).zip(right_tail) {
        *lane += left * right;
    }
    lanes.iter().sum()
}

fn piece(row: usize) -> usize {
    PIECE.div_ceil(row) * row
}
