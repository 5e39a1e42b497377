//! Voxel for voxel against dcm2niix, where that is right (`../shared/ct/README.md` says where it is
//! not). Skipped where the program or the files are absent; `apt-get install dcm2niix` is the build
//! that decodes JPEG lossless rightly.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use core_model::ct::Volume;
use site_client::ingest::dicom::{self, Reason};
use site_client::ingest::nifti;

use super::{MAX_VOXELS, assemble, files, shared, volume};

#[test]
fn a_clean_series_is_the_same_volume_at_the_same_place() {
    let Some(folder) = shared("neurolabusc_dcm_qa_ct/In/Philips/S21570/S2010") else {
        return;
    };
    let Some(theirs) = converted(&folder) else {
        return;
    };
    let ours = volume(&assemble(&folder, false).unwrap());
    assert_eq!(ours.shape(), theirs.shape());
    assert_eq!(ours.shape(), [512, 512, 28]);
    same_hu(&ours, theirs.voxels_hu(), "Philips");
    let rows = ours.affine().rows().into_iter().flatten();
    for (ours, theirs) in rows.zip(theirs.affine().rows().into_iter().flatten()) {
        assert!((ours - theirs).abs() < 1e-4, "{ours} is not {theirs}");
    }
}

#[test]
fn every_transfer_syntax_that_both_decode_gives_the_same_voxels() {
    let Some(folder) = shared("cornerstone3D/packages/dicomImageLoader/testImages") else {
        return;
    };
    let mut compared = BTreeMap::new();
    for path in files(&folder) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let syntax = name
            .rsplit_once("1.2.840.10008.")
            .map_or("", |(_, uid)| uid);
        let syntax = syntax.trim_end_matches(".dcm").to_owned();
        let alone = tempfile::tempdir().unwrap();
        fs::copy(&path, alone.path().join("slice.dcm")).unwrap();
        let (Ok(slices), Some(theirs)) = (dicom::read_slices(&path), converted(alone.path()))
        else {
            continue;
        };
        // One slice is no volume: a second one above lends it a third axis.
        let mut above = slices[0].clone();
        above.position[2] += 5.0;
        let both = vec![slices[0].clone(), above];
        let ours = match dicom::assemble(both, 2, MAX_VOXELS, false) {
            Ok(assembled) => volume(&assembled),
            Err(Reason::TransferSyntax { .. }) => continue,
            Err(other) => panic!("{name}: {other}"),
        };
        let lowest: Vec<f32> = ours.voxels_hu().iter().step_by(2).copied().collect();
        let largest = largest_difference(&lowest, theirs.voxels_hu());
        compared.insert(syntax, largest);
    }
    if compared.is_empty() {
        return;
    }
    // JPEG baseline is not asserted: dcm2niix is up to 12 gray levels beside libjpeg there.
    println!("largest difference by transfer syntax, HU: {compared:?}");
    for syntax in [
        "", "1.2", "1.2.1", "1.2.2", "1.2.5", "1.2.4.57", "1.2.4.70", "1.2.4.90", "1.2.4.91",
    ] {
        assert_eq!(compared.get(syntax), Some(&0.0), "{syntax}");
    }
}

/// What dcm2niix makes of a folder: one volume in RAS, or nothing if it refuses or is absent.
fn converted(folder: &Path) -> Option<Volume> {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new("dcm2niix");
    command.args(["-z", "n", "-b", "n", "-f", "volume", "-o"]);
    command.arg(out.path()).arg(folder).stdout(Stdio::null());
    if command.stderr(Stdio::null()).status().is_err() {
        println!("skipped: dcm2niix is absent");
        return None;
    }
    let path = out.path().join("volume.nii");
    let scan = path.is_file().then(|| nifti::read(&path, MAX_VOXELS));
    Some(scan?.unwrap().to_ras().unwrap())
}

fn same_hu(ours: &Volume, theirs: &[f32], name: &str) {
    assert_eq!(largest_difference(ours.voxels_hu(), theirs), 0.0, "{name}");
}

/// Where dcm2niix keeps what lies below air, we have −1024 HU.
fn largest_difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter()
        .zip(theirs)
        .map(|(ours, theirs)| (ours - theirs.max(-1024.0)).abs())
        .fold(0.0, f32::max)
}
