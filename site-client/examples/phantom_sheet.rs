//! Draws the contact sheet of docs/COHORTS.md: two healthy heads, two of each disease, four patients
//! of a site as they come. Each head is another person.
//!
//! `cargo run --release -p site-client --example phantom_sheet -- docs/phantom-sheet.png`
//!
//! For a blind look, a second argument, a number, draws other patients by lot. The diseases are
//! printed, to be read after.

use std::fs::File;
use std::io::BufWriter;

use anyhow::Context as _;
use core_model::phantom::{Acquisition, Disease, DiseaseSet, Grid, Patient, Sex, Site};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Voxels a side, millimeters.
const SPACING_MM: f32 = 1.5;
/// Thickness of a slice, millimeters.
const THICKNESS_MM: f32 = 5.0;
/// Heights of the axial slices of every head, mm above the middle: cisterns, ventricles.
const HEIGHTS_MM: [f32; 2] = [-22.0, 10.0];
/// Where a head without a lesion shows its third axial slice and its coronal one.
const HEALTHY_MM: [f32; 2] = [32.0, -12.0];
const COLUMNS: usize = 3;
/// A tile: three axial slices and a coronal one.
const TILE: [usize; 2] = [4 * 112, 136];
/// Window of brain tissue, HU.
const WINDOW_HU: [f32; 2] = [0.0, 80.0];
const SEED: u64 = 24;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments
        .next()
        .context("expected the path of a PNG file")?;
    let site = Site::builtin("langone").context("a built-in site")?;
    let patients = match arguments.next() {
        Some(seed) => by_lot(seed.parse().context("expected a number to draw lots by")?),
        None => patients(&site)?,
    };
    let rows = patients.len().div_ceil(COLUMNS);
    let [width, height] = [COLUMNS * TILE[0], rows * TILE[1]];
    let mut sheet = vec![0_u8; width * height];
    for (number, patient) in patients.iter().enumerate() {
        let corner = [number % COLUMNS * TILE[0], number / COLUMNS * TILE[1]];
        let scan = patient.acquisition(&site, 0);
        for (place, pixels) in slices(patient, &scan).into_iter().enumerate() {
            for (y, line) in pixels.iter().enumerate().take(TILE[1]) {
                let start = (corner[1] + y) * width + corner[0] + place * 112;
                let length = line.len().min(112);
                sheet[start..start + length].copy_from_slice(&line[..length]);
            }
        }
    }
    let file = BufWriter::new(File::create(&path).with_context(|| path.clone())?);
    let mut encoder = png::Encoder::new(file, width as u32, height as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_compression(png::Compression::High);
    encoder.write_header()?.write_image_data(&sheet)?;
    for (number, patient) in patients.iter().enumerate() {
        let names: Vec<&str> = patient.truth().diseases.iter().map(Disease::name).collect();
        println!(
            "{:>2}  {:>2} years  {}",
            number + 1,
            patient.age(),
            names.join(" ")
        );
    }
    Ok(())
}

/// The patients of the sheet, in the order of its caption.
fn patients(site: &Site) -> anyhow::Result<Vec<Patient>> {
    let mut patients: Vec<Patient> = kinds()
        .zip(0..)
        .map(|((diseases, age), index)| {
            Patient::with_diseases(diseases, age, Sex::Male, SEED, index)
        })
        .collect();
    let crowded = Site::new(site.profile().clone().with_prevalence_floor(0.25))?;
    patients.extend((0..4).map(|index| Patient::draw(&crowded, SEED, 100 + index)));
    Ok(patients)
}

/// Other patients, each with a disease drawn by lot or none: those of a blind look.
fn by_lot(seed: u64) -> Vec<Patient> {
    let mut stream = ChaCha8Rng::seed_from_u64(seed);
    (0..24)
        .map(|index| {
            let lot = stream.random_range(0..Disease::ALL.len());
            // ICH holds others and is none of its own: its lot is that of health.
            let disease = Some(Disease::ALL[lot]).filter(|disease| *disease != Disease::Ich);
            let age = match disease {
                Some(Disease::Adrd) => stream.random_range(70..90),
                _ => stream.random_range(30..80),
            };
            Patient::with_diseases(disease.into_iter().collect(), age, Sex::Female, seed, index)
        })
        .collect()
}

