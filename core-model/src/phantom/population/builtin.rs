//! The four built-in sites: simulations shaped after the paper's data sets, not their patients.
//!
//! Prevalence, age and sex of `langone` and `longisland` are those of Supplementary Table 2. The
//! prevalence of hemorrhages at `cq500` is the majority vote in its published reads, and "any" at
//! `rsna` the share in the official FM-CT split. The paper gives neither age nor sex there, nor the
//! prevalence of the other diseases: those are assumptions. So are all scanner properties, which
//! follow the paper only in manufacturers, slice thickness and kernels.

use std::collections::BTreeMap;

use super::disease::Disease;
use super::site::{
    DiseaseProfile, Group, Machine, PopulationProfile, RecordNoise, ScannerProfile, SiteProfile,
    SliceHabit,
};

/// Scans, men, mean age and its standard deviation of a row of Supplementary Table 2.
type Row = (Disease, u32, u32, f64, f64);

const LANGONE_ALL: (u32, u32, f64, f64) = (270_205, 128_113, 63.64, 19.68);
const LANGONE: [Row; 10] = [
    (Disease::Tumor, 9_501, 4_775, 57.80, 17.67),
    (Disease::Hydrocephalus, 17_205, 9_232, 63.18, 19.11),
    (Disease::Edema, 27_629, 15_126, 60.81, 17.97),
    (Disease::Adrd, 37_538, 16_954, 78.09, 13.30),
    (Disease::Iph, 18_897, 10_421, 64.39, 17.69),
    (Disease::Ivh, 11_973, 6_427, 63.45, 17.19),
    (Disease::Sdh, 21_737, 13_244, 65.95, 18.33),
    (Disease::Edh, 4_774, 3_000, 56.53, 20.75),
    (Disease::Sah, 18_611, 9_689, 61.59, 18.49),
    (Disease::Ich, 40_354, 22_615, 64.93, 18.14),
];

const LONG_ISLAND_ALL: (u32, u32, f64, f64) = (22_158, 9_580, 68.33, 18.14);
const LONG_ISLAND: [Row; 10] = [
    (Disease::Tumor, 580, 305, 58.78, 17.79),
    (Disease::Hydrocephalus, 1_505, 862, 58.52, 18.48),
    (Disease::Edema, 2_756, 1_512, 64.36, 16.66),
    (Disease::Adrd, 2_621, 1_189, 79.90, 11.77),
    (Disease::Iph, 2_801, 1_606, 63.89, 16.48),
    (Disease::Ivh, 2_522, 1_416, 63.43, 16.66),
    (Disease::Sdh, 1_273, 710, 68.37, 16.83),
    (Disease::Edh, 246, 137, 68.19, 15.59),
    (Disease::Sah, 1_506, 756, 63.58, 17.65),
    (Disease::Ich, 3_770, 2_124, 65.48, 16.77),
];

/// Names of the built-in sites.
pub const NAMES: [&str; 4] = ["langone", "longisland", "rsna", "cq500"];

/// The profile of a built-in site, if there is one of that name.
#[must_use]
pub fn profile(name: &str) -> Option<SiteProfile> {
    let profile = match name {
        "langone" => langone(),
        "longisland" => long_island(),
        "rsna" => rsna(),
        "cq500" => cq500(),
        _ => return None,
    };
    Some(profile)
}

fn langone() -> SiteProfile {
    SiteProfile {
        name: "langone".to_owned(),
        population: from_table(LANGONE_ALL, LANGONE, 4.0),
        records: RecordNoise {
            missed: 0.06,
            delayed: 0.03,
            unlisted: 0.02,
        },
        scanner: ScannerProfile {
            machines: vec![
                machine("SIEMENS", "SOMATOM Force", "Hr40", 120, 0.5),
                machine("SIEMENS", "SOMATOM Definition Edge", "J40s", 120, 0.35),
                machine("TOSHIBA", "Aquilion ONE", "FC21", 120, 0.15),
            ],
            slices: slices(&[(0.5, 0.05), (1.0, 0.35), (3.0, 0.2), (5.0, 0.4)]),
            noise_hu: [4.0, 9.0],
            kernel: [0.5, 1.6],
            offset_hu: [0.0, 1.2],
            gain: [1.0, 0.008],
            cupping_hu: [0.0, 2.0],
            headrest: 0.25,
            field_of_view: [1.02, 0.02],
            rotation_deg: 4.0,
            position_mm: 3.0,
            tilted: 0.1,
            tilt_deg: [-15.0, -5.0],
        },
    }
}

