//! DICOM series to volumes: which files belong together, where their slices lie, what their pixels
//! mean in HU. Everything that is not a clean CT volume is refused with a [`Reason`].

mod assemble;
mod filter;
mod guard;
mod hu;
mod meta;
mod open;
mod pixels;
mod reason;
mod slice;
mod tags;

pub use assemble::{Assembled, Flag, assemble};
pub use filter::{Filter, FilterError, check_voxels};
pub use reason::Reason;
pub use slice::{Acquisition, Coding, Patient, Slice, read_bytes, read_slices};
