//! The phantom as a whole: tissues, lesions, populations, repeatability.

mod statistics;

use rayon::prelude::*;

use super::random::{Purpose, Stream};
use super::*;

fn only(disease: Disease) -> DiseaseSet {
    [disease].into_iter().collect()
}

fn healthy(age: u8, index: u64) -> Patient {
    Patient::with_diseases(DiseaseSet::default(), age, Sex::Female, 3, index)
}

/// Mean HU of a 3 mm cube around a point of the head.
fn hu_at(patient: &Patient, point: [f32; 3]) -> f32 {
    let corner = point.map(|x| x - 1.0);
    let grid = Grid::new(
        [3; 3],
        corner,
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    );
    let voxels = patient.render(&Acquisition::ideal(), &grid);
    voxels.iter().sum::<f32>() / voxels.len() as f32
}

#[test]
fn tissues_lie_within_their_hounsfield_bounds() {
    // Tissue, a point that lies in it in every head, least and most HU.
    let points = [
        ("air", [0.0, 0.0, 110.0], -1001.0, -999.0),
        ("white matter", [26.0, -5.0, 38.0], 24.0, 33.0),
        ("thalamus", [11.0, -13.0, 5.0], 32.0, 41.0),
        ("pons", [0.0, -16.0, -30.0], 27.0, 36.0),
    ];
    for index in 0..12 {
        let patient = healthy(30, index);
        for (tissue, point, least, most) in points {
            let hu = hu_at(&patient, point);
            assert!(
                (least..=most).contains(&hu),
                "{tissue} of patient {index}: {hu} HU"
            );
        }
        let hydrocephalus =
            Patient::with_diseases(only(Disease::Hydrocephalus), 50, Sex::Male, 3, index);
        let fluid = hu_at(&hydrocephalus, [9.0, 0.0, 15.0]);
        assert!(
            (2.0..=14.0).contains(&fluid),
            "ventricle of patient {index}: {fluid} HU"
        );
        let grid = patient.isotropic_grid(&Acquisition::ideal(), 2.0);
        let voxels = patient.render(&Acquisition::ideal(), &grid);
        let densest = voxels.iter().copied().fold(f32::MIN, f32::max);
        assert!(
            (900.0..1700.0).contains(&densest),
            "bone of patient {index}: {densest} HU"
        );
    }
}

#[test]
fn every_lesion_has_a_mask_of_its_disease_and_its_density() {
    let scan = Acquisition::ideal();
    // Disease, HU of its mask.
    for (disease, least, most) in [
        (Disease::Tumor, 10.0, 62.0),
        (Disease::Edema, 10.0, 30.0),
        (Disease::Iph, 40.0, 82.0),
        (Disease::Ivh, 40.0, 80.0),
        (Disease::Sdh, 14.0, 80.0),
        (Disease::Edh, 45.0, 80.0),
        (Disease::Sah, 20.0, 75.0),
    ] {
        let code = 1 + disease as u8;
        for index in 0..6 {
            let patient = Patient::with_diseases(only(disease), 50, Sex::Male, 5, index);
            let grid = patient.isotropic_grid(&scan, 2.5);
            let (voxels, mask) = (
                patient.render(&scan, &grid),
                patient.render_mask(&scan, &grid),
            );
            let mut within: Vec<f32> = voxels
                .iter()
                .zip(&mask)
                .filter(|(_, m)| **m == code)
                .map(|(hu, _)| *hu)
                .collect();
            // A brain that swells as a whole has no region.
            if disease == Disease::Edema && within.is_empty() {
                continue;
            }
            assert!(
                within.len() > 20,
                "{disease} {index}: {} voxels",
                within.len()
            );
            within.sort_by(f32::total_cmp);
            let median = within[within.len() / 2];
            assert!(
                (least..=most).contains(&median),
                "{disease} {index}: {median} HU"
            );
        }
    }
    let patient = healthy(40, 0);
    let grid = patient.isotropic_grid(&scan, 3.0);
    assert!(
        patient
            .render_mask(&scan, &grid)
            .iter()
            .all(|&code| code == 0)
    );
}

