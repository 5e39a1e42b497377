//! Whether a score of 0.3 means three in ten.

use super::MetricsError;
use super::ranked::check_scores;

/// One bin of the calibration curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CalibrationBin {
    /// Rows in the bin, at least 1.
    pub count: usize,
    /// Diseased rows in the bin.
    pub positives: usize,
    /// Mean predicted probability.
    pub mean_score: f64,
}

impl CalibrationBin {
    /// Observed fraction of diseased rows.
    pub fn observed(&self) -> f64 {
        self.positives as f64 / self.count as f64
    }
}

/// Mean squared distance of probability and label. Source: Brier 1950, one class.
///
/// # Errors
/// No rows, unequal lengths, or a score that is not a probability.
pub fn brier_score(labels: &[bool], probabilities: &[f64]) -> Result<f64, MetricsError> {
    check_probabilities(labels, probabilities)?;
    let squares = labels
        .iter()
        .zip(probabilities)
        .map(|(l, p)| (f64::from(*l) - p).powi(2));
    Ok(squares.sum::<f64>() / labels.len() as f64)
}

/// Bins of equal width over 0 to 1; empty bins are left out.
///
/// # Errors
/// No rows, no bins, unequal lengths, or a score that is not a probability.
pub fn calibration_curve(
    labels: &[bool],
    probabilities: &[f64],
    bins: usize,
) -> Result<Vec<CalibrationBin>, MetricsError> {
    check_probabilities(labels, probabilities)?;
    if bins == 0 {
        let expected = "at least 1";
        return Err(MetricsError::Parameter {
            name: "bins",
            found: 0.0,
            expected,
        });
    }
    let mut sums = vec![(0usize, 0usize, 0.0); bins];
    for (&label, &probability) in labels.iter().zip(probabilities) {
        let bin = &mut sums[((probability * bins as f64) as usize).min(bins - 1)];
        *bin = (bin.0 + 1, bin.1 + usize::from(label), bin.2 + probability);
    }
    Ok(sums
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, positives, sum)| CalibrationBin {
            count,
            positives,
            mean_score: sum / count as f64,
        })
        .collect())
}

/// Mean distance of predicted probability and observed fraction over bins, weighted by count.
/// Source: Naeini et al. 2015.
pub fn expected_calibration_error(curve: &[CalibrationBin]) -> f64 {
    let count: usize = curve.iter().map(|bin| bin.count).sum();
    let gap = |bin: &CalibrationBin| bin.count as f64 * (bin.mean_score - bin.observed()).abs();
    curve.iter().map(gap).sum::<f64>() / count as f64
}

fn check_probabilities(labels: &[bool], probabilities: &[f64]) -> Result<(), MetricsError> {
    check_scores(labels, probabilities)?;
    match probabilities.iter().position(|p| !(0.0..=1.0).contains(p)) {
        Some(row) => Err(MetricsError::NotProbability {
            row,
            found: probabilities[row],
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coin_that_says_one_half_is_calibrated_but_not_sharp() {
        let labels = [true, false, true, false];
        let probabilities = [0.5; 4];
        assert_eq!(brier_score(&labels, &probabilities).unwrap(), 0.25);
        let curve = calibration_curve(&labels, &probabilities, 10).unwrap();
        assert_eq!(
            curve,
            [CalibrationBin {
                count: 4,
                positives: 2,
                mean_score: 0.5
            }]
        );
        assert_eq!(expected_calibration_error(&curve), 0.0);
    }

    #[test]
    fn overconfidence_shows_as_error() {
        let labels = [true, false, false, false];
        let curve = calibration_curve(&labels, &[1.0, 1.0, 0.0, 0.0], 10).unwrap();
        assert_eq!(curve.len(), 2);
        assert_eq!(expected_calibration_error(&curve), 0.25);
    }

    #[test]
    fn a_logit_is_not_a_probability() {
        assert_eq!(
            brier_score(&[true, false], &[0.5, 1.5]).unwrap_err(),
            MetricsError::NotProbability { row: 1, found: 1.5 }
        );
        assert!(calibration_curve(&[true], &[0.5], 0).is_err());
    }
}
