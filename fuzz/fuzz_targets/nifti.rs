//! NIfTI: any bytes, as one file and as both halves of a pair, give a finite volume or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use site_client::ingest::nifti;

/// What `--max-voxels` would say.
const MAX_VOXELS: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let Ok(scan) = nifti::read_bytes(bytes, Some(bytes), MAX_VOXELS) else {
        return;
    };
    assert!(scan.header.voxels() <= MAX_VOXELS);
    let slabs = nifti::read_ras_bytes(bytes, Some(bytes), MAX_VOXELS);
    if let Ok(volume) = scan.to_ras() {
        assert!(slabs.is_ok_and(|slabs| slabs == volume));
        assert_eq!(volume.voxels_hu().len(), scan.header.voxels());
        assert!(volume.voxels_hu().iter().all(|hu| hu.is_finite()));
    }
});
