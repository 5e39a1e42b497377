//! What went wrong in training, as this site's log tells it and as it may be told outside.

use core_model::metrics::MetricsError;
use protocol::params::SchemaError;

use crate::federation::TrainError;

/// What went wrong, in words for the coordinator: the site's log has the scans and files.
pub(super) fn failed(error: impl Into<Fault>) -> TrainError {
    let Fault { inside, outside } = error.into();
    tracing::error!(reason = inside, "training failed");
    TrainError::Failed(outside)
}

/// A fault as this site's log tells it, and as it may be told outside.
pub(super) struct Fault {
    inside: String,
    outside: String,
}

impl From<crate::train::TrainError> for Fault {
    fn from(error: crate::train::TrainError) -> Self {
        use crate::train::TrainError as Error;
        let outside = match &error {
            Error::Config { .. } | Error::Device { .. } => error.to_string(),
            Error::Diverged {
                step,
                figure,
                value,
                ..
            } => {
                format!("step {step}: {figure} is {value}, expected a finite number")
            }
            Error::Unreadable { scans, total } => {
                format!("{} of {total} scans cannot be read", scans.len())
            }
            _ => "the site's scans, labels or files do not allow it; its log says why".to_owned(),
        };
        Self {
            inside: error.to_string(),
            outside,
        }
    }
}

impl From<MetricsError> for Fault {
    fn from(error: MetricsError) -> Self {
        Self {
            inside: error.to_string(),
            outside: error.to_string(),
        }
    }
}

impl From<SchemaError> for Fault {
    fn from(error: SchemaError) -> Self {
        Self {
            inside: error.to_string(),
            outside: error.to_string(),
        }
    }
}
