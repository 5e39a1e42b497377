//! Two-sided paired permutation test of two models on the same scans.

use rand::Rng;
use rayon::prelude::*;

use super::bootstrap::stream;
use super::ranked::Tally;
use super::{Areas, MetricsError, Ranked};

/// The scores of two models on the same rows, ranked together.
#[derive(Debug, Clone)]
pub struct PairedScores {
    entries: Vec<PairedEntry>,
    observed: Areas,
}

/// p-values of a permutation test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PermutationTest {
    /// Observed AUC of the first model minus that of the second.
    pub delta_roc_auc: f64,
    /// Observed average precision of the first minus that of the second.
    pub delta_average_precision: f64,
    /// p-value of the difference in AUC, at least 1 / (1 + permutations).
    pub p_roc_auc: f64,
    /// p-value of the difference in average precision.
    pub p_average_precision: f64,
}

#[derive(Debug, Clone, Copy)]
struct PairedEntry {
    row: u32,
    second: bool,
    positive: bool,
    ends_tie: bool,
}

impl PairedScores {
    /// Pairs two models. Their scores are exchanged as they are, so both must be on one scale
    /// (two probabilities, say).
    ///
    /// # Errors
    /// Other lengths or labels.
    pub fn new(first: &Ranked, second: &Ranked) -> Result<Self, MetricsError> {
        if first.len() != second.len() {
            return Err(MetricsError::Lengths {
                labels: first.len(),
                scores: second.len(),
            });
        }
        if let Some(row) = (0..first.len()).find(|&row| first.labels()[row] != second.labels()[row])
        {
            return Err(MetricsError::LabelsDiffer { row });
        }
        let score = |&(row, is_second): &(u32, bool)| {
            (if is_second { second } else { first }).scores()[row as usize]
        };
        let mut order: Vec<(u32, bool)> = (0..first.len() as u32)
            .flat_map(|row| [(row, false), (row, true)])
            .collect();
        order.sort_by(|a, b| score(b).total_cmp(&score(a)));
        let entries = order
            .iter()
            .enumerate()
            .map(|(rank, entry)| PairedEntry {
                row: entry.0,
                second: entry.1,
                positive: first.labels()[entry.0 as usize],
                ends_tie: order
                    .get(rank + 1)
                    .is_none_or(|next| score(next) != score(entry)),
            })
            .collect();
        let (a, b) = (first.areas(), second.areas());
        let observed = Areas {
            roc_auc: a.roc_auc - b.roc_auc,
            average_precision: a.average_precision - b.average_precision,
        };
        Ok(Self { entries, observed })
    }

    /// First minus second, with the scores of row `r` exchanged where `exchange(r)`.
    pub fn difference(&self, exchange: impl Fn(usize) -> bool) -> Areas {
        let mut models = [Tally::default(); 2];
        for entry in &self.entries {
            let model = usize::from(entry.second ^ exchange(entry.row as usize));
            models[model].add(entry.positive, 1);
            if entry.ends_tie {
                models[0].end_tie();
                models[1].end_tie();
            }
        }
        // Each model keeps one score per row, so both classes are present.
        let [first, second] = models.map(|model| {
            model.areas().unwrap_or(Areas {
                roc_auc: f64::NAN,
                average_precision: f64::NAN,
            })
        });
        Areas {
            roc_auc: first.roc_auc - second.roc_auc,
            average_precision: first.average_precision - second.average_precision,
        }
    }
}

/// Tests each task and the mean over tasks: the scores of a unit (a scan, or a patient) are
/// exchanged between the models with probability one half, in all tasks at once.
///
/// `tasks` pairs each task with the unit of each of its rows. p = (1 + number of permutations
/// with at least the observed absolute difference) / (1 + permutations). Returns the tests in the
/// order of the tasks and the test of their mean.
///
/// # Errors
/// No tasks.
pub fn permutation_test(
    tasks: &[(&PairedScores, &[u32])],
    permutations: usize,
    seed: u64,
) -> Result<(Vec<PermutationTest>, PermutationTest), MetricsError> {
    let largest = tasks.iter().flat_map(|(_, units)| units.iter()).max();
    let Some(&largest) = largest else {
        return Err(MetricsError::Empty);
    };
    let observed = with_mean(tasks.iter().map(|(paired, _)| paired.observed).collect());
    let exceeded = (0..permutations)
        .into_par_iter()
        .map_init(
            || vec![0u32; largest as usize / 32 + 1],
            |bits, permutation| {
                let mut random = stream(seed, permutation);
                bits.fill_with(|| random.next_u32());
                let exchange = |unit: u32| bits[unit as usize / 32] >> (unit % 32) & 1 == 1;
                let differences = tasks
                    .iter()
                    .map(|(paired, units)| paired.difference(|row| exchange(units[row])));
                with_mean(differences.collect())
                    .iter()
                    .zip(&observed)
                    .map(|(permuted, observed)| {
                        let reaches = |p: f64, o: f64| usize::from(p.abs() >= o.abs() - ROUNDING);
                        [
                            reaches(permuted.roc_auc, observed.roc_auc),
                            reaches(permuted.average_precision, observed.average_precision),
                        ]
                    })
                    .collect::<Vec<_>>()
            },
        )
        .reduce(
            || vec![[0; 2]; observed.len()],
            |a, b| {
                a.iter()
                    .zip(b)
                    .map(|(a, b)| [a[0] + b[0], a[1] + b[1]])
                    .collect()
            },
        );
    let p = |count: usize| (1 + count) as f64 / (1 + permutations) as f64;
    let mut tests: Vec<PermutationTest> = observed
        .iter()
        .zip(exceeded)
        .map(|(observed, [roc_auc, average_precision])| PermutationTest {
            delta_roc_auc: observed.roc_auc,
            delta_average_precision: observed.average_precision,
            p_roc_auc: p(roc_auc),
            p_average_precision: p(average_precision),
        })
        .collect();
    let mean = tests.pop().ok_or(MetricsError::Empty)?;
    Ok((tests, mean))
}

