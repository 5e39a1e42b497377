//! DICOM: any file gives slices or a reason; any slice of it decodes into its rows and columns or is
//! refused.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use site_client::ingest::dicom;

/// What `--max-voxels` would say.
const MAX_VOXELS: usize = 1 << 18;

/// Pixels are decoded from a file, since slices name theirs.
static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("fmct-fuzz-{}.dcm", std::process::id())));

fuzz_target!(|bytes: &[u8]| {
    let Ok(slices) = dicom::read_bytes(&FILE, bytes) else {
        return;
    };
    fs::write(&*FILE, bytes).expect("the folder of temporary files can be written");
    // A single slice becomes a volume with a second one above.
    let mut both = slices.clone();
    if let [single] = &slices[..] {
        let mut above = single.clone();
        above.position[2] += 5.0;
        both.push(above);
    }
    if let Ok(volume) = dicom::assemble(both, 2, MAX_VOXELS, true) {
        assert!(volume.shape.iter().product::<usize>() <= 2 * MAX_VOXELS);
    }
});