/// Two healthy heads, young and old, then two of each disease, with their ages.
fn kinds() -> impl Iterator<Item = (DiseaseSet, u8)> {
    let healthy = [35, 80].map(|age| (DiseaseSet::default(), age));
    let single = Disease::ALL
        .into_iter()
        .filter(|disease| *disease != Disease::Ich)
        .flat_map(|disease| {
            let age = if disease == Disease::Adrd { 80 } else { 55 };
            [([disease].into_iter().collect(), age); 2]
        });
    healthy.into_iter().chain(single)
}

/// Seen from the feet and from the front, as radiologists do: the patient's right on the left. A
/// reader scrolls to the lesion, so the last two slices pass through its largest part.
fn slices(patient: &Patient, scan: &Acquisition) -> Vec<Vec<Vec<u8>>> {
    let [across, deep, high] = [108_usize, 136, 118];
    let s = SPACING_MM;
    let half = |n: usize| -0.5 * s * (n as f32 - 1.0);
    let [height, front] = lesion_mm(patient, scan).unwrap_or(HEALTHY_MM);
    let steps = [[s, 0.0, 0.0], [0.0, s, 0.0], [0.0, 0.0, THICKNESS_MM]];
    let gray = |hu: f32| {
        let level = ((hu - WINDOW_HU[0]) / (WINDOW_HU[1] - WINDOW_HU[0])).clamp(0.0, 1.0);
        // 64 levels: the file is half as large, and no eye tells.
        (level * 63.0) as u8 * 4
    };
    let mut pictures: Vec<Vec<Vec<u8>>> = HEIGHTS_MM
        .into_iter()
        .chain([height])
        .map(|z| {
            let grid = Grid::new([across, deep, 1], [half(across), half(deep), z], steps);
            let hu = patient.render(scan, &grid);
            let line = |y: usize| (0..across).rev().map(|x| gray(hu[x * deep + y])).collect();
            (0..deep).rev().map(line).collect()
        })
        .collect();
    let steps = [[s, 0.0, 0.0], [0.0, THICKNESS_MM, 0.0], [0.0, 0.0, s]];
    let grid = Grid::new([across, 1, high], [half(across), front, -82.0], steps);
    let hu = patient.render(scan, &grid);
    let line = |z: usize| (0..across).rev().map(|x| gray(hu[x * high + z])).collect();
    pictures.push((0..high).rev().map(line).collect());
    pictures
}

/// Height and depth of the axial and the coronal slice with most of a lesion, mm.
fn lesion_mm(patient: &Patient, scan: &Acquisition) -> Option<[f32; 2]> {
    const STEP_MM: f32 = 4.0;
    let [x, y, z] = [40_usize, 50, 40];
    let origin = [x, y, z].map(|n| -0.5 * STEP_MM * (n as f32 - 1.0));
    let steps = [
        [STEP_MM, 0.0, 0.0],
        [0.0, STEP_MM, 0.0],
        [0.0, 0.0, STEP_MM],
    ];
    let mask = patient.render_mask(scan, &Grid::new([x, y, z], origin, steps));
    let (mut by_height, mut by_depth) = (vec![0; z], vec![0; y]);
    for (at, _) in mask.iter().enumerate().filter(|(_, code)| **code > 0) {
        by_height[at % z] += 1;
        by_depth[at / z % y] += 1;
    }
    let most = |counts: &[usize]| {
        let (at, count) = counts.iter().enumerate().max_by_key(|(_, count)| **count)?;
        (*count > 0).then_some(at as f32 * STEP_MM)
    };
    Some([origin[2] + most(&by_height)?, origin[1] + most(&by_depth)?])
}
