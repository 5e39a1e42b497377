//! Draws the contact sheet of docs/COHORTS.md: two healthy heads, two of each disease, four patients
//! of a site as they come.
//!
//! `cargo run --release -p site-client --example phantom_sheet -- docs/phantom-sheet.png`

use std::fs::File;
use std::io::BufWriter;

use anyhow::Context as _;
use core_model::phantom::{Acquisition, Disease, DiseaseSet, Grid, Patient, Sex, Site};

/// Voxels a side, millimeters.
const SPACING_MM: f32 = 1.5;
/// Heights of the axial slices, mm above the middle of the head.
const HEIGHTS_MM: [f32; 3] = [-22.0, 10.0, 32.0];
/// Where the coronal slice lies, mm before the middle.
const CORONAL_MM: f32 = -12.0;
const COLUMNS: usize = 3;
/// A tile: three axial slices and a coronal one.
const TILE: [usize; 2] = [4 * 112, 136];
/// Window of brain tissue, HU.
const WINDOW_HU: [f32; 2] = [0.0, 80.0];
const SEED: u64 = 24;

fn main() -> anyhow::Result<()> {
    let path = std::env::args()
        .nth(1)
        .context("expected the path of a PNG file")?;
    let site = Site::builtin("langone").context("a built-in site")?;
    let mut patients = Vec::new();
    for index in 0..2 {
        let age = [35, 80][index as usize];
        patients.push(Patient::with_diseases(
            DiseaseSet::default(),
            age,
            Sex::Female,
            SEED,
            index,
        ));
    }
    for disease in Disease::ALL
        .into_iter()
        .filter(|disease| *disease != Disease::Ich)
    {
        for index in 0..2 {
            let diseases = [disease].into_iter().collect();
            let age = if disease == Disease::Adrd { 80 } else { 55 };
            patients.push(Patient::with_diseases(
                diseases,
                age,
                Sex::Male,
                SEED,
                10 + index,
            ));
        }
    }
    let crowded = Site::new(site.profile().clone().with_prevalence_floor(0.25))?;
    patients.extend((0..4).map(|index| Patient::draw(&crowded, SEED, 100 + index)));

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

/// Seen from the feet and from the front, as radiologists do: the patient's right on the left.
fn slices(patient: &Patient, scan: &Acquisition) -> Vec<Vec<Vec<u8>>> {
    let [across, deep, high] = [108_usize, 136, 118];
    let s = SPACING_MM;
    let half = |n: usize| -0.5 * s * (n as f32 - 1.0);
    let steps = [[s, 0.0, 0.0], [0.0, s, 0.0], [0.0, 0.0, 5.0]];
    let gray = |hu: f32| {
        let level = ((hu - WINDOW_HU[0]) / (WINDOW_HU[1] - WINDOW_HU[0])).clamp(0.0, 1.0);
        // 64 levels: the file is half as large, and no eye tells.
        (level * 63.0) as u8 * 4
    };
    let mut pictures: Vec<Vec<Vec<u8>>> = HEIGHTS_MM
        .iter()
        .map(|&z| {
            let grid = Grid::new([across, deep, 1], [half(across), half(deep), z], steps);
            let hu = patient.render(scan, &grid);
            let line = |y: usize| (0..across).rev().map(|x| gray(hu[x * deep + y])).collect();
            (0..deep).rev().map(line).collect()
        })
        .collect();
    let steps = [[s, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, s]];
    let grid = Grid::new([across, 1, high], [half(across), CORONAL_MM, -82.0], steps);
    let hu = patient.render(scan, &grid);
    let line = |z: usize| (0..across).rev().map(|x| gray(hu[x * high + z])).collect();
    pictures.push((0..high).rev().map(line).collect());
    pictures
}