fn long_island() -> SiteProfile {
    SiteProfile {
        name: "longisland".to_owned(),
        population: from_table(LONG_ISLAND_ALL, LONG_ISLAND, 1.5),
        records: RecordNoise {
            missed: 0.08,
            delayed: 0.04,
            unlisted: 0.03,
        },
        scanner: ScannerProfile {
            machines: vec![
                machine("GE MEDICAL SYSTEMS", "LightSpeed VCT", "SOFT", 120, 0.4),
                machine("SIEMENS", "SOMATOM Definition AS", "J30s", 120, 0.6),
            ],
            slices: slices(&[(1.0, 0.2), (2.5, 0.3), (5.0, 0.5)]),
            noise_hu: [6.0, 12.0],
            kernel: [-0.4, 0.8],
            offset_hu: [1.5, 1.6],
            gain: [1.012, 0.01],
            cupping_hu: [1.0, 3.5],
            headrest: 0.55,
            field_of_view: [1.04, 0.03],
            rotation_deg: 6.0,
            position_mm: 4.0,
            tilted: 0.25,
            tilt_deg: [-20.0, -5.0],
        },
    }
}

fn rsna() -> SiteProfile {
    let population = PopulationProfile {
        all: Group {
            male: 0.5,
            age: 60.0,
            age_sd: 20.0,
        },
        scans_per_patient: 1.15,
        disease: prevalence([0.03, 0.06, 0.10, 0.10, 0.19, 0.13, 0.16, 0.014, 0.17, 0.358]),
    };
    SiteProfile {
        name: "rsna".to_owned(),
        population,
        records: RecordNoise::default(),
        scanner: ScannerProfile {
            machines: vec![
                machine("GE MEDICAL SYSTEMS", "Revolution CT", "STANDARD", 120, 0.4),
                machine("Philips", "Brilliance 64", "UB", 120, 0.3),
                machine("SIEMENS", "Sensation 64", "H31s", 120, 0.3),
            ],
            slices: slices(&[(1.25, 0.1), (2.5, 0.2), (5.0, 0.7)]),
            noise_hu: [8.0, 18.0],
            kernel: [0.0, 1.2],
            offset_hu: [-2.0, 2.2],
            gain: [0.98, 0.015],
            cupping_hu: [2.0, 6.0],
            headrest: 0.8,
            field_of_view: [1.08, 0.04],
            rotation_deg: 8.0,
            position_mm: 6.0,
            tilted: 0.4,
            tilt_deg: [-25.0, 0.0],
        },
    }
}

fn cq500() -> SiteProfile {
    let share = |positives: f64| positives / 491.0;
    let population = PopulationProfile {
        all: Group {
            male: 0.6,
            age: 50.0,
            age_sd: 19.0,
        },
        scans_per_patient: 1.0,
        disease: prevalence([
            0.03,
            0.08,
            0.15,
            0.05,
            share(134.0),
            share(28.0),
            share(53.0),
            share(13.0),
            share(60.0),
            share(205.0),
        ]),
    };
    SiteProfile {
        name: "cq500".to_owned(),
        population,
        records: RecordNoise::default(),
        scanner: ScannerProfile {
            machines: vec![
                machine("GE MEDICAL SYSTEMS", "BrightSpeed", "SOFT", 120, 0.5),
                machine("GE MEDICAL SYSTEMS", "Optima CT660", "STANDARD", 120, 0.3),
                machine("Philips", "MX 16-slice", "B", 120, 0.2),
            ],
            slices: slices(&[(0.625, 0.35), (1.25, 0.15), (5.0, 0.5)]),
            noise_hu: [5.0, 14.0],
            kernel: [0.9, 2.2],
            offset_hu: [3.0, 2.2],
            gain: [1.02, 0.015],
            cupping_hu: [1.5, 5.0],
            headrest: 0.5,
            field_of_view: [0.99, 0.03],
            rotation_deg: 8.0,
            position_mm: 5.0,
            tilted: 0.3,
            tilt_deg: [-20.0, 5.0],
        },
    }
}

fn from_table(
    (scans, men, age, age_sd): (u32, u32, f64, f64),
    rows: [Row; 10],
    scans_per_patient: f64,
) -> PopulationProfile {
    let share = |part: u32, whole: u32| f64::from(part) / f64::from(whole);
    let disease = rows
        .into_iter()
        .map(|(disease, positive, men, age, age_sd)| {
            let positives = Some(Group {
                male: share(men, positive),
                age,
                age_sd,
            });
            (
                disease,
                DiseaseProfile {
                    prevalence: share(positive, scans),
                    positives,
                },
            )
        });
    PopulationProfile {
        all: Group {
            male: share(men, scans),
            age,
            age_sd,
        },
        scans_per_patient,
        disease: disease.collect(),
    }
}

fn prevalence(values: [f64; 10]) -> BTreeMap<Disease, DiseaseProfile> {
    let profile = |prevalence| DiseaseProfile {
        prevalence,
        positives: None,
    };
    Disease::ALL.into_iter().zip(values.map(profile)).collect()
}

fn machine(manufacturer: &str, model: &str, kernel: &str, kvp: u16, weight: f64) -> Machine {
    Machine {
        manufacturer: manufacturer.to_owned(),
        model: model.to_owned(),
        kernel: kernel.to_owned(),
        kvp,
        weight,
    }
}

fn slices(habits: &[(f32, f64)]) -> Vec<SliceHabit> {
    habits
        .iter()
        .map(|&(thickness_mm, weight)| SliceHabit {
            thickness_mm,
            weight,
        })
        .collect()
}
