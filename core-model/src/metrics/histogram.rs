//! AUC of scores that stay where they are: sites share two counts per bin, never a score.

use serde::{Deserialize, Serialize};

use super::{Interval, MetricsError};

/// Bins of scores; every site must use the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScoreBins {
    scale: Scale,
    count: usize,
}

/// What bins have equal width over.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Scale {
    /// The score, over a range; the end bins take what lies outside.
    Linear { low: f64, high: f64 },
    /// σ(logit / 2).
    Logit,
}

/// Counts of diseased and healthy rows per bin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreHistogram {
    positives: Vec<u64>,
    negatives: Vec<u64>,
}

/// AUC of binned scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HistogramAuc {
    /// AUC with each pair inside one bin counted one half.
    pub auc: f64,
    /// The AUC of the unbinned scores differs by at most this: half the fraction of pairs that
    /// share a bin. It is reached when all of them stand in one order.
    pub binning_bound: f64,
    /// DeLong variance of the binned AUC, none when a class has one row.
    pub variance: Option<f64>,
    /// Diseased rows.
    pub positives: u64,
    /// Healthy rows.
    pub negatives: u64,
}

impl ScoreBins {
    /// `count` equal bins over `low` to `high`.
    ///
    /// # Errors
    /// No bins, or a range that is empty or not finite.
    pub fn new(low: f64, high: f64, count: usize) -> Result<Self, MetricsError> {
        if count == 0 {
            let expected = "at least 1";
            return Err(MetricsError::Parameter {
                name: "bins",
                found: 0.0,
                expected,
            });
        }
        if !(low.is_finite() && high.is_finite() && low < high) {
            let expected = "finite and above the low end";
            return Err(MetricsError::Parameter {
                name: "high end",
                found: high,
                expected,
            });
        }
        Ok(Self {
            scale: Scale::Linear { low, high },
            count,
        })
    }

    /// `count` bins for logits, equal over σ(logit / 2).
    ///
    /// Logits spread where probabilities crowd at 0 and 1, but their range is unknown before a
    /// model is trained: equal bins over a fixed range of logits are too wide in its middle or lump
    /// together what lies outside. These are finest around 0 (1,024 bins: 1/128 of a logit) and
    /// none is endless in effect: logits of 8 and 9 still lie seven bins apart.
    ///
    /// # Errors
    /// No bins.
    pub fn logits(count: usize) -> Result<Self, MetricsError> {
        Ok(Self {
            scale: Scale::Logit,
            ..Self::new(0.0, 1.0, count)?
        })
    }

    /// Number of bins.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Counts each row in its bin.
    ///
    /// # Errors
    /// Unequal lengths or a score that is not finite.
    pub fn histogram(
        &self,
        labels: &[bool],
        scores: &[f64],
    ) -> Result<ScoreHistogram, MetricsError> {
        if labels.len() != scores.len() {
            return Err(MetricsError::Lengths {
                labels: labels.len(),
                scores: scores.len(),
            });
        }
        let mut histogram = ScoreHistogram::empty(self.count);
        for (row, (&positive, &score)) in labels.iter().zip(scores).enumerate() {
            if !score.is_finite() {
                return Err(MetricsError::NotFinite { row, found: score });
            }
            let counts = if positive {
                &mut histogram.positives
            } else {
                &mut histogram.negatives
            };
            counts[self.bin(score)] += 1;
        }
        Ok(histogram)
    }

    /// The bin of a score.
    pub fn bin(&self, score: f64) -> usize {
        let position = match self.scale {
            Scale::Linear { low, high } => (score - low) / (high - low),
            Scale::Logit => 1.0 / (1.0 + (-0.5 * score).exp()),
        };
        // A negative position saturates at 0.
        ((position * self.count as f64) as usize).min(self.count - 1)
    }
}

impl ScoreHistogram {
    /// A histogram of no rows.
    pub fn empty(bins: usize) -> Self {
        Self {
            positives: vec![0; bins],
            negatives: vec![0; bins],
        }
    }

    /// Counts that came from elsewhere.
    ///
    /// # Errors
    /// Unequal numbers of bins.
    pub fn from_counts(positives: Vec<u64>, negatives: Vec<u64>) -> Result<Self, MetricsError> {
        if positives.len() != negatives.len() {
            return Err(MetricsError::Bins {
                found: negatives.len(),
                expected: positives.len(),
            });
        }
        Ok(Self {
            positives,
            negatives,
        })
    }

    /// Diseased rows per bin.
    pub fn positives(&self) -> &[u64] {
        &self.positives
    }

