//! Statistics of a binary classifier: how well scores separate diseased from healthy scans, and
//! how sure one may be of it.
//!
//! The way of the data: labels and scores become a [`Ranked`] set once; areas, curves, DeLong
//! variances, bootstraps and permutation tests read it. Areas are counted in integers, so they are
//! exact; every random procedure takes a seed and is the same on any number of threads.
//!
//! Paper, "Statistical analysis": 100 bootstrap resamples of the held-out set and a two-sided
//! paired permutation test with 1,000 permutations. The paper names neither the kind of interval
//! nor the formula of the p-value: intervals here are percentile intervals, and p is
//! (1 + count) / (1 + permutations), so it is never zero.

mod bootstrap;
mod calibration;
mod delong;
mod error;
mod histogram;
mod interval;
mod permutation;
mod ranked;
mod threshold;

pub use bootstrap::{AreaReplicates, Resampler, bootstrap, bootstrap_macro};
pub use calibration::{CalibrationBin, brier_score, calibration_curve, expected_calibration_error};
pub use delong::{DeLong, DeLongComparison};
pub use error::MetricsError;
pub use histogram::{HistogramAuc, ScoreBins, ScoreHistogram};
pub use interval::{Interval, clopper_pearson, holm, mean_interval, percentile_interval};
pub use permutation::{PairedScores, PermutationTest, permutation_test};
pub use ranked::{Areas, PrPoint, Ranked, RocPoint};
pub use threshold::{Confusion, sensitivity_threshold, youden_threshold};
