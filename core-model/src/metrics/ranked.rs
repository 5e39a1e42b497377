//! A scored test set in order of score, and the areas and curves read from it.

use super::MetricsError;

/// Labels and scores of one task, ranked from the highest score to the lowest.
///
/// Rows keep their numbers: weights and placements are indexed by the row the caller gave.
#[derive(Debug, Clone)]
pub struct Ranked {
    entries: Vec<Entry>,
    scores: Vec<f64>,
    labels: Vec<bool>,
    positives: usize,
}

/// Areas under both curves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Areas {
    /// Area under the ROC curve; a tie counts one half.
    pub roc_auc: f64,
    /// Average precision: Σ (recall step) × precision, the step-wise area without interpolation.
    pub average_precision: f64,
}

/// One corner of the ROC curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RocPoint {
    /// 1 − specificity.
    pub false_positive_rate: f64,
    /// Sensitivity.
    pub true_positive_rate: f64,
    /// Scans with at least this score are called positive.
    pub threshold: f64,
}

/// One corner of the precision–recall curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrPoint {
    /// Sensitivity.
    pub recall: f64,
    /// Positive predictive value in this test set.
    pub precision: f64,
    /// Scans with at least this score are called positive.
    pub threshold: f64,
}

/// One row at its rank.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) row: u32,
    pub(super) positive: bool,
    /// The next row has a lower score.
    pub(super) ends_tie: bool,
}

impl Ranked {
    /// Ranks a test set.
    ///
    /// # Errors
    /// No rows, unequal lengths, a score that is not finite, or one class only.
    pub fn new(labels: &[bool], scores: &[f64]) -> Result<Self, MetricsError> {
        check_scores(labels, scores)?;
        let positives = labels.iter().filter(|positive| **positive).count();
        let missing = match (positives, labels.len() - positives) {
            (0, _) => Some("positive"),
            (_, 0) => Some("negative"),
            _ => None,
        };
        if let Some(missing) = missing {
            return Err(MetricsError::OneClass {
                missing,
                rows: labels.len(),
            });
        }
        let mut order: Vec<u32> = (0..labels.len() as u32).collect();
        order.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]));
        let entries = order
            .iter()
            .enumerate()
            .map(|(rank, &row)| Entry {
                row,
                positive: labels[row as usize],
                ends_tie: order
                    .get(rank + 1)
                    .is_none_or(|&next| scores[next as usize] != scores[row as usize]),
            })
            .collect();
        Ok(Self {
            entries,
            scores: scores.to_vec(),
            labels: labels.to_vec(),
            positives,
        })
    }

    /// Number of rows.
    #[expect(clippy::len_without_is_empty, reason = "a ranked set has both classes")]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Number of diseased rows, at least 1.
    pub fn positives(&self) -> usize {
        self.positives
    }

    /// Number of healthy rows, at least 1.
    pub fn negatives(&self) -> usize {
        self.len() - self.positives
    }

    /// Labels by row.
    pub fn labels(&self) -> &[bool] {
        &self.labels
    }

    /// Scores by row.
    pub fn scores(&self) -> &[f64] {
        &self.scores
    }

    /// Areas of the set as it is.
    pub fn areas(&self) -> Areas {
        self.tally(|_| 1).areas().unwrap_or(Areas {
            roc_auc: f64::NAN,
            average_precision: f64::NAN,
        })
    }

    /// Areas when row `r` counts `weight(r)` times; none when one class weighs nothing.
    pub fn weighted_areas(&self, weight: impl Fn(usize) -> u32) -> Option<Areas> {
        self.tally(weight).areas()
    }

    /// Corners of the ROC curve from (0, 0) to (1, 1), one per distinct score.
    pub fn roc_curve(&self) -> Vec<RocPoint> {
        let (positives, negatives) = (self.positives as f64, self.negatives() as f64);
        let mut curve = vec![RocPoint {
            false_positive_rate: 0.0,
            true_positive_rate: 0.0,
            threshold: f64::INFINITY,
        }];
        curve.extend(self.corners().map(|(hits, alarms, threshold)| RocPoint {
            false_positive_rate: alarms as f64 / negatives,
            true_positive_rate: hits as f64 / positives,
            threshold,
        }));
        curve
    }

    /// Corners of the precision–recall curve in rising recall, one per distinct score.
    pub fn pr_curve(&self) -> Vec<PrPoint> {
        self.corners()
            .map(|(hits, alarms, threshold)| PrPoint {
                recall: hits as f64 / self.positives as f64,
                precision: hits as f64 / (hits + alarms) as f64,
                threshold,
            })
            .collect()
    }

    /// Cumulative true and false positives at each distinct score, from the highest.
    pub(super) fn corners(&self) -> impl Iterator<Item = (usize, usize, f64)> {
        self.entries
            .iter()
            .scan((0, 0), |(hits, alarms), entry| {
                *(if entry.positive {
                    &mut *hits
                } else {
                    &mut *alarms
                }) += 1;
                Some((*hits, *alarms, entry))
            })
            .filter(|(_, _, entry)| entry.ends_tie)
            .map(|(hits, alarms, entry)| (hits, alarms, self.scores[entry.row as usize]))
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The set with each row's cluster in place of its number, for areas of many resamples.
    pub(super) fn clustered(&self, clusters: &[u32]) -> Clustered {
        let entry = |entry: &Entry| {
            let cluster = clusters[entry.row as usize];
            cluster << 2 | u32::from(entry.positive) << 1 | u32::from(entry.ends_tie)
        };
        Clustered(self.entries.iter().map(entry).collect())
    }

    fn tally(&self, weight: impl Fn(usize) -> u32) -> Tally {
        let mut tally = Tally::default();
        for entry in &self.entries {
            tally.add(entry.positive, weight(entry.row as usize));
            if entry.ends_tie {
                tally.end_tie();
            }
        }
        tally
    }
}

