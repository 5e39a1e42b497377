//! DICOM import on real files: geometry, codecs, refusals. Skipped where the files are absent.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad;
mod dcm2niix;
mod repairs;
mod series;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use core_model::ct::{Orientation, Preprocessing, Volume, to_ras};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use site_client::ingest::dicom::{self, Assembled, Filter, Flag, Reason, Slice};
use site_client::ingest::import::{Import, Summary, dicom_tree, nifti_tree};
use site_client::ingest::nifti::{self, Voxels};

const MAX_VOXELS: usize = Preprocessing::MAX_VOXELS;

#[test]
fn the_tilted_uneven_head_becomes_one_volume() {
    let Some(folder) = shared("neurolabusc_dcm_qa_ct/In/GE") else {
        return;
    };
    let head = assemble(&folder, false).unwrap();
    assert_eq!(head.flags, [Flag::Tilt, Flag::Uneven]);
    assert_eq!(head.shape[..2], [512, 512]);
    // 13 steps of 4 mm, one of 1.08 mm and 13 of 7 mm along the normal, at 4 mm.
    assert_eq!(head.shape[2], 37);
    let spacing = head.affine.spacing();
    assert!((spacing[2] - 4.217).abs() < 0.01, "{spacing:?}");
    let volume = volume(&head);
    let low = volume.voxels_hu().iter().copied().fold(f32::MAX, f32::min);
    assert_eq!(low, -1024.0, "padding of -1500 becomes air");
}

#[test]
fn a_clean_series_keeps_every_voxel_and_the_name_of_its_file_does_not_matter() {
    let Some(folder) = shared("neurolabusc_dcm_qa_ct/In/Philips/S21570/S2010") else {
        return;
    };
    let scan = assemble(&folder, false).unwrap();
    assert_eq!((scan.shape, scan.flags.len()), ([512, 512, 28], 0));
    assert!(matches!(scan.voxels, Voxels::I16(_)));
    let mut shuffled = slices(&folder);
    shuffled.reverse();
    shuffled.swap(3, 11);
    assert_eq!(
        dicom::assemble(shuffled, 2, MAX_VOXELS, false).unwrap(),
        scan
    );
}

#[test]
fn a_missing_slice_is_a_gap_unless_gaps_are_allowed_and_a_tilted_series_is_sheared() {
    let Some(folder) = shared("dicom2nifti/tests/data/failing/sliceincrement/001") else {
        return;
    };
    assert!(matches!(assemble(&folder, false), Err(Reason::Gap { .. })));
    let filled = assemble(&folder, true).unwrap();
    assert_eq!(
        (filled.shape[2], filled.flags),
        (5, vec![Flag::Gap, Flag::Uneven])
    );
    let Some(folder) = shared("dicom2nifti/tests/data/failing/gantrytilting/001") else {
        return;
    };
    let tilted = assemble(&folder, false).unwrap();
    assert_eq!(tilted.flags, [Flag::Tilt]);
    let lean: f64 = (0..3)
        .map(|row| tilted.affine.column(1)[row] * tilted.affine.column(2)[row])
        .sum();
    assert!(lean.abs() > 0.1, "rows and slices are not at right angles");
}

#[test]
fn duplicates_are_dropped_and_mixed_series_refused() {
    let Some(folder) = shared("neurolabusc_dcm_qa_ct/In/Philips/S21570/S2010") else {
        return;
    };
    let once = assemble(&folder, false).unwrap();
    let mut twice = slices(&folder);
    twice.extend(slices(&folder).into_iter().take(5));
    let found = dicom::assemble(twice, 2, MAX_VOXELS, false).unwrap();
    assert_eq!(found.flags, [Flag::Duplicates]);
    assert_eq!(found.voxels, once.voxels);
    let mut mixed = slices(&folder);
    mixed[4].size[0] += 1;
    let refused = dicom::assemble(mixed, 2, MAX_VOXELS, false).unwrap_err();
    assert_eq!(
        refused,
        Reason::Inconsistent {
            attribute: "Rows, Columns"
        }
    );
    let few = dicom::assemble(slices(&folder), 40, MAX_VOXELS, false).unwrap_err();
    assert_eq!(
        few,
        Reason::TooFewSlices {
            found: 28,
            limit: 40
        }
    );
    let large = dicom::assemble(slices(&folder), 2, 1000, false).unwrap_err();
    assert!(matches!(large, Reason::TooLarge { limit: 1000, .. }));
}

