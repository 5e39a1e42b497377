//! A staged update is looked at whole before any of it is folded.

use std::io;

use protocol::bounded::Text;
use protocol::layout::{Layout, Part};
use protocol::message::Reason;
use protocol::plan::Config;
use thiserror::Error;

use super::columns::{ReadAt, dot, read_section};

/// What is wrong with an update; the site's fault.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum Defect {
    /// Too large a change of SCAFFOLD's control variate.
    #[error(
        "update: norm {found} of the control is above {limit}, which follows from the plan's limit"
    )]
    Control {
        /// Norm of the change of the control variate.
        found: f64,
        /// The plan's [`max_control_norm`](Config::max_control_norm).
        limit: f64,
    },
    /// A value is NaN or infinite, or decodes to one.
    #[error("update: values must be finite, element {element} of {part:?} is not")]
    NotFinite {
        /// Section it is in.
        part: Part,
        /// Place in that section.
        element: u64,
    },
    /// Too large a step.
    #[error("update: norm {found} is above the plan's limit {limit}")]
    Norm {
        /// Norm of the change of weights.
        found: f64,
        /// The plan's limit.
        limit: f64,
    },
    /// Not of the plan's and schema's layout.
    #[error("update: expected {expected} bytes, found {found}")]
    Size {
        /// Bytes of an update of this run.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
}

impl From<Defect> for Reason {
    fn from(defect: Defect) -> Self {
        Self::Invalid {
            defect: Text::lossy(&defect.to_string()),
        }
    }
}

/// Reads an update once: right size, all finite, norms within the plan's limits. Returns the norm
/// of its change of weights.
///
/// # Errors
/// The outer error is ours (the blob could not be read), the inner the site's.
pub fn inspect(
    config: &Config,
    layout: &Layout,
    update: &dyn ReadAt,
) -> io::Result<Result<f64, Defect>> {
    let (expected, found) = (layout.update_bytes(), update.size()?);
    if expected != found {
        return Ok(Err(Defect::Size { expected, found }));
    }
    let (mut squared, mut squared_control) = (0.0, 0.0);
    let mut values = Vec::new();
    for section in layout.update() {
        let mut start = 0;
        while start < section.elements {
            let end = (start + CHUNK).min(section.elements);
            read_section(update, section, start..end, &mut values)?;
            // Not finite values make the sum not finite, so the common case reads values once.
            let sum = dot(&values, &values);
            if !sum.is_finite()
                && let Some(at) = values.iter().position(|value| !value.is_finite())
            {
                let element = start + at as u64;
                return Ok(Err(Defect::NotFinite {
                    part: section.part,
                    element,
                }));
            }
            match section.part {
                Part::Weights => squared += sum,
                Part::Control => squared_control += sum,
                _ => {}
            }
            start = end;
        }
    }
    let (norm, found) = (squared.sqrt(), squared_control.sqrt());
    if let Some(limit) = config.limits.max_update_norm
        && norm > limit
    {
        return Ok(Err(Defect::Norm { found: norm, limit }));
    }
    if let Some(limit) = config.max_control_norm()
        && found > limit
    {
        return Ok(Err(Defect::Control { found, limit }));
    }
    Ok(Ok(norm))
}

/// Elements looked at at a time; a multiple of the encoding block.
const CHUNK: u64 = 1 << 18;
