//! The variance of an AUC without resampling, and the test of two AUCs on the same scans.

use statrs::distribution::{ContinuousCDF, Normal};

use super::{Interval, MetricsError, Ranked};

/// AUC of one model with the placement of each row.
///
/// Source: DeLong, DeLong and Clarke-Pearson 1988, computed from ranks as in Sun and Xu 2014. A
/// row's placement is the fraction of the other class on the right side of it, ties one half.
#[derive(Debug, Clone)]
pub struct DeLong {
    auc: f64,
    variance: f64,
    placements: Vec<f64>,
    labels: Vec<bool>,
    counts: [f64; 2],
}

/// Two models on the same scans.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeLongComparison {
    /// AUC of the first model minus AUC of the second.
    pub delta: f64,
    /// Standard error of `delta`.
    pub standard_error: f64,
    /// Covariance of the two AUCs.
    pub covariance: f64,
    /// `delta` in standard errors.
    pub z: f64,
    /// Two-sided p-value from the normal distribution.
    pub p: f64,
}

impl DeLong {
    /// Computes the placements and their variance in time n log n.
    ///
    /// # Errors
    /// One row only in a class: the variance needs two.
    pub fn new(ranked: &Ranked) -> Result<Self, MetricsError> {
        for (class, count) in [
            ("positive", ranked.positives()),
            ("negative", ranked.negatives()),
        ] {
            if count < 2 {
                return Err(MetricsError::TooFew { class });
            }
        }
        let counts = [ranked.negatives() as f64, ranked.positives() as f64];
        let placements = placements(ranked);
        let auc = ranked.areas().roc_auc;
        let mut delong = Self {
            auc,
            variance: 0.0,
            placements,
            labels: ranked.labels().to_vec(),
            counts,
        };
        delong.variance = delong.covariance(&delong);
        Ok(delong)
    }

    /// The AUC.
    pub fn auc(&self) -> f64 {
        self.auc
    }

    /// Variance of the AUC.
    pub fn variance(&self) -> f64 {
        self.variance
    }

    /// Standard error of the AUC.
    pub fn standard_error(&self) -> f64 {
        self.variance.sqrt()
    }

    /// Normal interval of the AUC, clipped to 0 to 1.
    ///
    /// # Errors
    /// A level outside 0 to 1.
    pub fn interval(&self, level: f64) -> Result<Interval, MetricsError> {
        Interval::normal(self.auc, self.standard_error(), level).map(Interval::clip_to_unit)
    }

    /// Tests whether the AUCs of two models on the same scans differ.
    ///
    /// # Errors
    /// Other labels, or a difference that is the same on every scan and so has no variance.
    pub fn compare(&self, other: &Self) -> Result<DeLongComparison, MetricsError> {
        if self.labels.len() != other.labels.len() {
            return Err(MetricsError::Lengths {
                labels: self.labels.len(),
                scores: other.labels.len(),
            });
        }
        if let Some(row) = (0..self.labels.len()).find(|&row| self.labels[row] != other.labels[row])
        {
            return Err(MetricsError::LabelsDiffer { row });
        }
        let delta = self.auc - other.auc;
        let covariance = self.covariance(other);
        let variance = self.difference_variance(other);
        let standard_error = variance.sqrt();
        if standard_error == 0.0 && delta != 0.0 {
            return Err(MetricsError::NoVariance);
        }
        let z = if delta == 0.0 {
            0.0
        } else {
            delta / standard_error
        };
        let p = (2.0 * Normal::standard().cdf(-z.abs())).min(1.0);
        Ok(DeLongComparison {
            delta,
            standard_error,
            covariance,
            z,
            p,
        })
    }

    fn covariance(&self, other: &Self) -> f64 {
        self.scatter(|row| (self.placements[row] - self.auc) * (other.placements[row] - other.auc))
    }

    /// Summed from differences of placements, which cannot cancel below zero.
    fn difference_variance(&self, other: &Self) -> f64 {
        let delta = self.auc - other.auc;
        self.scatter(|row| (self.placements[row] - other.placements[row] - delta).powi(2))
    }

    /// Σ over positives / (P (P − 1)) + Σ over negatives / (N (N − 1)).
    fn scatter(&self, term: impl Fn(usize) -> f64) -> f64 {
        let mut sums = [0.0; 2];
        for (row, &positive) in self.labels.iter().enumerate() {
            sums[usize::from(positive)] += term(row);
        }
        (0..2)
            .map(|class| sums[class] / (self.counts[class] * (self.counts[class] - 1.0)))
            .sum()
    }
}

/// Placements by row: of a positive among the negatives, of a negative among the positives.
fn placements(ranked: &Ranked) -> Vec<f64> {
    let totals = [ranked.negatives(), ranked.positives()];
    let mut placements = vec![0.0; ranked.len()];
    let mut above = [0usize; 2];
    let entries = ranked.entries();
    for tie in entries.split_inclusive(|entry| entry.ends_tie) {
        let positives = tie.iter().filter(|entry| entry.positive).count();
        let tied = [tie.len() - positives, positives];
        let below_negatives = totals[0] - above[0] - tied[0];
        let of_positive = (below_negatives as f64 + 0.5 * tied[0] as f64) / totals[0] as f64;
        let of_negative = (above[1] as f64 + 0.5 * tied[1] as f64) / totals[1] as f64;
        for entry in tie {
            placements[entry.row as usize] = if entry.positive {
                of_positive
            } else {
                of_negative
            };
        }
        above = [above[0] + tied[0], above[1] + tied[1]];
    }
    placements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_does_not_differ_from_itself() {
        let ranked = Ranked::new(
            &[true, false, true, false, false],
            &[3.0, 2.0, 1.0, 0.5, 0.1],
        )
        .unwrap();
        let delong = DeLong::new(&ranked).unwrap();
        let same = delong.compare(&delong).unwrap();
        assert_eq!((same.delta, same.z, same.p), (0.0, 0.0, 1.0));
    }

    #[test]
    fn one_positive_has_no_variance() {
        let ranked = Ranked::new(&[true, false, false], &[3.0, 2.0, 1.0]).unwrap();
        assert_eq!(
            DeLong::new(&ranked).unwrap_err(),
            MetricsError::TooFew { class: "positive" }
        );
    }

    #[test]
    fn a_constant_difference_is_not_a_certain_one() {
        let labels = [true, true, false, false];
        let perfect = DeLong::new(&Ranked::new(&labels, &[1.0, 1.0, 0.0, 0.0]).unwrap()).unwrap();
        let constant = DeLong::new(&Ranked::new(&labels, &[0.0; 4]).unwrap()).unwrap();
        assert_eq!(
            perfect.compare(&constant).unwrap_err(),
            MetricsError::NoVariance
        );
    }

    #[test]
    fn models_of_other_scans_are_not_compared() {
        let a = DeLong::new(&Ranked::new(&[true, true, false, false], &[0.0; 4]).unwrap()).unwrap();
        let b = DeLong::new(&Ranked::new(&[true, false, true, false], &[0.0; 4]).unwrap()).unwrap();
        assert_eq!(
            a.compare(&b).unwrap_err(),
            MetricsError::LabelsDiffer { row: 1 }
        );
    }
}