#[test]
fn multi_frame_objects_equal_their_single_frames() {
    for case in ["23x38x3", "24x38x3"] {
        let data = "QIICR_dcmqi/data/segmentations";
        let Some(single) = shared(&format!("{data}/{case}/image")) else {
            return;
        };
        let Some(multi) = shared(&format!("{data}/{case}/multiframe")) else {
            return;
        };
        let (single, multi) = (
            assemble(&single, false).unwrap(),
            assemble(&multi, false).unwrap(),
        );
        assert_eq!(single.voxels, multi.voxels, "{case}");
        assert_eq!(single.affine, multi.affine, "{case}");
    }
}

#[test]
fn every_transfer_syntax_gives_the_same_pixels_or_is_refused_by_name() {
    let Some(folder) = shared("cornerstone3D/packages/dicomImageLoader/testImages") else {
        return;
    };
    let mut decoded = BTreeMap::new();
    let mut refused = BTreeMap::new();
    for path in files(&folder) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "no-pixel-spacing.dcm" {
            let refused = dicom::read_slices(&path).unwrap_err();
            assert_eq!(refused.code(), "modality");
            continue;
        }
        let slices = match dicom::read_slices(&path) {
            Ok(slices) => slices,
            Err(Reason::TransferSyntax { name, uid }) => {
                refused.insert(uid.trim_start_matches("1.2.840.10008.").to_owned(), name);
                continue;
            }
            Err(other) => panic!("{name}: {other}"),
        };
        // One slice is no volume: a second one at the next place lends it a third axis.
        let mut next = slices[0].clone();
        next.position[2] += 5.0;
        let both = vec![slices[0].clone(), next];
        let syntax = name
            .rsplit_once("1.2.840.10008.")
            .map_or("1.2.dcm", |(_, uid)| uid);
        let syntax = syntax.trim_end_matches(".dcm").to_owned();
        match dicom::assemble(both, 2, MAX_VOXELS, false) {
            Ok(volume) => {
                decoded.insert(syntax, volume.voxels);
            }
            Err(Reason::TransferSyntax { name, .. }) => {
                refused.insert(syntax, name);
            }
            Err(other) => panic!("{name}: {other}"),
        }
    }
    println!(
        "decoded {:?}, refused {refused:?}",
        decoded.keys().collect::<Vec<_>>()
    );
    let lossless = [
        "1.2", "1.2.1", "1.2.2", "1.2.1.99", "1.2.5", "1.2.4.57", "1.2.4.70", "1.2.4.90",
    ];
    for syntax in lossless {
        assert_eq!(decoded[syntax], decoded["1.2.1"], "{syntax}");
    }
    // Two gray levels of 32.12 HU of the 8-bit picture; 5 HU of the 16-bit one.
    for (syntax, most_hu) in [("1.2.4.50", 65.0), ("1.2.4.91", 5.0)] {
        let found = largest_difference(&decoded[syntax], &decoded["1.2.1"]);
        assert!(found <= most_hu, "lossy {syntax}: {found} HU");
    }
    assert_eq!(decoded.len() + refused.len(), 15);
    for syntax in ["1.2.4.53", "1.2.4.55", "1.2.4.80", "1.2.4.81"] {
        assert!(refused.contains_key(syntax), "{syntax}");
    }
}

