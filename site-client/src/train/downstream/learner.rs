//! What fine-tuning and probing have in common, and the protocol that selects the best epoch.

use core_model::metrics::Ranked;
use core_model::state::StateDict;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::evaluate::Part;
use crate::train::TrainError;
use crate::train::data::{Classes, Labelled, stream};

/// Something that learns the tasks of a labelled set.
pub trait Learner {
    /// Trains once through `scans`, in batches of the configured size; returns the mean loss. A scan
    /// that cannot be read is named in the log and left out.
    ///
    /// # Errors
    ///
    /// A loss that is no number, more than 1 % of the labelled scans unreadable.
    fn train(&mut self, set: &Labelled, scans: &[usize], epoch: u64) -> Result<f64, TrainError>;

    /// Scores of `scans`, scans × tasks, row by row: the probability of the disease. A scan's score
    /// does not depend on the others.
    ///
    /// # Errors
    ///
    /// A scan that cannot be read.
    fn scores(&self, set: &Labelled, scans: &[usize]) -> Result<Vec<f64>, TrainError>;

    /// Scores of those of `scans` that can be read, and which they are; the others are named in the
    /// log.
    ///
    /// # Errors
    ///
    /// More than 1 % of the labelled scans unreadable.
    fn readable_scores(
        &self,
        set: &Labelled,
        scans: &[usize],
    ) -> Result<(Vec<usize>, Vec<f64>), TrainError> {
        Ok((scans.to_vec(), self.scores(set, scans)?))
    }

    /// Scans that training has left out so far.
    fn left_out(&self) -> usize {
        0
    }

    /// Everything that learns, by name.
    fn parameters(&self) -> StateDict;

    /// Replaces everything that learns.
    ///
    /// # Errors
    ///
    /// Parameters of another architecture; every difference is named.
    fn load(&mut self, parameters: &StateDict) -> Result<(), TrainError>;
}

/// Which scans an epoch trains on.
#[derive(Clone, Debug)]
pub enum Draw {
    /// So many draws with replacement from the training part, either class equally likely; with
    /// several tasks, each task asks for its share of the draws.
    Balanced {
        /// Classes by task.
        tasks: Vec<Classes>,
        /// Draws per epoch.
        draws: usize,
    },
    /// Each scan of a few-shot subset once, shuffled.
    Shots(Classes),
}

/// How a training ended.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The epoch kept, counted from 1.
    pub best_epoch: usize,
    /// Its macro AUC on the validation part.
    pub validation_auc: f64,
    /// Macro AUC on the validation part after each epoch.
    pub curve: Vec<f64>,
    /// Scans of the training and validation part that could not be read and were left out.
    pub left_out: usize,
}

impl Draw {
    /// Balanced draws from the training part of a set.
    ///
    /// # Errors
    ///
    /// A task with one class only.
    pub fn balanced(set: &Labelled, draws: usize) -> Result<Self, TrainError> {
        let tasks = (0..set.tasks().len()).map(|task| set.classes(task, Part::Train));
        Ok(Self::Balanced {
            tasks: tasks.collect::<Result<_, _>>()?,
            draws,
        })
    }

    /// Scans of an epoch.
    #[must_use]
    pub fn per_epoch(&self) -> usize {
        match self {
            Self::Balanced { draws, .. } => *draws,
            Self::Shots(classes) => classes.negative.len() + classes.positive.len(),
        }
    }

    /// Steps of `epochs` epochs in batches of `batch`; a batch of one scan is left out.
    #[must_use]
    pub fn steps(&self, epochs: usize, batch: usize) -> u64 {
        let (whole, rest) = (self.per_epoch() / batch, self.per_epoch() % batch);
        (epochs * (whole + usize::from(rest > 1))) as u64
    }

    /// The scans of epoch `epoch`, in the order they are trained on.
    #[must_use]
    pub fn epoch(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let mut scans = match self {
            Self::Balanced { tasks, draws } => {
                let count = tasks.len();
                let share = |task: usize| draws / count + usize::from(task < draws % count);
                let draw = |(task, classes): (usize, &Classes)| {
                    let seed = stream(seed, "task", &[task as u64]);
                    classes.balanced(seed, epoch, share(task))
                };
                tasks.iter().enumerate().flat_map(draw).collect::<Vec<_>>()
            }
            Self::Shots(classes) => [&*classes.negative, &*classes.positive].concat(),
        };
        let seed = stream(seed, "epoch", &[epoch]);
        scans.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        scans
    }
}

/// Trains `epochs` epochs and keeps the one with the best macro AUC on the validation part.
///
/// The test part is not touched: score it once with what this leaves.
///
/// # Errors
///
/// A task whose validation part has one class, and whatever ends an epoch.
pub fn fit(
    learner: &mut dyn Learner,
    set: &Labelled,
    draw: &Draw,
    epochs: usize,
    seed: u64,
    observe: &mut dyn FnMut(usize, f64, f64),
) -> Result<Fit, TrainError> {
    for task in 0..set.tasks().len() {
        set.classes(task, Part::Validation)?;
    }
    let validation = set.part(Part::Validation);
    let mut best: Option<(Fit, StateDict)> = None;
    let mut curve = Vec::with_capacity(epochs);
    let mut unscored = 0;
    for epoch in 1..=epochs {
        let scans = draw.epoch(seed, epoch as u64);
        let loss = learner.train(set, &scans, epoch as u64)?;
        let (read, scores) = learner.readable_scores(set, &validation)?;
        let auc = macro_auc(set, &read, &scores);
        unscored = unscored.max(validation.len() - read.len());
        observe(epoch, loss, auc);
        curve.push(auc);
        if best
            .as_ref()
            .is_none_or(|(best, _)| best.validation_auc.is_nan() || auc > best.validation_auc)
        {
            let fit = Fit {
                best_epoch: epoch,
                validation_auc: auc,
                curve: Vec::new(),
                left_out: 0,
            };
            best = Some((fit, learner.parameters()));
        }
    }
    let (fit, parameters) =
        best.ok_or_else(|| TrainError::config("finetune.epochs: must be positive, found 0"))?;
    learner.load(&parameters)?;
    Ok(Fit {
        curve,
        left_out: learner.left_out() + unscored,
        ..fit
    })
}

/// Mean over tasks of the area under the ROC curve; a task with one class is left out.
#[must_use]
pub fn macro_auc(set: &Labelled, scans: &[usize], scores: &[f64]) -> f64 {
    let count = set.tasks().len();
    let area = |task: usize| {
        let known = scans.iter().enumerate().filter_map(|(row, scan)| {
            Some((set.rows()[*scan].labels[task]?, scores[row * count + task]))
        });
        let (labels, scores): (Vec<bool>, Vec<f64>) = known.unzip();
        Ranked::new(&labels, &scores)
            .ok()
            .map(|ranked| ranked.areas().roc_auc)
    };
    let areas: Vec<f64> = (0..count).filter_map(area).collect();
    areas.iter().sum::<f64>() / areas.len() as f64
}
