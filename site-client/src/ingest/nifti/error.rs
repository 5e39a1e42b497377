use std::io;

use core_model::ct::CtError;
use thiserror::Error;

/// The rule a NIfTI file breaks, and what was found.
#[derive(Debug, Error)]
pub enum NiftiError {
    /// A field holds what the format forbids.
    #[error("header: {field} is {found}, expected {expected}")]
    Field {
        /// The field's name in the standard.
        field: &'static str,
        /// Its value.
        found: String,
        /// The rule.
        expected: &'static str,
    },
    /// The transform to space cannot be used.
    #[error("header: the {form} cannot be used")]
    Affine {
        /// `sform`, `qform` or `pixdim`.
        form: &'static str,
        /// The rule it breaks.
        source: CtError,
    },
    /// More voxels than allowed.
    #[error("header: dim promises {found} voxels, expected at most {limit}")]
    TooLarge {
        /// Voxels promised.
        found: u128,
        /// The cap.
        limit: usize,
    },
    /// The file ends early.
    #[error("data: ends early, expected {expected} bytes of {part}")]
    Truncated {
        /// `header` or `voxels`.
        part: &'static str,
        /// Bytes needed.
        expected: u64,
    },
    /// The compressed stream is broken.
    #[error("data: cannot be decompressed")]
    Inflate(#[source] io::Error),
    /// A voxel is NaN or infinite.
    #[error("data: {count} voxels are not finite, expected HU")]
    NotFinite {
        /// How many.
        count: usize,
    },
    /// A header that is no NIfTI header.
    #[error("header: not NIfTI-1 or NIfTI-2 (sizeof_hdr {found}, expected 348 or 540)")]
    NotNifti {
        /// The first four bytes, little-endian.
        found: i32,
    },
    /// A pair whose voxels are missing.
    #[error("header: voxels lie in a separate .img file, which is missing")]
    NoImage,
    /// The volume cannot be made.
    #[error("data: the voxels do not make a volume")]
    Volume(#[source] CtError),
}

impl NiftiError {
    pub(super) fn field(field: &'static str, found: impl ToString, expected: &'static str) -> Self {
        Self::Field {
            field,
            found: found.to_string(),
            expected,
        }
    }
}
