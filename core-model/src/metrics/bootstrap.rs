//! Bootstrap of both areas, by scan or by patient, for one task and for the mean of several.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::ranked::Clustered;
use super::{MetricsError, Ranked};

/// Draws a test set again from itself without ever losing a class.
///
/// The unit of drawing is a cluster of rows: one scan, or all scans of one patient, whose labels
/// and scores are alike and make an interval by scan too narrow. Clusters are drawn with
/// replacement within three strata: healthy rows only, diseased rows only, and both. A stratum
/// keeps its size, so each resample has both classes.
#[derive(Debug, Clone)]
pub struct Resampler {
    strata: Vec<Vec<u32>>,
    cluster_of: Vec<u32>,
    clusters: usize,
}

/// Both areas of each resample.
#[derive(Debug, Clone, PartialEq)]
pub struct AreaReplicates {
    /// ROC AUC.
    pub roc_auc: Vec<f64>,
    /// Average precision.
    pub average_precision: Vec<f64>,
}

impl Resampler {
    /// Each row is its own cluster: the bootstrap stratified by class, as published.
    pub fn by_row(labels: &[bool]) -> Self {
        let clusters: Vec<u32> = (0..labels.len() as u32).collect();
        Self::by_cluster(labels, &clusters)
    }

    /// Rows of equal cluster number are drawn together. Numbers need not be dense.
    pub fn by_cluster(labels: &[bool], clusters: &[u32]) -> Self {
        let count = clusters
            .iter()
            .max()
            .map_or(0, |largest| *largest as usize + 1);
        let mut classes = vec![0u8; count];
        for (&cluster, &positive) in clusters.iter().zip(labels) {
            classes[cluster as usize] |= if positive { 2 } else { 1 };
        }
        let stratum = |class: u8| -> Vec<u32> {
            (0..count as u32)
                .filter(|&cluster| classes[cluster as usize] == class)
                .collect()
        };
        let strata = [1, 2, 3]
            .map(stratum)
            .into_iter()
            .filter(|s| !s.is_empty())
            .collect();
        Self {
            strata,
            cluster_of: clusters.to_vec(),
            clusters: count,
        }
    }

    /// How often each cluster is drawn.
    fn draw(&self, random: &mut ChaCha8Rng, counts: &mut [u32]) {
        counts.fill(0);
        for stratum in &self.strata {
            let size = stratum.len() as u32;
            for _ in 0..size {
                counts[stratum[random.random_range(0..size) as usize] as usize] += 1;
            }
        }
    }
}

/// Both areas of `replicates` resamples of one task.
pub fn bootstrap(
    ranked: &Ranked,
    resampler: &Resampler,
    replicates: usize,
    seed: u64,
) -> AreaReplicates {
    let ranked = ranked.clustered(&resampler.cluster_of);
    let areas: Vec<_> = (0..replicates)
        .into_par_iter()
        .map_init(
            || vec![0u32; resampler.clusters],
            |counts, replicate| {
                resampler.draw(&mut stream(seed, replicate), counts);
                ranked.areas(counts).map_or((f64::NAN, f64::NAN), |areas| {
                    (areas.roc_auc, areas.average_precision)
                })
            },
        )
        .collect();
    areas.into_iter().collect()
}

/// Both areas, averaged over tasks, of `replicates` resamples drawn once for all tasks.
///
/// `tasks` pairs each task with the cluster of each of its rows; the same number is the same
/// cluster in every task, so that the tasks' dependence is kept. A resample in which some task
/// lost a class is drawn again. Two models on the same rows meet the same resamples under the
/// same seed.
///
/// # Errors
/// No tasks, or 10,000 resamples in a row that lost a class.
pub fn bootstrap_macro(
    tasks: &[(&Ranked, &[u32])],
    replicates: usize,
    seed: u64,
) -> Result<AreaReplicates, MetricsError> {
    let mut present: Vec<u32> = tasks
        .iter()
        .flat_map(|(_, clusters)| clusters.iter())
        .copied()
        .collect();
    present.sort_unstable();
    present.dedup();
    let Some(&last) = present.last() else {
        return Err(MetricsError::Empty);
    };
    let tasks: Vec<Clustered> = tasks
        .iter()
        .map(|(ranked, clusters)| ranked.clustered(clusters))
        .collect();
    (0..replicates)
        .into_par_iter()
        .map_init(
            || vec![0u32; last as usize + 1],
            |counts, replicate| {
                let mut random = stream(seed, replicate);
                (0..MAX_ATTEMPTS)
                    .find_map(|_| {
                        counts.fill(0);
                        for _ in 0..present.len() {
                            let drawn = random.random_range(0..present.len() as u32);
                            counts[present[drawn as usize] as usize] += 1;
                        }
                        mean_areas(&tasks, counts)
                    })
                    .ok_or(MetricsError::Degenerate {
                        attempts: MAX_ATTEMPTS,
                    })
            },
        )
        .collect()
}

fn mean_areas(tasks: &[Clustered], counts: &[u32]) -> Option<(f64, f64)> {
    let mut sums = (0.0, 0.0);
    for task in tasks {
        let areas = task.areas(counts)?;
        sums = (sums.0 + areas.roc_auc, sums.1 + areas.average_precision);
    }
    let count = tasks.len() as f64;
    Some((sums.0 / count, sums.1 / count))
}