#[test]
fn what_is_no_head_ct_is_refused_each_with_its_own_reason() {
    let import = Import {
        filter: Filter::none(),
        ..Import::default()
    };
    let reason = |path: &str| -> Option<Vec<&'static str>> {
        let cohort = tempfile::tempdir().unwrap();
        let summary = dicom_tree(&shared(path)?, cohort.path(), &import, |_| {}).unwrap();
        assert!(summary.scans.is_empty(), "{path}");
        let mut reasons: Vec<_> = summary.rejected.iter().map(|row| row.reason).collect();
        reasons.sort_unstable();
        reasons.dedup();
        Some(reasons)
    };
    for (path, expected) in [
        ("pydicom_deid-data/deid_data/data/humans", vec!["color"]),
        (
            "neurolabusc_dcm_qa_ct/In/Philips/S21570/S1000",
            vec!["localizer", "not_image"],
        ),
        (
            "niivue_niivue/packages/niivue/tests/images/dicom",
            vec!["modality", "not_dicom"],
        ),
        ("QIICR_dcmqi/data/segmentations/ct-3slice", vec!["not_head"]),
    ] {
        if let Some(found) = reason(path) {
            assert_eq!(found, expected, "{path}");
        }
    }
    let Some(abdomen) = shared("TotalSegmentator/tests/reference_files") else {
        return;
    };
    let cohort = tempfile::tempdir().unwrap();
    let summary = nifti_tree(&abdomen, cohort.path(), &import, false, |_| {}).unwrap();
    let ct = summary
        .rejected
        .iter()
        .find(|row| row.source.ends_with("example_ct_sm.nii.gz"));
    assert_eq!(ct.unwrap().reason, "not_head", "{:?}", summary.rejected);
}

#[test]
fn an_import_writes_volumes_rows_and_reasons_and_keeps_no_identifier() {
    let Some(folder) = shared("neurolabusc_dcm_qa_ct/In/GE") else {
        return;
    };
    let cohort = tempfile::tempdir().unwrap();
    let import = Import {
        filter: Filter::none(),
        keep_mrn: true,
        ..Import::default()
    };
    let run = || -> Summary { dicom_tree(&folder, cohort.path(), &import, |_| {}).unwrap() };
    let summary = run();
    let ge = summary
        .scans
        .iter()
        .find(|scan| scan.flags == "tilt;uneven")
        .unwrap();
    assert_eq!(
        (ge.rows, ge.columns, ge.slices, ge.kvp),
        (512, 512, 37, Some(120.0))
    );
    assert_eq!(ge.body_part.as_deref(), Some("HEAD"));
    let volume = nifti::read(&cohort.path().join(&ge.file), MAX_VOXELS)
        .unwrap()
        .to_ras()
        .unwrap();
    assert!(Orientation::of(volume.affine()).is_ras());
    let table = fs::read_to_string(cohort.path().join("scans.csv")).unwrap();
    for slice in slices(&shared("neurolabusc_dcm_qa_ct/In/GE").unwrap())
        .iter()
        .take(1)
    {
        assert!(!table.contains(&slice.series));
        assert!(slice.patient.id.is_empty() || !table.contains(&slice.patient.id));
    }
    for private in ["pseudonym.key", "mrn.csv", "rejected.csv"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(cohort.path().join(private))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{private}");
    }
    assert_eq!(
        run().scans,
        summary.scans,
        "a second import changes nothing"
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        rng_seed: RngSeed::Fixed(5),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_change_to_a_file_gives_slices_or_a_reason(
        changes in prop::collection::vec((128_usize..3012, any::<u8>()), 1..20),
        length in 0_usize..3012,
    ) {
        let path = "QIICR_dcmqi/data/segmentations/23x38x3/image/IMG0001.dcm";
        let Some(path) = shared(path) else { return Ok(()) };
        let mut bytes = fs::read(&path).unwrap();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.truncate(if length < 200 { length } else { bytes.len() });
        if let Ok(slices) = dicom::read_bytes(&path, &bytes) {
            prop_assert!(!slices.is_empty());
        }
    }
}

fn assemble(folder: &Path, allow_gaps: bool) -> Result<Assembled, Reason> {
    dicom::assemble(slices(folder), 2, MAX_VOXELS, allow_gaps)
}

fn slices(folder: &Path) -> Vec<Slice> {
    files(folder)
        .iter()
        .filter_map(|path| dicom::read_slices(path).ok())
        .flatten()
        .collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

fn volume(assembled: &Assembled) -> Volume {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.nii");
    nifti::write(&path, assembled.shape, &assembled.voxels, &assembled.affine).unwrap();
    to_ras(nifti::read(&path, MAX_VOXELS).unwrap().as_stored().unwrap())
}

fn largest_difference(a: &Voxels, b: &Voxels) -> f32 {
    let hu = |voxels: &Voxels| -> Vec<f32> {
        match voxels {
            Voxels::I16(hu) => hu.iter().map(|&hu| hu.into()).collect(),
            Voxels::F32(hu) => hu.clone(),
        }
    };
    hu(a)
        .iter()
        .zip(hu(b))
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
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
