//! NIfTI-1 and NIfTI-2, read as nibabel reads them and bounded against hostile files.
//!
//! The `nifti` crate parses and writes headers; sizes, affine and voxels are checked and read here,
//! because its own volume reader misplaces voxels behind a large `vox_offset` and panics on
//! inconsistent headers.

#[macro_use]
mod voxel;
mod error;
mod header;
mod read;
mod stream;
mod write;

pub use error::NiftiError;
pub use header::{Datatype, Header};
pub use read::{Nifti, read, read_bytes, read_ras, read_ras_bytes};
pub use write::{Voxels, write, write_volume};
