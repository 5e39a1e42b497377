//! The hospital: files, DICOM, labels, training, evaluation, and the site's part of a round.
//!
//! What leaves a site is a weight delta, a receipt and aggregate metrics; never a scan, a score of
//! one patient, or a name.

pub mod clock;
pub mod cohort;
pub mod device;
pub mod doctor;
pub mod embed;
pub mod evaluate;
pub mod federation;
pub mod heap;
pub mod ingest;
pub mod params;
pub mod report;
pub mod reproduce;
pub mod scans;
pub mod train;
pub mod weights;