#[test]
fn bleeding_is_on_the_side_the_truth_names() {
    let scan = Acquisition::ideal();
    for disease in [Disease::Iph, Disease::Sdh, Disease::Edh] {
        for index in 0..8 {
            let patient = Patient::with_diseases(only(disease), 50, Sex::Male, 9, index);
            let grid = patient.isotropic_grid(&scan, 3.0);
            let mask = patient.render_mask(&scan, &grid);
            let [nx, ny, nz] = grid.shape();
            let mut sides = [0, 0];
            for (position, _) in mask.iter().enumerate().filter(|(_, code)| **code > 0) {
                sides[usize::from(position / (ny * nz) >= nx / 2)] += 1;
            }
            let truth = patient.truth();
            let most = sides[0].max(sides[1]);
            // A few voxels may reach over the midline.
            let seen = sides.map(|n| n * 8 > most);
            assert_eq!(
                seen,
                [truth.bleed_left, truth.bleed_right],
                "{disease} {index}: {sides:?}"
            );
        }
    }
}

#[test]
fn hydrocephalus_widens_the_ventricles_and_dementia_the_rest_too() {
    let scan = Acquisition::ideal();
    let fluid = |disease: Option<Disease>, grid: &Grid| {
        let voxels = (0..8).flat_map(|index| {
            let diseases = disease.into_iter().collect();
            let patient = Patient::with_diseases(diseases, 70, Sex::Female, 21, index);
            patient.render(&scan, grid)
        });
        voxels.filter(|hu| (-5.0..18.0).contains(hu)).count() as f64
    };
    let step = [[2.5, 0.0, 0.0], [0.0, 2.5, 0.0], [0.0, 0.0, 2.5]];
    let ventricles = Grid::new([28, 36, 10], [-34.0, -48.0, 2.0], step);
    let all = Grid::new([60, 76, 40], [-75.0, -95.0, -20.0], step);
    let health = None;
    let pressed = Some(Disease::Hydrocephalus);
    let shrunk = Some(Disease::Adrd);
    assert!(fluid(pressed, &ventricles) > 1.5 * fluid(health, &ventricles));
    assert!(fluid(shrunk, &all) > 1.3 * fluid(health, &all));
}

#[test]
fn a_coarse_grid_shows_what_averaging_a_fine_one_does() {
    let patient = Patient::with_diseases(only(Disease::Iph), 60, Sex::Male, 2, 4);
    let scan = Acquisition::ideal();
    let n = 24;
    let coarse = patient.render(&scan, &patient.model_grid(&scan, n));
    let fine = patient.render(&scan, &patient.model_grid(&scan, 4 * n));
    let mut averaged = vec![0.0_f32; n * n * n];
    for (position, hu) in fine.iter().enumerate() {
        let (i, j, k) = (
            position / (16 * n * n),
            position / (4 * n) % (4 * n),
            position % (4 * n),
        );
        averaged[(i / 4 * n + j / 4) * n + k / 4] += hu / 64.0;
    }
    // Soft tissue, away from the steep steps to bone and air.
    let pairs: Vec<(f32, f32)> = coarse
        .iter()
        .zip(&averaged)
        .map(|(a, b)| (*a, *b))
        .filter(|(_, b)| (0.0..80.0).contains(b))
        .collect();
    let close = pairs.iter().filter(|(a, b)| (a - b).abs() < 6.0).count();
    assert!(
        close * 10 > pairs.len() * 8,
        "{close} of {} within 6 HU",
        pairs.len()
    );
}

#[test]
fn sites_have_the_characteristics_of_supplementary_table_2() {
    const PEOPLE: u64 = 40_000;
    for name in ["langone", "longisland"] {
        let site = Site::builtin(name).unwrap();
        let people: Vec<Person> = (0..PEOPLE)
            .map(|index| site.draw(&mut Stream::new(1, index, Purpose::Person, 0)))
            .collect();
        let population = &site.profile().population;
        check(name, "all", &people, population.all);
        for (disease, entry) in &population.disease {
            let positive: Vec<Person> = people
                .iter()
                .filter(|p| p.diseases.contains(*disease))
                .copied()
                .collect();
            let (share, n) = (positive.len() as f64 / PEOPLE as f64, PEOPLE as f64);
            let error = (entry.prevalence * (1.0 - entry.prevalence) / n).sqrt();
            assert!(
                (share - entry.prevalence).abs() < 4.0 * error,
                "{name} {disease}: {share}"
            );
            check(name, disease.name(), &positive, entry.positives.unwrap());
        }
    }
}

