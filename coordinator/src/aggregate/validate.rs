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

/// Reads an update once: right size, all finite, norm within the plan's limit. Returns the norm of
/// its change of weights.
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
    let mut squared = 0.0;
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
            if section.part == Part::Weights {
                squared += sum;
            }
            start = end;
        }
    }
    let norm = squared.sqrt();
    match config.limits.max_update_norm {
        Some(limit) if norm > limit => Ok(Err(Defect::Norm { found: norm, limit })),
        _ => Ok(Ok(norm)),
    }
}

/// Elements looked at at a time; a multiple of the encoding block.
const CHUNK: u64 = 1 << 18;
