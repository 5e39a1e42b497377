//! Every stage of the preprocessing chain against MONAI's (see `reference/preprocess`).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use core_model::ct::{Affine, Order, Preprocessing, Preset, Volume, foreground, to_1mm, to_ras};
use flate2::read::GzDecoder;
use safetensors::SafeTensors;
use serde_json::Value;

#[test]
fn every_stage_agrees_with_monai_on_the_small_cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/preprocess");
    for case in ["lps_thick", "oblique_12deg"] {
        Case::load(&folder, case).check();
    }
}

#[test]
fn every_stage_agrees_with_monai_in_all_orientations() {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/reference/full/preprocess");
    if !folder.is_dir() {
        println!("skipped: {} is absent", folder.display());
        return;
    }
    for case in [
        "ras_aniso",
        "lps_thick",
        "pir_permuted",
        "oblique_12deg",
        "iso_no_resample",
    ] {
        Case::load(&folder, case).check();
    }
}

struct Case {
    name: String,
    volume: Volume,
    expected: Vec<u8>,
    affine_1mm: Vec<Vec<f64>>,
    size: usize,
}

impl Case {
    fn load(folder: &Path, name: &str) -> Self {
        let file = |extension: &str| -> PathBuf { folder.join(format!("{name}.{extension}")) };
        let settings: Value = serde_json::from_slice(&fs::read(file("json")).unwrap()).unwrap();
        Self {
            name: name.to_owned(),
            volume: read_nifti(&file("nii.gz")),
            expected: fs::read(file("safetensors")).unwrap(),
            affine_1mm: serde_json::from_value(settings["affine_1mm"].clone()).unwrap(),
            size: settings["size"].as_u64().unwrap() as usize,
        }
    }

    fn check(&self) {
        let tensors = SafeTensors::deserialize(&self.expected).unwrap();
        let ras = to_ras(self.volume.clone());
        let has_all = tensors.tensor("ras").is_ok();
        if has_all {
            self.compare(&tensors, "ras", ras.shape(), ras.voxels_hu(), 0.0);
        }
        let at_1mm = to_1mm(ras, Preprocessing::MAX_VOXELS).unwrap();
        for (row, expected) in at_1mm.affine().rows().iter().zip(&self.affine_1mm) {
            for (value, expected) in row.iter().zip(expected) {
                assert!(
                    (value - expected).abs() < 1e-5,
                    "{}: affine {row:?}",
                    self.name
                );
            }
        }
        self.compare(
            &tensors,
            "spacing_1mm",
            at_1mm.shape(),
            at_1mm.voxels_hu(),
            0.05,
        );
        if has_all {
            let cropped = foreground(&at_1mm).unwrap();
            self.compare(
                &tensors,
                "foreground",
                cropped.shape(),
                cropped.voxels_hu(),
                0.05,
            );
        }
        for (stage, preset, order) in [
            ("repo", Preset::Repo, Order::WindowThenResize),
            ("notebook", Preset::Repo, Order::ResizeThenWindow),
            ("paper", Preset::Paper, Order::WindowThenResize),
        ] {
            let chain = Preprocessing {
                order,
                size: self.size,
                ..Preprocessing::new(preset)
            };
            let input = chain.run(self.volume.clone()).unwrap();
            let shape = [3 * self.size, self.size, self.size];
            self.compare(&tensors, stage, shape, &input.values, 1e-5);
        }
    }

    fn compare(
        &self,
        tensors: &SafeTensors<'_>,
        stage: &str,
        shape: [usize; 3],
        found: &[f32],
        tolerance: f32,
    ) {
        let tensor = tensors.tensor(stage).unwrap();
        let expected_shape: Vec<usize> = match *tensor.shape() {
            [c, x, y, z] => vec![c * x, y, z],
            ref other => other.to_vec(),
        };
        assert_eq!(shape.as_slice(), expected_shape, "{} {stage}", self.name);
        let expected = tensor
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        let worst = expected
            .zip(found)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        println!("{} {stage}: largest difference {worst:e}", self.name);
        assert!(
            worst <= tolerance,
            "{} {stage}: {worst} exceeds {tolerance}",
            self.name
        );
    }
}

/// Reads the reference scans: little-endian int16, sform, no scaling.
fn read_nifti(path: &Path) -> Volume {
    let mut bytes = Vec::new();
    GzDecoder::new(File::open(path).unwrap())
        .read_to_end(&mut bytes)
        .unwrap();
    let int16 = |at: usize| i16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
    let float = |at: usize| f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(int16(70), 4, "the reference scans hold int16");
    let shape = [42, 44, 46].map(|at| int16(at) as usize);
    let rows = [280, 296, 312].map(|row| [0, 4, 8, 12].map(|c| f64::from(float(row + c))));
    let first = float(108) as usize;
    let mut voxels = vec![0.0; shape.iter().product()];
    for x in 0..shape[0] {
        for y in 0..shape[1] {
            for z in 0..shape[2] {
                let stored = x + shape[0] * (y + shape[1] * z);
                voxels[(x * shape[1] + y) * shape[2] + z] = f32::from(int16(first + 2 * stored));
            }
        }
    }
    Volume::new(shape, Affine::new(rows).unwrap(), voxels).unwrap()
}