/// Entries in four bytes each: a resample reads them all, so what counts is how many a cache holds.
#[derive(Debug, Clone)]
pub(super) struct Clustered(Vec<u32>);

impl Clustered {
    /// Areas when cluster `c` counts `counts[c]` times; none when one class weighs nothing.
    pub(super) fn areas(&self, counts: &[u32]) -> Option<Areas> {
        let mut tally = Tally::default();
        for entry in &self.0 {
            tally.add(entry & 2 != 0, counts[(entry >> 2) as usize]);
            if entry & 1 != 0 {
                tally.end_tie();
            }
        }
        tally.areas()
    }
}

/// Running counts of one pass from the highest score to the lowest.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    tied: [u64; 2],
    above: [u64; 2],
    /// Twice the number of (positive, negative) pairs in the right order; a tie counts one.
    twice_wins: u64,
    precision_sum: f64,
}

impl Tally {
    #[inline]
    pub(super) fn add(&mut self, positive: bool, weight: u32) {
        self.tied[usize::from(positive)] += u64::from(weight);
    }

    #[inline]
    pub(super) fn end_tie(&mut self) {
        let [negatives, positives] = self.tied;
        self.twice_wins += negatives * (2 * self.above[1] + positives);
        self.above[0] += negatives;
        self.above[1] += positives;
        if positives > 0 {
            let precision = self.above[1] as f64 / (self.above[0] + self.above[1]) as f64;
            self.precision_sum += positives as f64 * precision;
        }
        self.tied = [0, 0];
    }

    pub(super) fn areas(&self) -> Option<Areas> {
        let [negatives, positives] = self.above;
        (negatives > 0 && positives > 0).then(|| Areas {
            roc_auc: self.twice_wins as f64 / (2.0 * negatives as f64 * positives as f64),
            average_precision: self.precision_sum / positives as f64,
        })
    }
}

