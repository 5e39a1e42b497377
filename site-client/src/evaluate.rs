//! Evaluation: predictions in, statistics out.
//!
//! [`Predictions`] is the one input of all statistics: training writes it, `metrics` and `report`
//! read it, and an outside model needs no more than this table to be compared.

mod cell;
mod error;
mod predictions;
mod table;

pub use cell::{CALIBRATION_BINS, Cell, Comparison, OperatingPoint};
pub use error::EvaluateError;
pub use predictions::{Part, Prediction, Predictions};
pub use table::{Clustering, GroupBy, MACRO, MetricsTable, Settings};
