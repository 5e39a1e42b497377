//! NIfTI reading: agreement with nibabel's rules on real files, and refusal of broken ones.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use core_model::ct::{Affine, Volume, to_ras};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use site_client::ingest::nifti::{self, NiftiError, read_bytes, read_ras_bytes};

const MAX_VOXELS: usize = 1 << 20;

#[test]
fn a_written_volume_reads_back_with_sform_and_qform() {
    let folder = tempfile::tempdir().unwrap();
    let sheared = [
        [0.5, 0.0, 0.1, -20.0],
        [0.0, -0.6, 0.4, 33.0],
        [0.0, 0.1, 2.5, 4.0],
    ];
    let voxels: Vec<f32> = (0..5 * 4 * 3).map(|i| i as f32 * 7.0 - 1024.0).collect();
    let volume = Volume::new([5, 4, 3], Affine::new(sheared).unwrap(), voxels).unwrap();
    for name in ["a b.nii.gz", "plain.nii"] {
        let path = folder.path().join(name);
        nifti::write_volume(&path, &volume).unwrap();
        let read = nifti::read(&path, MAX_VOXELS).unwrap();
        assert_eq!(read.header.datatype, nifti::Datatype::I16);
        let stored = read.as_stored().unwrap();
        assert_eq!(stored.voxels_hu(), volume.voxels_hu());
        assert_close(stored.affine(), volume.affine(), 1e-6);
    }
    // Without the sform the qform must give the axes back, right-handed or left-handed.
    for flip in [1.0, -1.0] {
        let axes = [
            [0.0, 0.0, 3.0 * flip, 1.0],
            [-0.5, 0.0, 0.0, 2.0],
            [0.0, 0.7, 0.0, 3.0],
        ];
        let affine = Affine::new(axes).unwrap();
        let rotated = Volume::new([5, 4, 3], affine, volume.voxels_hu().to_vec()).unwrap();
        let path = folder.path().join("q.nii");
        nifti::write_volume(&path, &rotated).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[254..256].fill(0);
        let read = read_bytes(&bytes, None, MAX_VOXELS).unwrap();
        assert_close(&read.header.affine, &affine, 1e-5);
    }
}

#[test]
fn both_byte_orders_both_versions_any_offset_and_gzip_members_give_the_same_voxels() {
    let voxels: Vec<i16> = (0..60).map(|i| i * 31 - 1000).collect();
    let expected = read_bytes(&nifti_1(&voxels, false, 352), None, 60).unwrap();
    let expected = expected.to_ras().unwrap();
    assert_eq!(
        expected.voxels_hu()[1],
        f32::from(voxels[12]),
        "axis 2 is contiguous in a volume"
    );
    let mut members = Vec::new();
    for part in nifti_1(&voxels, false, 352).chunks(100) {
        members.extend(gzip(part));
    }
    for bytes in [
        nifti_1(&voxels, true, 352),
        nifti_1(&voxels, false, 400),
        nifti_1(&voxels, false, 2000),
        nifti_2(&voxels, false),
        nifti_2(&voxels, true),
        gzip(&nifti_1(&voxels, true, 1024)),
        members,
    ] {
        assert_eq!(
            read_bytes(&bytes, None, 60).unwrap().to_ras().unwrap(),
            expected
        );
    }
}

#[test]
fn a_slope_of_zero_is_no_scaling_and_another_scales() {
    let mut bytes = nifti_1(&[100; 60], false, 352);
    put_f32(&mut bytes, 116, 5.0);
    let stored = |bytes: &[u8]| {
        read_bytes(bytes, None, 60)
            .unwrap()
            .as_stored()
            .unwrap()
            .at([0; 3])
    };
    assert_eq!(stored(&bytes), 100.0);
    put_f32(&mut bytes, 112, 2.0);
    assert_eq!(stored(&bytes), 205.0);
}