/// Mean age and share of men within four standard errors, the deviation of ages within a tenth.
fn check(site: &str, group: &str, people: &[Person], expected: Group) {
    let n = people.len() as f64;
    let ages = || people.iter().map(|p| f64::from(p.age));
    let mean = ages().sum::<f64>() / n;
    let sd = (ages().map(|age| (age - mean).powi(2)).sum::<f64>() / n).sqrt();
    let male = people.iter().filter(|p| p.sex == Sex::Male).count() as f64 / n;
    let male_error = (expected.male * (1.0 - expected.male) / n).sqrt();
    assert!(
        (mean - expected.age).abs() < 4.0 * expected.age_sd / n.sqrt(),
        "{site} {group}: age {mean}"
    );
    assert!(
        (sd / expected.age_sd - 1.0).abs() < 0.1,
        "{site} {group}: deviation {sd}"
    );
    assert!(
        (male - expected.male).abs() < 4.0 * male_error,
        "{site} {group}: male {male}"
    );
}

#[test]
fn a_prevalence_floor_raises_the_rare_and_keeps_the_union() {
    let profile = builtin_profile("langone")
        .unwrap()
        .with_prevalence_floor(0.2);
    let site = Site::new(profile).unwrap();
    let people: Vec<Person> = (0..5000)
        .map(|index| site.draw(&mut Stream::new(2, index, Purpose::Person, 0)))
        .collect();
    for disease in Disease::ALL {
        let share = people
            .iter()
            .filter(|p| p.diseases.contains(disease))
            .count() as f64
            / 5000.0;
        assert!(share > 0.17, "{disease}: {share}");
    }
    assert!(people.iter().all(|p| {
        Disease::HEMORRHAGES
            .iter()
            .any(|kind| p.diseases.contains(*kind))
            == p.diseases.contains(Disease::Ich)
    }));
}

#[test]
fn the_same_seed_gives_the_same_scans_on_any_number_of_threads() {
    let site = Site::builtin("rsna").unwrap();
    let render = |index: u64| {
        let patient = Patient::draw(&site, 17, index);
        let scan = patient.acquisition(&site, 0);
        patient.render(&scan, &patient.model_grid(&scan, 12))
    };
    let alone: Vec<Vec<f32>> = (0..24).map(render).collect();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(3)
        .build()
        .unwrap();
    let together: Vec<Vec<f32>> = pool.install(|| (0..24).into_par_iter().map(render).collect());
    assert_eq!(alone, together);
    assert_ne!(alone[0], alone[1]);
}

#[test]
fn scanner_slices_keep_thickness_and_tilt() {
    let site = Site::builtin("langone").unwrap();
    for index in 0..40 {
        let patient = Patient::draw(&site, 4, index);
        let scan = patient.acquisition(&site, 0);
        let grid = patient.scanner_grid(&scan, 64);
        let [across, down, along] = grid.spacing_mm();
        assert!((across - down).abs() < 1e-3, "square pixels");
        assert!((along - scan.thickness_mm).abs() < 1e-3, "slices touch");
        let affine = grid.affine();
        let lean = affine[2][1].atan2(affine[1][1]).to_degrees();
        assert!(
            (lean - f64::from(scan.tilt_deg)).abs() < 0.01,
            "tilt {lean}"
        );
    }
}

#[test]
fn built_in_sites_are_valid_and_broken_ones_are_named() {
    for name in SITE_NAMES {
        assert!(Site::builtin(name).is_some(), "{name}");
    }
    assert!(Site::builtin("elsewhere").is_none());
    let error = |change: fn(&mut SiteProfile)| {
        let mut profile = builtin_profile("rsna").unwrap();
        change(&mut profile);
        Site::new(profile).unwrap_err().to_string()
    };
    for (found, words) in [
        (
            error(|p| p.population.all.male = 1.5),
            "population.all.male is 1.5, expected more than 0",
        ),
        (
            error(|p| p.records.missed = -0.1),
            "records.missed is -0.1, expected 0 to 1",
        ),
        (
            error(|p| p.scanner.machines.clear()),
            "scanner.machines is empty",
        ),
        (
            error(|p| p.scanner.slices[0].thickness_mm = 20.0),
            "expected 0.5 to 10 mm",
        ),
        (
            error(|p| p.scanner.noise_hu = [f32::NAN, 2.0]),
            "scanner.noise_hu",
        ),
        (
            error(|p| {
                p.population.disease.remove(&Disease::Sah);
            }),
            "no entry for SAH",
        ),
        (
            error(|p| {
                p.population
                    .disease
                    .get_mut(&Disease::Ich)
                    .unwrap()
                    .prevalence = 0.01
            }),
            "at most that of ICH",
        ),
        (
            error(|p| {
                p.population.all = Group {
                    male: 0.5,
                    age: 98.0,
                    age_sd: 30.0,
                }
            }),
            "no age distribution on 18-99 years",
        ),
    ] {
        assert!(found.contains(words), "{found}");
    }
}