    /// Healthy rows per bin.
    pub fn negatives(&self) -> &[u64] {
        &self.negatives
    }

    /// Adds another site's counts.
    ///
    /// # Errors
    /// Another number of bins.
    pub fn merge(&mut self, other: &Self) -> Result<(), MetricsError> {
        if other.positives.len() != self.positives.len() {
            return Err(MetricsError::Bins {
                found: other.positives.len(),
                expected: self.positives.len(),
            });
        }
        for (mine, theirs) in self.positives.iter_mut().zip(&other.positives) {
            *mine = mine.saturating_add(*theirs);
        }
        for (mine, theirs) in self.negatives.iter_mut().zip(&other.negatives) {
            *mine = mine.saturating_add(*theirs);
        }
        Ok(())
    }

    /// AUC, its binning bound and its DeLong variance: within a bin placements are constant, so
    /// the counts are enough and no second exchange is needed.
    ///
    /// # Errors
    /// No rows, or one class only.
    pub fn auc(&self) -> Result<HistogramAuc, MetricsError> {
        let sum = |counts: &[u64]| {
            counts
                .iter()
                .fold(0u64, |sum, count| sum.saturating_add(*count))
        };
        let (positives, negatives) = (sum(&self.positives), sum(&self.negatives));
        let missing = match (positives, negatives) {
            (0, 0) => return Err(MetricsError::Empty),
            (0, _) => Some("positive"),
            (_, 0) => Some("negative"),
            _ => None,
        };
        if let Some(missing) = missing {
            let rows = positives.saturating_add(negatives) as usize;
            return Err(MetricsError::OneClass { missing, rows });
        }
        let (mut twice_wins, mut shared, mut below) = (0u128, 0u128, 0u64);
        for (&p, &n) in self.positives.iter().zip(&self.negatives) {
            twice_wins += u128::from(p) * (2 * u128::from(below) + u128::from(n));
            shared += u128::from(p) * u128::from(n);
            below += n;
        }
        let twice_pairs = 2.0 * positives as f64 * negatives as f64;
        let auc = twice_wins as f64 / twice_pairs;
        Ok(HistogramAuc {
            auc,
            binning_bound: shared as f64 / twice_pairs,
            variance: (positives > 1 && negatives > 1)
                .then(|| self.variance(auc, positives as f64, negatives as f64)),
            positives,
            negatives,
        })
    }

    fn variance(&self, auc: f64, positives: f64, negatives: f64) -> f64 {
        let (mut of_positives, mut of_negatives) = (0.0, 0.0);
        let (mut below, mut above) = (0.0, positives);
        for (&p, &n) in self.positives.iter().zip(&self.negatives) {
            let (p, n) = (p as f64, n as f64);
            above -= p;
            of_positives += p * ((below + 0.5 * n) / negatives - auc).powi(2);
            of_negatives += n * ((above + 0.5 * p) / positives - auc).powi(2);
            below += n;
        }
        of_positives / (positives * (positives - 1.0))
            + of_negatives / (negatives * (negatives - 1.0))
    }
}