#[test]
fn broken_files_are_refused_with_field_rule_and_finding() {
    let good = nifti_1(&[7; 60], false, 352);
    let broken = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        let error = read_bytes(&bytes, None, MAX_VOXELS).and_then(|scan| scan.to_ras());
        format!("{:#}", anyhow::Error::from(error.unwrap_err()))
    };
    let without_sform = |at: usize, value: f32| {
        broken(&move |b| {
            b[254..256].fill(0);
            put_f32(b, at, value);
        })
    };
    let two_frames = |b: &mut Vec<u8>| {
        put_i16(b, 40, 4);
        put_i16(b, 48, 2);
    };
    for (found, expected) in [
        (
            broken(&|b| b.truncate(400)),
            "data: ends early, expected 120 bytes of voxels",
        ),
        (broken(&|b| b.truncate(100)), "expected 348 bytes of header"),
        (
            broken(&|b| put_dims(b, 10_000)),
            "dim promises 1000000000000 voxels, expected at most",
        ),
        (
            broken(&|b| put_i16(b, 44, 0)),
            "header: dim[2] is 0, expected at least 1",
        ),
        (
            broken(&|b| put_i16(b, 44, -4)),
            "header: dim[2] is -4, expected at least 1",
        ),
        (
            broken(&|b| put_i16(b, 72, 8)),
            "bitpix is 8 with datatype 4, expected",
        ),
        (
            broken(&|b| put_i16(b, 70, 128)),
            "header: datatype is 128, expected a real",
        ),
        (
            broken(&two_frames),
            "header: dim[4] is 2, expected 1: a single frame",
        ),
        (
            broken(&|b| put_f32(b, 112, f32::NAN)),
            "header: scl_slope is NaN, expected",
        ),
        (
            broken(&|b| put_f32(b, 108, 100.0)),
            "header: vox_offset is 100, expected",
        ),
        (
            broken(&|b| put_f32(b, 284, f32::NAN)),
            "sform cannot be used: affine: entry [0][1] is NaN",
        ),
        (
            broken(&|b| b[280..296].fill(0)),
            "the sform cannot be used: affine: spacing 0 mm",
        ),
        (
            without_sform(84, 0.0),
            "header: pixdim[2] is 0, expected above 0 mm",
        ),
        (
            without_sform(76, 0.5),
            "header: pixdim[0] (qfac) is 0.5, expected -1, 0 or 1",
        ),
        (
            without_sform(256, 2.0),
            "header: quatern_b, c, d is (2, 0, 0), expected a norm",
        ),
        (
            broken(&|b| b[344..348].copy_from_slice(b"ni1\0")),
            "in a separate .img file",
        ),
        (
            broken(&|b| b[..4].copy_from_slice(b"not ")),
            "header: not NIfTI-1 or NIfTI-2",
        ),
    ] {
        assert!(
            found.contains(expected),
            "{found:?} does not say {expected:?}"
        );
    }
    // A qfac of 0 reads as 1, as the standard has it.
    let mut bytes = good.clone();
    bytes[254..256].fill(0);
    put_f32(&mut bytes, 76, 0.0);
    assert!(read_bytes(&bytes, None, MAX_VOXELS).is_ok());

    let packed = gzip(&good);
    let cut = read_bytes(&packed[..packed.len() / 2], None, MAX_VOXELS).unwrap_err();
    assert!(
        matches!(cut, NiftiError::Truncated { .. } | NiftiError::Inflate(_)),
        "{cut}"
    );
}

#[test]
fn a_gzip_bomb_is_never_inflated_past_its_voxels() {
    // 64 MiB of zeros behind a header of 60 voxels: only those 60 are read.
    let mut bytes = nifti_1(&[0; 60], false, 352);
    bytes.resize(64 << 20, 0);
    assert!(read_bytes(&gzip(&bytes), None, MAX_VOXELS).is_ok());
    // A header of 1 GiB over a few bytes is refused before anything is reserved.
    let mut header = nifti_1(&[], false, 352);
    put_dims(&mut header, 800);
    let refused = read_bytes(&gzip(&header), None, 1 << 30).unwrap_err();
    assert!(
        matches!(refused, NiftiError::Truncated { part: "voxels", .. }),
        "{refused}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        rng_seed: RngSeed::Fixed(3),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_change_to_a_file_gives_a_volume_or_an_error(
        changes in prop::collection::vec((0_usize..560, any::<u8>()), 1..12),
        second_version: bool,
        compressed: bool,
    ) {
        let voxels: Vec<i16> = (0..60).collect();
        let mut bytes =
            if second_version { nifti_2(&voxels, false) } else { nifti_1(&voxels, false, 352) };
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        let bytes = if compressed { gzip(&bytes) } else { bytes };
        if let Ok(scan) = read_bytes(&bytes, Some(&bytes), 10_000) {
            let voxels = scan.header.voxels();
            prop_assert!(voxels <= 10_000);
            let whole = scan.to_ras().map_err(|error| error.to_string());
            if let Ok(volume) = &whole {
                prop_assert_eq!(volume.voxels_hu().len(), voxels);
            }
            let slabs = read_ras_bytes(&bytes, Some(&bytes), 10_000);
            prop_assert_eq!(slabs.map_err(|error| error.to_string()), whole);
        }
    }
}

