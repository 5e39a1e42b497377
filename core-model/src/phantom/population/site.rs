//! What a hospital is to the simulation: whom it scans, how it writes labels, and its scanners.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::disease::Disease;

/// A hospital as written in a TOML file; [`Site::new`](super::Site::new) checks it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteProfile {
    /// Short name, used in identifiers.
    pub name: String,
    /// Whom it scans.
    pub population: PopulationProfile,
    /// How its records differ from the truth; all zero where radiologists read every scan.
    #[serde(default)]
    pub records: RecordNoise,
    /// Its scanners and habits.
    pub scanner: ScannerProfile,
}

/// Age, sex and prevalence, as in Supplementary Table 2 of the paper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PopulationProfile {
    /// Everybody scanned.
    pub all: Group,
    /// Scans per patient, mean (1 or more).
    #[serde(default = "one")]
    pub scans_per_patient: f64,
    /// Prevalence and the group of the positives, for each of the ten diseases.
    pub disease: BTreeMap<Disease, DiseaseProfile>,
}

const fn one() -> f64 {
    1.0
}

/// Age and sex of a group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Share of men, 0–1.
    pub male: f64,
    /// Mean age, years.
    pub age: f64,
    /// Standard deviation of the age, years.
    pub age_sd: f64,
}

/// How common a disease is, and among whom.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiseaseProfile {
    /// Share of scans with the disease, 0–1.
    pub prevalence: f64,
    /// Age and sex of those who have it; without it, those of everybody.
    pub positives: Option<Group>,
}

/// Errors of health records, each the probability for one disease of one patient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordNoise {
    /// A disease present is never coded.
    pub missed: f64,
    /// A disease present is coded only after the 90-day window.
    pub delayed: f64,
    /// The patient has no record at all (a probability for the patient).
    pub unlisted: f64,
}

/// Scanners of a site and how they are used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScannerProfile {
    /// The machines.
    pub machines: Vec<Machine>,
    /// Slice thicknesses in use.
    pub slices: Vec<SliceHabit>,
    /// Noise of a 1 mm voxel, standard deviation in HU, from–to.
    pub noise_hu: [f32; 2],
    /// In-plane kernel, from–to: a blur of that standard deviation in mm where positive, an edge
    /// enhancement of that strength where negative.
    pub kernel: [f32; 2],
    /// Calibration error, HU: mean and standard deviation between scans.
    pub offset_hu: [f32; 2],
    /// Scale of the HU axis: mean and standard deviation between scans.
    pub gain: [f32; 2],
    /// Beam hardening: HU between the center of the brain and its rim, from–to.
    pub cupping_hu: [f32; 2],
    /// Share of scans that show the headrest.
    pub headrest: f64,
    /// Size of the coarse grid's box relative to the head: mean and standard deviation.
    pub field_of_view: [f32; 2],
    /// Rotation of the head in the scanner, standard deviation in degrees about each axis.
    pub rotation_deg: f32,
    /// Distance of the head from the middle, standard deviation in mm along each axis.
    pub position_mm: f32,
    /// Share of scans with a tilted gantry.
    pub tilted: f64,
    /// Gantry tilt of those, degrees, from–to.
    pub tilt_deg: [f32; 2],
}

/// A scanner model and the tags its files carry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// DICOM Manufacturer.
    pub manufacturer: String,
    /// DICOM ManufacturerModelName.
    pub model: String,
    /// DICOM ConvolutionKernel.
    pub kernel: String,
    /// DICOM KVP.
    pub kvp: u16,
    /// Share of scans, any unit.
    pub weight: f64,
}

/// A slice thickness and how often it is used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceHabit {
    /// Slice thickness and distance, mm (0.5–10).
    pub thickness_mm: f32,
    /// Share of scans, any unit.
    pub weight: f64,
}