impl HistogramAuc {
    /// DeLong interval, widened on both sides by the binning bound and clipped to 0 to 1.
    ///
    /// # Errors
    /// A class of one row, or a level outside 0 to 1.
    pub fn interval(&self, level: f64) -> Result<Interval, MetricsError> {
        let class = if self.positives < 2 {
            "positive"
        } else {
            "negative"
        };
        let variance = self.variance.ok_or(MetricsError::TooFew { class })?;
        let interval = Interval::normal(self.auc, variance.sqrt(), level)?;
        Ok(Interval {
            low: interval.low - self.binning_bound,
            high: interval.high + self.binning_bound,
        }
        .clip_to_unit())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::{DeLong, Ranked};

    #[test]
    fn values_outside_the_range_go_to_the_end_bins() {
        let bins = ScoreBins::new(-1.0, 1.0, 4).unwrap();
        assert_eq!(
            [-9.0, -1.0, -0.6, 0.0, 0.99, 1.0, 9.0].map(|s| bins.bin(s)),
            [0, 0, 0, 2, 3, 3, 3]
        );
    }

    #[test]
    fn logit_bins_are_fine_in_the_middle_and_hold_apart_what_is_far_out() {
        let bins = ScoreBins::logits(1024).unwrap();
        assert_eq!(
            [f64::MIN, 0.0, 1.0 / 127.0, f64::MAX].map(|s| bins.bin(s)),
            [0, 512, 513, 1023]
        );
        assert!(bins.bin(9.0) - bins.bin(8.0) >= 7);
        assert!(bins.bin(-8.0) - bins.bin(-9.0) >= 7);
    }

    #[test]
    fn sites_add_up_to_the_pooled_histogram() {
        let bins = ScoreBins::new(0.0, 1.0, 8).unwrap();
        let (labels, scores) = ([true, false, true, false], [0.9, 0.4, 0.3, 0.1]);
        let mut sum = bins.histogram(&labels[..2], &scores[..2]).unwrap();
        sum.merge(&bins.histogram(&labels[2..], &scores[2..]).unwrap())
            .unwrap();
        assert_eq!(sum, bins.histogram(&labels, &scores).unwrap());
        assert!(sum.merge(&ScoreHistogram::empty(9)).is_err());
    }

    #[test]
    fn the_bound_is_reached_when_all_shared_pairs_are_in_order() {
        let bins = ScoreBins::new(0.0, 1.0, 2).unwrap();
        let labels = [true, true, false, false];
        let scores = [0.4, 0.3, 0.2, 0.1];
        let binned = bins.histogram(&labels, &scores).unwrap().auc().unwrap();
        let exact = Ranked::new(&labels, &scores).unwrap().areas().roc_auc;
        assert_eq!((binned.auc, binned.binning_bound, exact), (0.5, 0.5, 1.0));
    }

    #[test]
    fn one_class_and_bad_ranges_are_refused() {
        let bins = ScoreBins::logits(1024).unwrap();
        let none = bins
            .histogram(&[false; 3], &[0.0; 3])
            .unwrap()
            .auc()
            .unwrap_err();
        assert_eq!(
            none,
            MetricsError::OneClass {
                missing: "positive",
                rows: 3
            }
        );
        assert!(ScoreBins::new(1.0, 1.0, 4).is_err());
        assert!(ScoreBins::new(0.0, 1.0, 0).is_err() && ScoreBins::logits(0).is_err());
        let one = bins
            .histogram(&[true, false, false], &[1.0, 0.0, 0.0])
            .unwrap()
            .auc()
            .unwrap();
        assert_eq!(
            one.interval(0.95).unwrap_err(),
            MetricsError::TooFew { class: "positive" }
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 1000,
            rng_seed: proptest::test_runner::RngSeed::Fixed(6),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn the_error_is_within_the_bound(
            rows in prop::collection::vec((any::<bool>(), -10.0f64..10.0), 2..300),
            bins in 1usize..200,
        ) {
            let (labels, scores): (Vec<bool>, Vec<f64>) = rows.into_iter().unzip();
            let binned = ScoreBins::new(-8.0, 8.0, bins).unwrap().histogram(&labels, &scores).unwrap();
            match Ranked::new(&labels, &scores) {
                Ok(ranked) => {
                    let binned = binned.auc().unwrap();
                    let error = (binned.auc - ranked.areas().roc_auc).abs();
                    prop_assert!(error <= binned.binning_bound + 1e-12);
                }
                Err(_) => prop_assert!(binned.auc().is_err()),
            }
        }

        #[test]
        fn logit_bins_keep_the_bound_too(
            rows in prop::collection::vec((any::<bool>(), -30.0f64..30.0), 2..300),
            bins in 1usize..2000,
        ) {
            let (labels, scores): (Vec<bool>, Vec<f64>) = rows.into_iter().unzip();
            let binned = ScoreBins::logits(bins).unwrap().histogram(&labels, &scores).unwrap();
            if let Ok(ranked) = Ranked::new(&labels, &scores) {
                let binned = binned.auc().unwrap();
                let error = (binned.auc - ranked.areas().roc_auc).abs();
                prop_assert!(error <= binned.binning_bound + 1e-12);
            }
        }

        #[test]
        fn scores_that_are_bins_lose_nothing(
            rows in prop::collection::vec((any::<bool>(), 0u8..16), 4..100),
        ) {
            let (labels, bins): (Vec<bool>, Vec<u8>) = rows.into_iter().unzip();
            let scores: Vec<f64> = bins.into_iter().map(|bin| f64::from(bin) + 0.5).collect();
            let binned = ScoreBins::new(0.0, 16.0, 16).unwrap().histogram(&labels, &scores).unwrap();
            if let Ok(ranked) = Ranked::new(&labels, &scores) {
                let binned = binned.auc().unwrap();
                prop_assert!((binned.auc - ranked.areas().roc_auc).abs() < 1e-12);
                if let Ok(delong) = DeLong::new(&ranked) {
                    prop_assert!((binned.variance.unwrap() - delong.variance()).abs() < 1e-12);
                }
            }
        }
    }
}