impl FromIterator<(f64, f64)> for AreaReplicates {
    fn from_iter<I: IntoIterator<Item = (f64, f64)>>(areas: I) -> Self {
        let (roc_auc, average_precision) = areas.into_iter().unzip();
        Self {
            roc_auc,
            average_precision,
        }
    }
}

impl FromParallelIterator<(f64, f64)> for AreaReplicates {
    fn from_par_iter<I: IntoParallelIterator<Item = (f64, f64)>>(areas: I) -> Self {
        let (roc_auc, average_precision) = areas.into_par_iter().unzip();
        Self {
            roc_auc,
            average_precision,
        }
    }
}

/// The random numbers of one resample: the same on any number of threads.
pub(super) fn stream(seed: u64, replicate: usize) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(replicate as u64);
    random
}

const MAX_ATTEMPTS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> (Vec<bool>, Ranked) {
        let labels = vec![true, true, true, false, false, false, false];
        let scores = [0.9, 0.4, 0.6, 0.5, 0.3, 0.7, 0.2];
        let ranked = Ranked::new(&labels, &scores).unwrap();
        (labels, ranked)
    }

    #[test]
    fn no_resample_loses_a_class() {
        let labels = [true, false, false, false, false];
        let ranked = Ranked::new(&labels, &[0.5, 0.1, 0.6, 0.2, 0.9]).unwrap();
        for resampler in [
            Resampler::by_row(&labels),
            Resampler::by_cluster(&labels, &[0, 0, 1, 2, 2]),
        ] {
            let areas = bootstrap(&ranked, &resampler, 500, 1);
            assert!(areas.roc_auc.iter().all(|auc| auc.is_finite()));
        }
    }

    #[test]
    fn a_patient_comes_with_all_scans() {
        // Every patient has one scan of each class with the same scores, so no resample changes
        // the AUC; by scan it would.
        let labels = [true, false, true, false, true, false];
        let ranked = Ranked::new(&labels, &[0.9, 0.5, 0.9, 0.5, 0.9, 0.5]).unwrap();
        let by_patient = Resampler::by_cluster(&labels, &[7, 7, 2, 2, 3, 3]);
        assert!(
            bootstrap(&ranked, &by_patient, 50, 3)
                .roc_auc
                .iter()
                .all(|auc| *auc == 1.0)
        );
    }

    #[test]
    fn quantiles_converge_to_the_exact_enumeration() {
        let (labels, ranked) = small();
        let mut exact = Vec::new();
        for positives in 0..27usize {
            for negatives in 0..256usize {
                let mut counts = [0u32; 7];
                for place in 0..3 {
                    counts[positives / 3usize.pow(place) % 3] += 1;
                }
                for place in 0..4 {
                    counts[3 + negatives / 4usize.pow(place) % 4] += 1;
                }
                exact.push(ranked.weighted_areas(|row| counts[row]).unwrap().roc_auc);
            }
        }
        let drawn = bootstrap(&ranked, &Resampler::by_row(&labels), 40_000, 5).roc_auc;
        for threshold in [0.2, 0.4, 0.6, 0.75, 0.9] {
            let fraction = |areas: &[f64]| {
                areas.iter().filter(|auc| **auc <= threshold).count() as f64 / areas.len() as f64
            };
            let (expected, found) = (fraction(&exact), fraction(&drawn));
            // Four standard errors of a fraction of 40,000.
            assert!(
                (expected - found).abs() < 4.0 * 0.5 / 200.0,
                "{threshold}: {found}"
            );
        }
    }

    #[test]
    fn the_result_does_not_depend_on_the_number_of_threads() {
        let (labels, ranked) = small();
        let resampler = Resampler::by_row(&labels);
        let one = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        let three = rayon::ThreadPoolBuilder::new()
            .num_threads(3)
            .build()
            .unwrap();
        let alone = one.install(|| bootstrap(&ranked, &resampler, 100, 9));
        assert_eq!(
            alone,
            three.install(|| bootstrap(&ranked, &resampler, 100, 9))
        );
        assert_ne!(alone, bootstrap(&ranked, &resampler, 100, 10));
    }

    #[test]
    fn the_mean_of_one_task_resamples_that_task() {
        let (labels, ranked) = small();
        let clusters: Vec<u32> = (0..labels.len() as u32).collect();
        let both = bootstrap_macro(&[(&ranked, &clusters), (&ranked, &clusters)], 200, 2).unwrap();
        let one = bootstrap_macro(&[(&ranked, &clusters)], 200, 2).unwrap();
        assert_eq!(both, one);
    }

    #[test]
    fn rare_tasks_are_redrawn_and_no_tasks_are_refused() {
        let labels = [true, false, false, false];
        let ranked = Ranked::new(&labels, &[0.9, 0.1, 0.2, 0.3]).unwrap();
        let areas = bootstrap_macro(&[(&ranked, &[0, 1, 2, 3])], 100, 2).unwrap();
        assert!(areas.roc_auc.iter().all(|auc| *auc == 1.0));
        assert_eq!(bootstrap_macro(&[], 1, 0).unwrap_err(), MetricsError::Empty);
    }
}
