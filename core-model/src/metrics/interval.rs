//! Intervals, and p-values of several tests at once.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Beta, ContinuousCDF, Normal, StudentsT};

use super::MetricsError;

/// A two-sided confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// `center` ± the normal quantile × `standard_error`.
    ///
    /// # Errors
    /// A level outside 0 to 1.
    pub fn normal(center: f64, standard_error: f64, level: f64) -> Result<Self, MetricsError> {
        let half = Normal::standard().inverse_cdf(upper_tail(level)?) * standard_error;
        Ok(Self {
            low: center - half,
            high: center + half,
        })
    }

    /// The part inside 0 to 1.
    pub fn clip_to_unit(self) -> Self {
        Self {
            low: self.low.clamp(0.0, 1.0),
            high: self.high.clamp(0.0, 1.0),
        }
    }

    /// Whether `value` lies inside, ends included.
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// Percentile interval of replicates; quantiles interpolate linearly between order statistics.
///
/// # Errors
/// No replicates, or a level outside 0 to 1.
pub fn percentile_interval(replicates: &[f64], level: f64) -> Result<Interval, MetricsError> {
    let high = upper_tail(level)?;
    if replicates.is_empty() {
        return Err(MetricsError::Empty);
    }
    let mut sorted = replicates.to_vec();
    sorted.sort_by(f64::total_cmp);
    Ok(Interval {
        low: quantile(&sorted, 1.0 - high),
        high: quantile(&sorted, high),
    })
}

/// Mean and Student's t interval of a few repeats, such as five few-shot draws (paper, "Few-shots
/// classification evaluation"). With one repeat the interval is the mean alone.
///
/// # Errors
/// No values, or a level outside 0 to 1.
pub fn mean_interval(values: &[f64], level: f64) -> Result<(f64, Interval), MetricsError> {
    let high = upper_tail(level)?;
    if values.is_empty() {
        return Err(MetricsError::Empty);
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    if values.len() == 1 || squares == 0.0 {
        return Ok((
            mean,
            Interval {
                low: mean,
                high: mean,
            },
        ));
    }
    let student = StudentsT::new(0.0, 1.0, count - 1.0).map_err(|_| MetricsError::Empty)?;
    let half = student.inverse_cdf(high) * (squares / (count - 1.0) / count).sqrt();
    Ok((
        mean,
        Interval {
            low: mean - half,
            high: mean + half,
        },
    ))
}

/// Exact interval of a proportion. Source: Clopper and Pearson 1934.
///
/// # Errors
/// No trials, or a level outside 0 to 1.
pub fn clopper_pearson(
    successes: usize,
    trials: usize,
    level: f64,
) -> Result<Interval, MetricsError> {
    let high = upper_tail(level)?;
    if trials == 0 {
        return Err(MetricsError::Empty);
    }
    if successes > trials {
        return Err(MetricsError::Parameter {
            name: "successes",
            found: successes as f64,
            expected: "at most the number of trials",
        });
    }
    let beta = |a: usize, b: usize, p: f64| {
        Beta::new(a as f64, b as f64)
            .map(|beta| beta.inverse_cdf(p))
            .unwrap_or(f64::NAN)
    };
    let failures = trials - successes;
    Ok(Interval {
        low: if successes == 0 {
            0.0
        } else {
            beta(successes, failures + 1, 1.0 - high)
        },
        high: if failures == 0 {
            1.0
        } else {
            beta(successes + 1, failures, high)
        },
    })
}

/// p-values adjusted so that the chance of any false finding among them stays below the level.
/// Source: Holm 1979. The order is kept.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest: f64 = 0.0;
    for (rank, &test) in order.iter().enumerate() {
        largest = largest
            .max(p_values[test] * (p_values.len() - rank) as f64)
            .min(1.0);
        adjusted[test] = largest;
    }
    adjusted
}

fn upper_tail(level: f64) -> Result<f64, MetricsError> {
    if level > 0.0 && level < 1.0 {
        Ok(0.5 + level / 2.0)
    } else {
        Err(MetricsError::Parameter {
            name: "level",
            found: level,
            expected: "between 0 and 1",
        })
    }
}

fn quantile(sorted: &[f64], p: f64) -> f64 {
    let position = p * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate_like_numpy() {
        let replicates: Vec<f64> = (0..=10).rev().map(f64::from).collect();
        let interval = percentile_interval(&replicates, 0.95).unwrap();
        assert!((interval.low - 0.25).abs() < 1e-12 && (interval.high - 9.75).abs() < 1e-12);
    }

    #[test]
    fn clopper_pearson_agrees_with_published_values() {
        // scipy.stats.beta.ppf(0.025, 81, 183) and beta.ppf(0.975, 82, 182).
        let interval = clopper_pearson(81, 263, 0.95).unwrap();
        assert!(
            (interval.low - 0.252_736_745_585).abs() < 1e-9,
            "{interval:?}"
        );
        assert!(
            (interval.high - 0.367_621_922_601).abs() < 1e-9,
            "{interval:?}"
        );
        // No success in n trials: the upper end solves (1 − p)^n = 0.025.
        let none = clopper_pearson(0, 20, 0.95).unwrap();
        assert_eq!(none.low, 0.0);
        assert!((none.high - (1.0 - 0.025f64.powf(1.0 / 20.0))).abs() < 1e-9);
    }

    #[test]
    fn five_repeats_use_four_degrees_of_freedom() {
        let (mean, interval) = mean_interval(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.95).unwrap();
        assert_eq!(mean, 3.0);
        // t(0.975, 4) = 2.776445, standard error sqrt(2.5 / 5).
        assert!((interval.high - (3.0 + 2.776445 * 0.5f64.sqrt())).abs() < 1e-5);
    }

    #[test]
    fn holm_multiplies_the_smallest_by_the_count_and_keeps_the_order() {
        let adjusted = holm(&[0.04, 0.01, 0.03, 0.5]);
        for (found, expected) in adjusted.iter().zip([0.09, 0.04, 0.09, 0.5]) {
            assert!((found - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn a_level_is_a_probability() {
        assert!(percentile_interval(&[1.0], 95.0).is_err());
        assert!(Interval::normal(0.0, 1.0, 0.0).is_err());
    }
}
