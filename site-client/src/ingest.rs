//! From files to model input: DICOM import, NIfTI, preprocessing and its cache.

pub mod cache;
pub mod error;
mod font;
pub mod nifti;
pub mod preprocess;
pub mod qc;

pub use cache::Cache;
pub use error::IngestError;
