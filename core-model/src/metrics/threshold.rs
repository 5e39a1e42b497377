//! Decisions at a threshold: chosen on validation data, counted on test data.

use super::ranked::check_scores;
use super::{Interval, MetricsError, Ranked, clopper_pearson};

/// Decisions of one threshold against the labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confusion {
    /// Diseased and called so.
    pub true_positives: usize,
    /// Healthy and called diseased.
    pub false_positives: usize,
    /// Healthy and called so.
    pub true_negatives: usize,
    /// Diseased and missed.
    pub false_negatives: usize,
}

impl Confusion {
    /// Calls each row with at least `threshold` positive.
    ///
    /// # Errors
    /// No rows, unequal lengths or a score that is not finite.
    pub fn at(labels: &[bool], scores: &[f64], threshold: f64) -> Result<Self, MetricsError> {
        check_scores(labels, scores)?;
        let count = |label: bool, call: bool| {
            let rows = labels.iter().zip(scores);
            rows.filter(|(l, s)| **l == label && (**s >= threshold) == call)
                .count()
        };
        Ok(Self {
            true_positives: count(true, true),
            false_positives: count(false, true),
            true_negatives: count(false, false),
            false_negatives: count(true, false),
        })
    }

    /// Fraction of diseased rows that are found; none without diseased rows.
    pub fn sensitivity(&self) -> Option<f64> {
        ratio(self.true_positives, self.false_negatives)
    }

    /// Fraction of healthy rows that are called healthy.
    pub fn specificity(&self) -> Option<f64> {
        ratio(self.true_negatives, self.false_positives)
    }

    /// Fraction of positive calls that are right, at this test set's prevalence.
    pub fn positive_predictive_value(&self) -> Option<f64> {
        ratio(self.true_positives, self.false_positives)
    }

    /// Fraction of negative calls that are right, at this test set's prevalence.
    pub fn negative_predictive_value(&self) -> Option<f64> {
        ratio(self.true_negatives, self.false_negatives)
    }

    /// Clopper–Pearson interval of the sensitivity.
    ///
    /// # Errors
    /// No diseased rows, or a level outside 0 to 1.
    pub fn sensitivity_interval(&self, level: f64) -> Result<Interval, MetricsError> {
        clopper_pearson(
            self.true_positives,
            self.true_positives + self.false_negatives,
            level,
        )
    }

    /// Clopper–Pearson interval of the specificity.
    ///
    /// # Errors
    /// No healthy rows, or a level outside 0 to 1.
    pub fn specificity_interval(&self, level: f64) -> Result<Interval, MetricsError> {
        clopper_pearson(
            self.true_negatives,
            self.true_negatives + self.false_positives,
            level,
        )
    }
}

/// The threshold with the largest sensitivity + specificity on validation data (Youden 1950); of
/// several, the highest.
pub fn youden_threshold(validation: &Ranked) -> f64 {
    let (positives, negatives) = (validation.positives() as i64, validation.negatives() as i64);
    let mut best = (i64::MIN, f64::INFINITY);
    for (hits, alarms, threshold) in validation.corners() {
        // Sensitivity + specificity − 1, times both counts: exact, so that ties are ties.
        let youden = hits as i64 * negatives - alarms as i64 * positives;
        if youden > best.0 {
            best = (youden, threshold);
        }
    }
    best.1
}

/// The highest threshold that finds at least this fraction of the diseased on validation data.
///
/// # Errors
/// A target outside 0 to 1.
pub fn sensitivity_threshold(validation: &Ranked, target: f64) -> Result<f64, MetricsError> {
    if !(0.0..=1.0).contains(&target) {
        let expected = "between 0 and 1";
        return Err(MetricsError::Parameter {
            name: "sensitivity",
            found: target,
            expected,
        });
    }
    let positives = validation.positives() as f64;
    let reached = validation
        .corners()
        .find(|(hits, ..)| *hits as f64 / positives >= target);
    // The last corner finds all, so there is one.
    Ok(reached.map_or(f64::NEG_INFINITY, |(.., threshold)| threshold))
}

fn ratio(part: usize, rest: usize) -> Option<f64> {
    (part + rest > 0).then(|| part as f64 / (part + rest) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: [bool; 6] = [true, true, true, false, false, false];
    const SCORES: [f64; 6] = [0.9, 0.8, 0.3, 0.5, 0.2, 0.1];

    #[test]
    fn four_counts_give_four_rates() {
        let confusion = Confusion::at(&LABELS, &SCORES, 0.5).unwrap();
        assert_eq!(confusion.sensitivity(), Some(2.0 / 3.0));
        assert_eq!(confusion.specificity(), Some(2.0 / 3.0));
        assert_eq!(confusion.positive_predictive_value(), Some(2.0 / 3.0));
        assert_eq!(confusion.negative_predictive_value(), Some(2.0 / 3.0));
    }

    #[test]
    fn nothing_called_positive_has_no_predictive_value() {
        let confusion = Confusion::at(&LABELS, &SCORES, 1.0).unwrap();
        assert_eq!(confusion.positive_predictive_value(), None);
        assert_eq!(confusion.specificity(), Some(1.0));
    }

    #[test]
    fn youden_takes_the_best_corner() {
        let validation = Ranked::new(&LABELS, &SCORES).unwrap();
        // 0.8 finds 2 of 3 with no alarm; 0.3 finds 3 of 3 with one alarm: equal, the higher wins.
        assert_eq!(youden_threshold(&validation), 0.8);
    }

    #[test]
    fn a_sensitivity_target_is_reached_on_validation_data() {
        let validation = Ranked::new(&LABELS, &SCORES).unwrap();
        assert_eq!(sensitivity_threshold(&validation, 0.95).unwrap(), 0.3);
        assert_eq!(sensitivity_threshold(&validation, 0.5).unwrap(), 0.8);
        assert!(sensitivity_threshold(&validation, 1.5).is_err());
    }
}
