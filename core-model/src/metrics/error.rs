//! Why a statistic does not exist.

/// A statistic that is undefined for its input, or input that is not a scored test set.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MetricsError {
    /// There is nothing to count.
    #[error("scores: no rows")]
    Empty,
    /// Labels and scores do not belong together.
    #[error("scores: {scores} values for {labels} labels")]
    Lengths {
        /// Number of labels.
        labels: usize,
        /// Number of scores.
        scores: usize,
    },
    /// A score is NaN or infinite.
    #[error("scores: row {row} is {found}, expected a finite number")]
    NotFinite {
        /// Row, from 0.
        row: usize,
        /// The value.
        found: f64,
    },
    /// A score that should be a probability is not.
    #[error("scores: row {row} is {found}, expected a probability in 0 to 1")]
    NotProbability {
        /// Row, from 0.
        row: usize,
        /// The value.
        found: f64,
    },
    /// All rows are of one class.
    #[error("labels: no {missing} among {rows} rows")]
    OneClass {
        /// `positive` or `negative`.
        missing: &'static str,
        /// Number of rows.
        rows: usize,
    },
    /// A sample variance of one value.
    #[error("labels: one {class} only, a variance needs two")]
    TooFew {
        /// `positive` or `negative`.
        class: &'static str,
    },
    /// Two models differ, but by the same amount on every scan.
    #[error("comparison: the difference has no variance")]
    NoVariance,
    /// Two models were not scored on the same rows.
    #[error("comparison: labels differ at row {row}")]
    LabelsDiffer {
        /// Row, from 0.
        row: usize,
    },
    /// Random resamples kept losing one class.
    #[error("bootstrap: {attempts} resamples in a row had a task with one class only")]
    Degenerate {
        /// Resamples drawn.
        attempts: usize,
    },
    /// A parameter outside its domain.
    #[error("{name}: {found}, expected {expected}")]
    Parameter {
        /// What it is.
        name: &'static str,
        /// The value.
        found: f64,
        /// The domain.
        expected: &'static str,
    },
    /// Histograms of different bins cannot be added.
    #[error("histogram: {found} bins, expected {expected}")]
    Bins {
        /// Number of bins of the other histogram.
        found: usize,
        /// Number of bins of this one.
        expected: usize,
    },
}
