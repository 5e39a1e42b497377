//! Cohorts: who has which disease, who belongs to which part, and simulated patients.
//!
//! `labels.csv` has one row per scan and one column per task, bound by header name; an empty cell
//! means *unlabeled*, which is not *negative*.

mod define;
mod describe;
mod error;
mod labels;
mod phantom;
mod records;
mod sheet;
mod split;
mod table;

pub use define::{Definition, Definitions};
pub use describe::{Characteristics, Row as CharacteristicsRow};
pub use error::{CohortError, Place};
pub use labels::{
    Cq500Options, EhrReport, LabelWindow, LeftOut, RsnaReport, SliceMap, from_cq500, from_records,
    from_rsna,
};
pub use phantom::{Cohort as PhantomCohort, FileFormat, PhantomPlan, PhantomSummary};
pub use records::{Mapping, RecordFormat, Records};
pub use split::{Part, Split, SplitKey};
pub use table::{LabelRow, LabelTable};

/// A scan about which nothing is known but its names and date.
#[cfg(test)]
fn bare_scan(
    scan: &str,
    patient: &str,
    study_time: Option<jiff::civil::DateTime>,
) -> crate::scans::Scan {
    crate::scans::Scan {
        scan: scan.to_owned(),
        patient: patient.to_owned(),
        file: format!("nifti/{scan}.nii.gz").into(),
        study_time,
        age_years: None,
        sex: None,
        manufacturer: None,
        model: None,
        kernel: None,
        kvp: None,
        thickness_mm: None,
        spacing_x_mm: 1.0,
        spacing_y_mm: 1.0,
        spacing_z_mm: 1.0,
        rows: 1,
        columns: 1,
        slices: 1,
        body_part: None,
        contrast: None,
        flags: String::new(),
        digest: String::new(),
    }
}
