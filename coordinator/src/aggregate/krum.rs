//! Krum and Multi-Krum (Blanchard et al. 2017): trust the updates that lie closest together.

use protocol::layout::Part;
use rayon::prelude::*;

use super::fold::Columns;
use super::{AggregateError, Inputs};

/// Positions of the `keep` updates with the smallest scores.
///
/// An update's score is the sum of its squared distances to its n − f − 2 nearest others, f being
/// the number of sites that may be malicious. Ties go to the earlier site.
pub(super) fn select(
    inputs: &Inputs<'_>,
    scales: &[f64],
    malicious: usize,
    keep: usize,
) -> Result<Vec<usize>, AggregateError> {
    let sites = inputs.contributions.len();
    let distances = squared_distances(inputs, scales)?;
    let neighbors = sites - malicious - 2;
    let mut scored: Vec<(f64, usize)> = (0..sites)
        .map(|site| {
            let mut others: Vec<f64> = (0..sites)
                .filter(|&other| other != site)
                .map(|other| distances[pair(site.min(other), site.max(other))])
                .collect();
            others.sort_by(f64::total_cmp);
            (others[..neighbors].iter().sum(), site)
        })
        .collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut selected: Vec<usize> = scored[..keep.min(sites)]
        .iter()
        .map(|&(_, site)| site)
        .collect();
    selected.sort_unstable();
    Ok(selected)
}

/// Squared distance of every pair, in one pass over the updates.
fn squared_distances(inputs: &Inputs<'_>, scales: &[f64]) -> Result<Vec<f64>, AggregateError> {
    let sites = inputs.contributions.len();
    let pairs: Vec<(usize, usize)> = (0..sites)
        .flat_map(|high| (0..high).map(move |low| (low, high)))
        .collect();
    let mut distances = vec![0.0; pairs.len()];
    let mut columns = Columns::new(inputs, Part::Weights);
    for range in columns.ranges() {
        columns.read(range)?;
        let values = columns.values();
        distances
            .par_iter_mut()
            .zip(&pairs)
            .for_each(|(distance, &(low, high))| {
                *distance +=
                    squared_distance(&values[low], scales[low], &values[high], scales[high]);
            });
    }
    Ok(distances)
}

fn squared_distance(a: &[f32], a_scale: f64, b: &[f32], b_scale: f64) -> f64 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let difference = |a: f32, b: f32| f64::from(a) * a_scale - f64::from(b) * b_scale;
    let mut lanes = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += difference(a[lane], b[lane]).powi(2);
        }
    }
    let rest: f64 = a_rest
        .iter()
        .zip(b_rest)
        .map(|(&a, &b)| difference(a, b).powi(2))
        .sum();
    lanes.iter().sum::<f64>() + rest
}

/// Place of the pair `low < high` in the list of pairs.
fn pair(low: usize, high: usize) -> usize {
    high * (high - 1) / 2 + low
}

const LANES: usize = 8;
