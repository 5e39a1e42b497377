//! Volumes and the way of a scan to model input: orientation, 1 mm resampling, geometry, windows,
//! area resize. Pure mathematics; files are read elsewhere.
//!
//! A [`Volume`] is a row-major array: after [`to_ras`] axis 0 runs left to right, axis 1 posterior
//! to anterior, axis 2 inferior to superior, and axis 2 is contiguous, as in the tensors of the
//! model. [`Preprocessing::run`] is the whole chain.

mod affine;
mod crop;
mod error;
mod head;
mod orientation;
mod preprocess;
mod resample;
mod resize;
mod spline;
mod volume;
mod window;

pub use affine::Affine;
pub use crop::{Region, center_crop, foreground, pad_or_crop};
pub use error::CtError;
pub use head::HeadCrop;
pub use orientation::{Orientation, to_ras};
pub use preprocess::{ModelInput, Order, Preprocessing, Preset, PresetError, Steps};
pub use resample::{Grid, resample, to_1mm};
pub use resize::resize_area;
pub use volume::Volume;
pub use window::{HEAD_WINDOWS, Window};

/// Hounsfield units of air, and of everything outside a scan.
pub const AIR_HU: f32 = -1000.0;
