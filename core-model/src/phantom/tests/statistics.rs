//! If numbers of the whole volume told every disease, no model would have to look where.

use rayon::prelude::*;

use super::super::*;

/// Voxels a side.
const N: usize = 24;
const PATIENTS: u64 = 500;

/// Mean HU of the head and voxels in the range of blood.
type Statistics = [f64; 2];

fn patients() -> Vec<(DiseaseSet, Statistics)> {
    let profile = builtin_profile("langone")
        .unwrap()
        .with_prevalence_floor(0.2);
    let site = Site::new(profile).unwrap();
    (0..PATIENTS)
        .into_par_iter()
        .map(|index| {
            let patient = Patient::draw(&site, 6, index);
            let scan = patient.acquisition(&site, 0);
            let voxels = patient.render(&scan, &patient.model_grid(&scan, N));
            let head = || voxels.iter().filter(|hu| **hu > -300.0);
            let blood = head().filter(|hu| (50.0..90.0).contains(*hu)).count();
            let mean = head().map(|hu| f64::from(*hu)).sum::<f64>() / head().count() as f64;
            (patient.truth().diseases, [mean, blood as f64])
        })
        .collect()
}

/// Share of pairs of a positive and a negative that a score puts in order.
fn auc(scored: &[(bool, f64)]) -> f64 {
    let of = |wanted: bool| scored.iter().filter(move |(is, _)| *is == wanted);
    let wins: f64 = of(true)
        .flat_map(|(_, p)| {
            of(false).map(move |(_, n)| {
                if p > n {
                    1.0
                } else {
                    0.5 * f64::from(u8::from(p == n))
                }
            })
        })
        .sum();
    wins / (of(true).count() * of(false).count()) as f64
}

/// Fisher's linear discriminant: the weights that part positives from negatives best.
fn discriminant(rows: &[(bool, Statistics)]) -> Statistics {
    let mean = |wanted: bool| -> Statistics {
        let of = || rows.iter().filter(|(is, _)| *is == wanted);
        [0, 1].map(|k| of().map(|(_, x)| x[k]).sum::<f64>() / of().count() as f64)
    };
    let means = [mean(false), mean(true)];
    let scatter = |i: usize, k: usize| -> f64 {
        rows.iter()
            .map(|(is, x)| {
                let mean = means[usize::from(*is)];
                (x[i] - mean[i]) * (x[k] - mean[k])
            })
            .sum()
    };
    let (a, b, c) = (scatter(0, 0), scatter(0, 1), scatter(1, 1));
    let [d0, d1] = [0, 1].map(|k| means[1][k] - means[0][k]);
    // The inverse of the scatter matrix times the difference of means, up to a positive factor.
    [c * d0 - b * d1, a * d1 - b * d0]
}

#[test]
fn no_disease_is_told_by_mean_density_and_amount_of_blood() {
    let patients = patients();
    for disease in Disease::ALL {
        let rows: Vec<(bool, Statistics)> = patients
            .iter()
            .map(|(set, statistics)| (set.contains(disease), *statistics))
            .collect();
        let alone = [0, 1].map(|k| {
            let scored: Vec<_> = rows.iter().map(|(is, x)| (*is, x[k])).collect();
            auc(&scored)
        });
        let (fitted, judged) = rows.split_at(rows.len() / 2);
        let weights = discriminant(fitted);
        let scored: Vec<_> = judged
            .iter()
            .map(|(is, x)| (*is, weights[0] * x[0] + weights[1] * x[1]))
            .collect();
        let together = auc(&scored);
        println!(
            "{disease}: mean {:.2}, blood {:.2}, both {together:.2}",
            alone[0], alone[1]
        );
        assert!(
            alone.iter().all(|auc| (0.1..0.9).contains(auc)) && together < 0.9,
            "{disease}: AUC {alone:?} alone, {together} together"
        );
    }
}
