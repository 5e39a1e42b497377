//! Statistics against references computed by scikit-learn and NumPy, and against the truth in a
//! simulation.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail tests by panicking"
)]

use core_model::metrics::{DeLong, Ranked, Resampler, ScoreBins, bootstrap, percentile_interval};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::Deserialize;
use statrs::distribution::{ContinuousCDF, Normal};

#[derive(Deserialize)]
struct Reference {
    labels: Vec<u8>,
    scores: Vec<f64>,
    scores_b: Vec<f64>,
    roc_auc: f64,
    average_precision: f64,
    roc_auc_b: f64,
    delong_variance: f64,
    delong_variance_b: f64,
    delong_covariance: f64,
    delong_z: f64,
}

impl Reference {
    fn all() -> Vec<Self> {
        serde_json::from_str(include_str!("reference/metrics.json")).unwrap()
    }

    fn ranked(&self) -> (Ranked, Ranked) {
        let labels: Vec<bool> = self.labels.iter().map(|label| *label == 1).collect();
        (
            Ranked::new(&labels, &self.scores).unwrap(),
            Ranked::new(&labels, &self.scores_b).unwrap(),
        )
    }
}

#[track_caller]
fn assert_close(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() < 1e-9,
        "found {found}, expected {expected}"
    );
}

#[test]
fn areas_agree_with_scikit_learn() {
    for reference in Reference::all() {
        let (a, b) = reference.ranked();
        assert_close(a.areas().roc_auc, reference.roc_auc);
        assert_close(a.areas().average_precision, reference.average_precision);
        assert_close(b.areas().roc_auc, reference.roc_auc_b);
    }
}

#[test]
fn delong_agrees_with_its_definition_over_all_pairs() {
    for reference in Reference::all() {
        let (a, b) = reference.ranked();
        let (a, b) = (DeLong::new(&a).unwrap(), DeLong::new(&b).unwrap());
        assert_close(a.variance(), reference.delong_variance);
        assert_close(b.variance(), reference.delong_variance_b);
        let comparison = a.compare(&b).unwrap();
        assert_close(comparison.covariance, reference.delong_covariance);
        assert_close(comparison.z, reference.delong_z);
        assert_close(
            comparison.p,
            2.0 * Normal::standard().cdf(-reference.delong_z.abs()),
        );
    }
}

#[test]
fn a_histogram_of_1024_bins_is_within_a_thousandth() {
    // The bins that sites of a federation use.
    let bins = ScoreBins::logits(1024).unwrap();
    for reference in Reference::all() {
        let (a, b) = reference.ranked();
        for ranked in [a, b] {
            let binned = bins
                .histogram(ranked.labels(), ranked.scores())
                .unwrap()
                .auc()
                .unwrap();
            let error = (binned.auc - ranked.areas().roc_auc).abs();
            assert!(
                error < 1e-3 && error <= binned.binning_bound + 1e-12,
                "{error}"
            );
        }
    }
}

/// Scores of 60 diseased scans from N(1, 1) and of 90 healthy from N(0, 1): AUC = Φ(1/√2).
#[test]
fn intervals_cover_the_truth_at_the_nominal_rate() {
    let truth = Normal::standard().cdf(0.5f64.sqrt());
    let labels: Vec<bool> = (0..150).map(|row| row < 60).collect();
    let resampler = Resampler::by_row(&labels);
    let mut random = ChaCha8Rng::seed_from_u64(20);
    let (mut by_delong, mut by_bootstrap) = (0, 0);
    for draw in 0..200 {
        let scores: Vec<f64> = labels
            .iter()
            .map(|positive| f64::from(*positive) + random.sample::<f64, _>(StandardNormal))
            .collect();
        let ranked = Ranked::new(&labels, &scores).unwrap();
        let delong = DeLong::new(&ranked).unwrap().interval(0.95).unwrap();
        by_delong += i32::from(delong.contains(truth));
        let replicates = bootstrap(&ranked, &resampler, 1000, draw).roc_auc;
        by_bootstrap += i32::from(
            percentile_interval(&replicates, 0.95)
                .unwrap()
                .contains(truth),
        );
    }
    for (name, covered) in [("DeLong", by_delong), ("bootstrap", by_bootstrap)] {
        let coverage = f64::from(covered) / 200.0;
        println!("{name}: {coverage}");
        assert!((coverage - 0.95).abs() <= 0.035, "{name}: {coverage}");
    }
}
