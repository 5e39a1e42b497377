//! The attention overlay of a real head: the map lies where the scan lies.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use core_model::ct::Preprocessing;
use site_client::ingest::nifti;

const MODEL: &str = "[vit]
image = 48
patch = 6
channels = 3
dim = 24
depth = 2
heads = 4
mlp = 48
";

#[test]
fn the_map_of_a_tilted_head_has_the_scans_voxels_and_covers_the_head_alone() {
    let Some(folder) = shared("neurolabusc_dcm_qa_ct/In/GE") else {
        return;
    };
    let out = tempfile::tempdir().unwrap();
    let dir = |name: &str| out.path().join(name).display().to_string();
    let source = folder.display().to_string();
    // Its manufacturer is not on the list of the shipped filter.
    site(&[
        "import",
        &source,
        "--filter",
        "none",
        "--out",
        &dir("cohort"),
    ]);
    let scan = only_nifti(&out.path().join("cohort"));
    fs::write(dir("model.toml"), MODEL).unwrap();
    let weights = dir("w.safetensors");
    site(&[
        "init",
        "--model",
        &dir("model.toml"),
        "--seed",
        "7",
        "--out",
        &weights,
    ]);
    let given = format!("pretrained={weights}");
    let scan_text = scan.display().to_string();
    site(&[
        "attention",
        &scan_text,
        "--weights",
        &given,
        "--preset",
        "paper",
        "--out",
        &dir("a"),
    ]);
    let read = |path: &Path| nifti::read(path, Preprocessing::MAX_VOXELS).unwrap();
    let (scan, map) = (
        read(&scan),
        read(&out.path().join("a/attention-distance-1.nii.gz")),
    );
    assert_eq!(map.header.shape, scan.header.shape);
    // The header holds single precision.
    let affines =
        [&map, &scan].map(|file| [0, 1, 2, 3].map(|column| file.header.affine.column(column)));
    let apart = affines[0].iter().flatten().zip(affines[1].iter().flatten());
    assert!(
        apart.clone().all(|(a, b)| (a - b).abs() < 1e-3),
        "{affines:?}"
    );
    // Inside the brain the model looked, and distances are those of a 192 mm cube.
    let (values, hu) = (map.stored_hu().unwrap(), scan.stored_hu().unwrap());
    let brain = hu
        .iter()
        .zip(&values)
        .filter(|(hu, _)| (20.0..50.0).contains(*hu));
    let (seen, all) = brain.fold((0, 0), |(seen, all), (_, mm)| {
        (seen + usize::from(*mm > 10.0 && *mm < 192.0), all + 1)
    });
    assert!(all > 100_000 && seen * 100 > all * 95, "{seen} of {all}");
    for picture in ["attention.png", "cls-attention-1.png"] {
        assert!(
            fs::metadata(out.path().join("a").join(picture))
                .unwrap()
                .len()
                > 10_000
        );
    }
}

fn site(args: &[&str]) {
    Command::new(env!("CARGO_BIN_EXE_fmct-site"))
        .args(args)
        .assert()
        .success();
}

fn only_nifti(folder: &Path) -> PathBuf {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(".nii.gz") {
                found.push(path);
            }
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/ct")
        .join(path);
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}
