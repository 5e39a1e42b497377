//! Phantom patients as a source: drawn when asked for, by site, seed and number.

use std::sync::Arc;

use core_model::ct::{HEAD_WINDOWS, Window};
use core_model::phantom::{Disease, Patient, Sex, Site, Truth};
use half::f16;
use rayon::prelude::*;

use super::{Reading, Source, Windowed};

/// The first `patients` patients of a phantom site under one seed, sampled at model size.
///
/// Nothing is stored but who has how many scans: a scan costs milliseconds to draw again, and the
/// same index gives the same scan on any machine.
#[derive(Debug)]
pub struct Phantoms {
    site: Site,
    seed: u64,
    size: usize,
    windows: Vec<Window>,
    scans: Vec<PhantomScan>,
}

/// One scan of a phantom patient, and what a reader without error reports.
#[derive(Clone, Debug)]
pub struct PhantomScan {
    /// Number of the patient within the site.
    pub patient: u64,
    /// Number of the scan within the patient.
    pub number: u32,
    /// Age of the patient, years.
    pub age: u8,
    /// Sex of the patient.
    pub sex: Sex,
    /// Maker of the scanner.
    pub manufacturer: Arc<str>,
    /// Slice thickness, mm.
    pub thickness_mm: f32,
    /// The truth.
    pub truth: Truth,
}

impl Phantoms {
    /// The scans of patients `0..patients`, `size` voxels a side, through `channels` windows.
    #[must_use]
    pub fn new(site: Site, seed: u64, patients: u64, size: usize, channels: usize) -> Self {
        let scans = (0..patients).into_par_iter().flat_map_iter(|index| {
            let patient = Patient::draw(&site, seed, index);
            let site = &site;
            (0..patient.scans()).map(move |number| {
                let acquisition = patient.acquisition(site, number);
                PhantomScan {
                    patient: index,
                    number,
                    age: patient.age(),
                    sex: patient.sex(),
                    manufacturer: acquisition.machine.manufacturer.into(),
                    thickness_mm: acquisition.thickness_mm,
                    truth: patient.truth(),
                }
            })
        });
        let scans = scans.collect();
        Self {
            site,
            seed,
            size,
            windows: windows(channels),
            scans,
        }
    }

    /// The scans, in the order of their indices.
    #[must_use]
    pub fn scans(&self) -> &[PhantomScan] {
        &self.scans
    }

    /// Name of the site.
    #[must_use]
    pub fn site(&self) -> &str {
        &self.site.profile().name
    }

    /// Id of a patient, unique over sites and seeds.
    #[must_use]
    pub fn patient_id(&self, patient: u64) -> String {
        format!("{}-{}-{patient}", self.site(), self.seed)
    }
}

impl Source for Phantoms {
    fn len(&self) -> usize {
        self.scans.len()
    }

    fn id(&self, scan: usize) -> String {
        let PhantomScan {
            patient, number, ..
        } = self.scans[scan];
        format!("{}-{number}", self.patient_id(patient))
    }

    fn origin(&self) -> Option<String> {
        let (profile, seed) = (self.site.profile(), self.seed);
        let prevalences = profile
            .population
            .disease
            .values()
            .map(|entry| entry.prevalence);
        let least = prevalences.fold(1.0, f64::min);
        // Whatever else a profile says.
        let text = serde_json::to_vec(profile).expect("a profile of plain fields");
        let digest = blake3::hash(&text).to_hex();
        Some(format!(
            "phantoms of {} with seed {seed}, least prevalence {least}, profile {}",
            profile.name,
            &digest[..8]
        ))
    }

    fn load(&self, scan: usize, _: Reading) -> Result<Arc<Windowed>, String> {
        let PhantomScan {
            patient, number, ..
        } = self.scans[scan];
        let patient = Patient::draw(&self.site, self.seed, patient);
        let acquisition = patient.acquisition(&self.site, number);
        let grid = patient.model_grid(&acquisition, self.size);
        let voxels_hu = patient.render(&acquisition, &grid);
        Ok(Arc::new(window(&voxels_hu, &self.windows, self.size)))
    }
}

/// The names of the phantom tasks: the ten diseases.
#[must_use]
pub fn phantom_tasks() -> Vec<Arc<str>> {
    Disease::ALL
        .iter()
        .map(|disease| disease.name().into())
        .collect()
}

/// The windows of a model of `channels` channels: the three published ones, or −110…190 HU alone.
#[must_use]
pub fn windows(channels: usize) -> Vec<Window> {
    match channels {
        1 => vec![Window {
            low_hu: -110,
            high_hu: 190,
        }],
        _ => HEAD_WINDOWS.to_vec(),
    }
}

/// A cube in HU through windows.
#[must_use]
pub fn window(voxels_hu: &[f32], windows: &[Window], size: usize) -> Windowed {
    let channel = |window: &Window| {
        let window = *window;
        voxels_hu
            .iter()
            .map(move |hu| f16::from_f32(window.apply(*hu)))
    };
    Windowed {
        channels: windows.len(),
        size,
        values: windows.iter().flat_map(channel).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phantom_scan_is_the_same_each_time_and_differs_from_the_next() {
        let site = Site::builtin("langone").unwrap();
        let phantoms = Phantoms::new(site, 3, 5, 16, 3);
        assert!(phantoms.len() >= 5);
        let load = |scan| phantoms.load(scan, Reading::Views);
        let first = load(0).unwrap();
        assert_eq!(first, load(0).unwrap());
        assert_ne!(first, load(phantoms.len() - 1).unwrap());
        assert_eq!(first.values.len(), 3 * 16 * 16 * 16);
        assert!(
            first
                .values
                .iter()
                .all(|value| (0.0..=1.0).contains(&value.to_f32()))
        );
    }

    #[test]
    fn phantoms_of_another_seed_or_another_prevalence_have_another_origin() {
        let origin = |seed, floor| {
            let profile = Site::builtin("langone").unwrap().profile().clone();
            let site = Site::new(profile.with_prevalence_floor(floor)).unwrap();
            Phantoms::new(site, seed, 3, 8, 1).origin().unwrap()
        };
        let first = origin(7, 0.2);
        assert!(
            first.contains("langone with seed 7, least prevalence 0.2,"),
            "{first}"
        );
        assert_eq!(first, origin(7, 0.2));
        assert_ne!(first, origin(8, 0.2));
        assert_ne!(first, origin(7, 0.25));
    }
}
