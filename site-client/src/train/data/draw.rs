//! Which labelled scans an epoch sees: balanced draws, few-shot subsets.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::stream;
use crate::train::TrainError;

/// The scans of one task and part, by class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    /// Index of each negative scan.
    pub negative: Vec<usize>,
    /// Index of each positive scan.
    pub positive: Vec<usize>,
}

impl Classes {
    /// Sorts labelled scans by class; scans without a label are left out.
    ///
    /// # Errors
    ///
    /// A class has no scan: nothing can be trained or measured.
    pub fn new(
        task: &str,
        part: &str,
        labels: impl IntoIterator<Item = (usize, Option<bool>)>,
    ) -> Result<Self, TrainError> {
        let (mut negative, mut positive) = (Vec::new(), Vec::new());
        for (scan, label) in labels {
            match label {
                Some(true) => positive.push(scan),
                Some(false) => negative.push(scan),
                None => {}
            }
        }
        if negative.is_empty() || positive.is_empty() {
            return Err(TrainError::data(format!(
                "task {task}: the {part} part has {} positive and {} negative scans, expected at \
                 least one of each",
                positive.len(),
                negative.len()
            )));
        }
        Ok(Self { negative, positive })
    }

    /// The scans of one epoch: `draws` draws with replacement, either class equally likely.
    ///
    /// Source: Methods, "balanced subset from the training set per epoch"; the released sampler
    /// weights scans by the inverse of their class's frequency, which is the same distribution.
    #[must_use]
    pub fn balanced(&self, seed: u64, epoch: u64, draws: usize) -> Vec<usize> {
        let mut rng = ChaCha8Rng::seed_from_u64(stream(seed, "balanced draw", &[epoch]));
        let draw = |_| {
            let class = if rng.random() {
                &self.positive
            } else {
                &self.negative
            };
            class[rng.random_range(0..class.len())]
        };
        (0..draws).map(draw).collect()
    }

    /// `k` scans of each class, for repeat `repeat` of a few-shot study.
    ///
    /// Each scan is drawn once where the class holds `k` scans; a smaller class is drawn from with
    /// replacement, as the released code does for every class. Returns whether that happened.
    #[must_use]
    pub fn few(&self, seed: u64, repeat: u64, k: usize) -> (Self, bool) {
        let seed = stream(seed, "few shots", &[repeat, k as u64]);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = |class: &[usize]| -> Vec<usize> {
            if class.len() >= k {
                let mut shuffled = class.to_vec();
                shuffled.partial_shuffle(&mut rng, k).0.to_vec()
            } else {
                (0..k)
                    .map(|_| class[rng.random_range(0..class.len())])
                    .collect()
            }
        };
        let few = Self {
            negative: draw(&self.negative),
            positive: draw(&self.positive),
        };
        (few, self.negative.len().min(self.positive.len()) < k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> Classes {
        let labels = (0..100).map(|scan| (scan, (scan % 3 != 0).then_some(scan % 10 == 1)));
        Classes::new("SDH", "train", labels).unwrap()
    }

    #[test]
    fn draws_are_balanced_whatever_the_prevalence_and_never_touch_an_unlabelled_scan() {
        let classes = classes();
        let draws = classes.balanced(1, 0, 4000);
        let positives = draws.iter().filter(|scan| **scan % 10 == 1).count();
        assert!((1850..2150).contains(&positives), "{positives} of 4000");
        assert!(draws.iter().all(|scan| scan % 3 != 0));
        assert_eq!(draws, classes.balanced(1, 0, 4000));
        assert_ne!(draws, classes.balanced(1, 1, 4000));
    }

    #[test]
    fn few_shots_repeat_a_scan_only_when_its_class_is_too_small() {
        let classes = classes();
        let (few, replaced) = classes.few(1, 0, 5);
        assert!(!replaced);
        let mut unique = few.positive.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), 5);
        let (many, replaced) = classes.few(1, 0, 20);
        assert!(
            replaced,
            "there are but {} positives",
            classes.positive.len()
        );
        assert_eq!((many.positive.len(), many.negative.len()), (20, 20));
        assert_ne!(few, classes.few(1, 1, 5).0);
    }

    #[test]
    fn a_part_with_one_class_is_refused_with_task_part_and_counts() {
        let error = Classes::new("EDH", "validation", [(0, Some(false)), (1, None)]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("EDH") && text.contains("validation part has 0 positive"),
            "{text}"
        );
    }
}
