//! From files to model input: DICOM import, NIfTI, preprocessing and its cache.

pub mod cache;
pub mod dicom;
pub mod error;
mod font;
pub mod import;
mod metadata;
pub mod nifti;
pub mod preprocess;
mod private;
pub mod pseudonym;
pub mod qc;

pub use cache::Cache;
pub use error::IngestError;