pub(super) fn check_scores(labels: &[bool], scores: &[f64]) -> Result<(), MetricsError> {
    if labels.len() != scores.len() {
        return Err(MetricsError::Lengths {
            labels: labels.len(),
            scores: scores.len(),
        });
    }
    if labels.is_empty() {
        return Err(MetricsError::Empty);
    }
    match scores.iter().position(|score| !score.is_finite()) {
        Some(row) => Err(MetricsError::NotFinite {
            row,
            found: scores[row],
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tie_counts_one_half() {
        let ranked = Ranked::new(&[true, false], &[0.5, 0.5]).unwrap();
        assert_eq!(
            ranked.areas(),
            Areas {
                roc_auc: 0.5,
                average_precision: 0.5
            }
        );
    }

    #[test]
    fn zeros_of_both_signs_tie() {
        let ranked = Ranked::new(&[true, false], &[-0.0, 0.0]).unwrap();
        assert_eq!(ranked.areas().roc_auc, 0.5);
    }

    #[test]
    fn a_perfect_model_has_both_areas_one_and_a_reversed_one_has_none() {
        let labels = [false, false, true, true];
        let perfect = Ranked::new(&labels, &[0.1, 0.2, 0.3, 0.4]).unwrap().areas();
        assert_eq!(
            perfect,
            Areas {
                roc_auc: 1.0,
                average_precision: 1.0
            }
        );
        let reversed = Ranked::new(&labels, &[0.4, 0.3, 0.2, 0.1]).unwrap().areas();
        assert_eq!(reversed.roc_auc, 0.0);
    }

    #[test]
    fn a_weight_is_a_repeated_row() {
        let labels = [true, false, true, false, false];
        let scores = [0.9, 0.8, 0.4, 0.4, 0.1];
        let weights = [2, 0, 1, 3, 1];
        let weighted = Ranked::new(&labels, &scores)
            .unwrap()
            .weighted_areas(|row| weights[row])
            .unwrap();
        let repeated: Vec<usize> = (0..5)
            .flat_map(|row| std::iter::repeat_n(row, weights[row] as usize))
            .collect();
        let labels: Vec<bool> = repeated.iter().map(|&row| labels[row]).collect();
        let scores: Vec<f64> = repeated.iter().map(|&row| scores[row]).collect();
        assert_eq!(weighted, Ranked::new(&labels, &scores).unwrap().areas());
    }

    #[test]
    fn the_curve_has_the_area_it_says() {
        let labels = [true, false, true, false, true, false, false];
        let scores = [0.9, 0.9, 0.7, 0.5, 0.5, 0.5, 0.1];
        let ranked = Ranked::new(&labels, &scores).unwrap();
        let curve = ranked.roc_curve();
        let area: f64 = curve
            .windows(2)
            .map(|pair| {
                (pair[1].false_positive_rate - pair[0].false_positive_rate)
                    * (pair[1].true_positive_rate + pair[0].true_positive_rate)
                    / 2.0
            })
            .sum();
        assert!((area - ranked.areas().roc_auc).abs() < 1e-15);
        assert_eq!(curve.last().unwrap().true_positive_rate, 1.0);
        assert_eq!(curve.last().unwrap().false_positive_rate, 1.0);
    }

    #[test]
    fn bad_input_is_named() {
        assert_eq!(Ranked::new(&[], &[]).unwrap_err(), MetricsError::Empty);
        assert_eq!(
            Ranked::new(&[true], &[]).unwrap_err(),
            MetricsError::Lengths {
                labels: 1,
                scores: 0
            }
        );
        assert_eq!(
            Ranked::new(&[true; 3], &[0.0; 3]).unwrap_err(),
            MetricsError::OneClass {
                missing: "negative",
                rows: 3
            }
        );
        assert!(matches!(
            Ranked::new(&[true, false], &[0.0, f64::NAN]).unwrap_err(),
            MetricsError::NotFinite { row: 1, .. }
        ));
    }
}