#[test]
fn the_48_orientations_of_one_volume_are_the_same_bits_after_ras() {
    let images = "ct/niivue_niivue/packages/niivue/tests/images/nifti_space";
    let Some(folder) = shared(images) else { return };
    let mut volumes = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains(".nii") {
            volumes.push(nifti::read_ras(&path, MAX_VOXELS).unwrap());
        }
    }
    assert_eq!(volumes.len(), 48);
    for volume in &volumes {
        assert_eq!(volume.shape(), volumes[0].shape());
        assert_eq!(volume.voxels_hu(), volumes[0].voxels_hu());
    }
}

#[test]
fn orienting_on_the_way_is_the_same_as_reading_and_orienting() {
    let voxels: Vec<i16> = (0..60).collect();
    let mut bytes = nifti_1(&voxels, false, 352);
    for (row, values) in [[0.0, 0.0, -2.0], [0.0, 1.0, 0.0], [-3.0, 0.0, 0.0]]
        .iter()
        .enumerate()
    {
        for (column, &value) in values.iter().enumerate() {
            put_f32(&mut bytes, 280 + 16 * row + 4 * column, value);
        }
    }
    let scan = read_bytes(&bytes, None, 60).unwrap();
    let direct = scan.to_ras().unwrap();
    assert_eq!(direct, to_ras(scan.as_stored().unwrap()));
    assert_eq!(direct.shape(), [5, 4, 3]);
}

fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared")
        .join(path);
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}

fn assert_close(found: &Affine, expected: &Affine, tolerance: f64) {
    for (found, expected) in found
        .rows()
        .iter()
        .flatten()
        .zip(expected.rows().iter().flatten())
    {
        assert!(
            (found - expected).abs() <= tolerance,
            "{found} is not {expected}"
        );
    }
}

/// 3×4×5 int16 voxels with spacing 1, 2, 3 mm in both forms.
fn nifti_1(voxels: &[i16], big_endian: bool, offset: usize) -> Vec<u8> {
    let mut out = Fields {
        bytes: vec![0; offset],
        big_endian,
    };
    out.put(0, 348_i32.to_be_bytes());
    for (at, n) in [
        (40, 3),
        (42, 3),
        (44, 4),
        (46, 5),
        (70, 4),
        (72, 16),
        (252, 1),
        (254, 1),
    ] {
        out.put(at, i16::to_be_bytes(n));
    }
    let spacing = [
        (80, 1.0),
        (84, 2.0),
        (88, 3.0),
        (280, 1.0),
        (300, 2.0),
        (320, 3.0),
    ];
    for (at, x) in [(76, 1.0), (108, offset as f32)].into_iter().chain(spacing) {
        out.put(at, f32::to_be_bytes(x));
    }
    out.bytes[344..348].copy_from_slice(b"n+1\0");
    out.append(voxels)
}

fn nifti_2(voxels: &[i16], big_endian: bool) -> Vec<u8> {
    let mut out = Fields {
        bytes: vec![0; 544],
        big_endian,
    };
    out.put(0, 540_i32.to_be_bytes());
    out.bytes[4..12].copy_from_slice(b"n+2\0\r\n\x1a\n");
    out.put(12, 4_i16.to_be_bytes());
    out.put(14, 16_i16.to_be_bytes());
    for (at, n) in [(16, 3), (24, 3), (32, 4), (40, 5), (168, 544)] {
        out.put(at, i64::to_be_bytes(n));
    }
    let spacing = [
        (112, 1.0),
        (120, 2.0),
        (128, 3.0),
        (400, 1.0),
        (440, 2.0),
        (480, 3.0),
    ];
    for (at, x) in [(104, 1.0)].into_iter().chain(spacing) {
        out.put(at, f64::to_be_bytes(x));
    }
    out.put(344, 1_i32.to_be_bytes());
    out.put(348, 1_i32.to_be_bytes());
    out.append(voxels)
}

struct Fields {
    bytes: Vec<u8>,
    big_endian: bool,
}

impl Fields {
    fn put<const N: usize>(&mut self, at: usize, mut field: [u8; N]) {
        if !self.big_endian {
            field.reverse();
        }
        self.bytes[at..at + N].copy_from_slice(&field);
    }

    fn append(mut self, voxels: &[i16]) -> Vec<u8> {
        for voxel in voxels {
            let bytes = if self.big_endian {
                voxel.to_be_bytes()
            } else {
                voxel.to_le_bytes()
            };
            self.bytes.extend(bytes);
        }
        self.bytes
    }
}

fn put_i16(bytes: &mut [u8], at: usize, value: i16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

fn put_f32(bytes: &mut [u8], at: usize, value: f32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put_dims(bytes: &mut [u8], n: i16) {
    for at in [42, 44, 46] {
        put_i16(bytes, at, n);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