/// The differences of the tasks, then their mean.
fn with_mean(mut tasks: Vec<Areas>) -> Vec<Areas> {
    let count = tasks.len() as f64;
    tasks.push(Areas {
        roc_auc: tasks.iter().map(|areas| areas.roc_auc).sum::<f64>() / count,
        average_precision: tasks
            .iter()
            .map(|areas| areas.average_precision)
            .sum::<f64>()
            / count,
    });
    tasks
}

/// Differences that are equal as fractions may differ by rounding.
const ROUNDING: f64 = 1e-12;

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: [bool; 8] = [true, false, true, false, false, true, false, true];
    const FIRST: [f64; 8] = [0.9, 0.2, 0.8, 0.3, 0.1, 0.7, 0.4, 0.35];
    const SECOND: [f64; 8] = [0.5, 0.6, 0.4, 0.3, 0.2, 0.9, 0.7, 0.1];
    const UNITS: [u32; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

    fn paired(first: &[f64], second: &[f64]) -> PairedScores {
        let rank = |scores: &[f64]| Ranked::new(&LABELS, scores).unwrap();
        PairedScores::new(&rank(first), &rank(second)).unwrap()
    }

    #[test]
    fn exchanging_nothing_or_everything_gives_the_difference_or_its_negative() {
        let pair = paired(&FIRST, &SECOND);
        let (as_is, swapped) = (pair.difference(|_| false), pair.difference(|_| true));
        assert_eq!(as_is, pair.observed);
        assert_eq!(swapped.roc_auc, -as_is.roc_auc);
        assert_eq!(swapped.average_precision, -as_is.average_precision);
    }

    #[test]
    fn p_converges_to_the_exact_enumeration() {
        let pair = paired(&FIRST, &SECOND);
        let differences: Vec<Areas> = (0..256u32)
            .map(|bits| pair.difference(|row| bits >> row & 1 == 1))
            .collect();
        let exact = |value: fn(&Areas) -> f64| {
            let observed = value(&pair.observed).abs() - 1e-12;
            let reached = differences
                .iter()
                .filter(|areas| value(areas).abs() >= observed);
            reached.count() as f64 / 256.0
        };
        let (tests, mean) = permutation_test(&[(&pair, &UNITS)], 40_000, 4).unwrap();
        assert_eq!(tests, [mean]);
        // Four standard errors of a fraction of 40,000.
        assert!((tests[0].p_roc_auc - exact(|areas| areas.roc_auc)).abs() < 0.01);
        assert!(
            (tests[0].p_average_precision - exact(|areas| areas.average_precision)).abs() < 0.01
        );
    }

    #[test]
    fn p_is_never_zero_and_one_for_equal_models() {
        let labels: Vec<bool> = (0..200).map(|row| row % 2 == 0).collect();
        let scores = |sign: f64| -> Vec<f64> {
            (0..200)
                .map(|row| if row % 2 == 0 { sign } else { -sign } * 0.5)
                .collect()
        };
        let rank = |scores: &[f64]| Ranked::new(&labels, scores).unwrap();
        let units: Vec<u32> = (0..200).collect();
        let opposite = PairedScores::new(&rank(&scores(1.0)), &rank(&scores(-1.0))).unwrap();
        let (tests, _) = permutation_test(&[(&opposite, &units)], 999, 1).unwrap();
        assert_eq!(tests[0].p_roc_auc, 1.0 / 1000.0);
        let equal = PairedScores::new(&rank(&scores(1.0)), &rank(&scores(1.0))).unwrap();
        let (tests, _) = permutation_test(&[(&equal, &units)], 999, 1).unwrap();
        assert_eq!(
            (tests[0].p_roc_auc, tests[0].p_average_precision),
            (1.0, 1.0)
        );
    }

    #[test]
    fn scans_of_one_patient_are_exchanged_together() {
        let pair = paired(&FIRST, &SECOND);
        // One patient: only the two trivial permutations exist, both as extreme as observed.
        let (tests, _) = permutation_test(&[(&pair, &[0; 8])], 100, 1).unwrap();
        assert_eq!(tests[0].p_roc_auc, 1.0);
    }

    #[test]
    fn models_of_other_scans_are_not_compared() {
        let first = Ranked::new(&[true, false], &[0.0, 1.0]).unwrap();
        let second = Ranked::new(&[false, true], &[0.0, 1.0]).unwrap();
        assert!(PairedScores::new(&first, &second).is_err());
    }
}
