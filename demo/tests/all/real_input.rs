//! Two hospitals with real scans: imported, preprocessed, federated as processes over QUIC, and the
//! exported model run on the real head. Skipped where the shared data are not beside the checkout.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use core_model::ct::{Order, Preprocessing, Preset};
use core_model::phantom::Site;
use site_client::cohort::{FileFormat, PhantomCohort, PhantomPlan};
use site_client::embed::{Volumes, embed};
use site_client::ingest::Cache;
use site_client::ingest::dicom::Filter;
use site_client::ingest::import::{Import, dicom_tree, nifti_tree};
use site_client::ingest::preprocess::{Outcome, fill};
use site_client::report::{AttentionOptions, NamedWeights, attention};
use site_client::scans::{self, Scan};
use site_client::weights::{LoadOptions, load_vit};

use crate::process::demo;

/// Heads of preset `small`, which no tensor's shape shows.
const HEADS: usize = 6;

const CHAIN: Preprocessing = Preprocessing {
    preset: Preset::Repo,
    order: Order::WindowThenResize,
    size: 48,
    max_voxels: Preprocessing::MAX_VOXELS,
};

fn shared() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/ct");
    path.is_dir().then_some(path)
}

fn import() -> Import {
    Import {
        filter: Filter::none(),
        allow_gaps: true,
        ..Import::default()
    }
}

/// The General Electric head, and the scan from jaw to skull base if it is a head.
fn north(shared: &Path, cohort: &Path) {
    let from = shared.join("neurolabusc_dcm_qa_ct/In/GE");
    let ge = dicom_tree(&from, cohort, &import(), |_| {}).unwrap();
    assert_eq!(ge.accepted, 1, "{:?}", ge.rejected);
    let headsq = nifti_tree(&shared.join("derived"), cohort, &import(), false, |_| {}).unwrap();
    assert_eq!(headsq.accepted + headsq.rejected.len(), 1);
    for rejected in &headsq.rejected {
        println!("headsq is refused: {}", rejected.message);
        assert!(!rejected.reason.is_empty());
    }
}

/// The Philips skull phantom, and simulated patients as DICOM.
fn south(shared: &Path, cohort: &Path, export: &Path) {
    let plan = PhantomPlan {
        site: Site::builtin("cq500").unwrap(),
        patients: 3,
        first: 0,
        seed: 5,
        format: FileFormat::Dicom,
        grid: None,
        matrix: 96,
        records: Vec::new(),
        masks: false,
    };
    PhantomCohort::write(&plan, export, |_| {}).unwrap();
    let from = shared.join("neurolabusc_dcm_qa_ct/In/Philips");
    let philips = dicom_tree(&from, cohort, &import(), |_| {}).unwrap();
    assert!(philips.accepted >= 1, "{:?}", philips.rejected);
    assert!(!philips.rejected.is_empty(), "a localizer is no scan");
    let phantoms = dicom_tree(&export.join("dicom"), cohort, &import(), |_| {}).unwrap();
    assert!(phantoms.accepted >= 3, "{:?}", phantoms.rejected);
}

/// Everything trains; the caches are filled.
fn prepare(cohort: &Path) -> Vec<Scan> {
    let scans = scans::read(&cohort.join(scans::FILE_NAME)).unwrap();
    let rows = scans
        .iter()
        .map(|scan| format!("{},{},train\n", scan.scan, scan.patient));
    let table: String = rows.collect();
    fs::write(
        cohort.join("split.csv"),
        format!("scan,patient,part\n{table}"),
    )
    .unwrap();
    let all: Vec<&Scan> = scans.iter().collect();
    fill(
        cohort,
        &Cache::new(cohort, CHAIN),
        &all,
        2,
        false,
        |scan, outcome, _| {
            assert!(
                matches!(outcome, Outcome::Stored),
                "{}: {outcome:?}",
                scan.scan
            );
        },
    )
    .unwrap();
    scans
}

#[test]
fn real_heads_train_in_a_federation_and_its_model_looks_at_one() {
    let Some(shared) = shared() else {
        println!("skipped: no ../shared/ct beside the checkout");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (north_cohort, south_cohort) = (data.join("north"), data.join("south"));
    north(&shared, &north_cohort);
    south(&shared, &south_cohort, &folder.path().join("export"));
    let heads = prepare(&north_cohort);
    prepare(&south_cohort);
    let ge = heads
        .iter()
        .find(|scan| scan.manufacturer.is_some())
        .unwrap();

    for objective in ["mae", "dino"] {
        let dir = folder.path().join(objective);
        let output = demo(&dir)
            .arg("--data")
            .arg(&data)
            .args([
                "--size=small",
                "--rounds=2",
                "--steps=2",
                "--batch=2",
                "--model-only",
            ])
            .arg(format!("--objective={objective}"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{objective}: {text}\n{errors}");
        let weights = dir.join("federated.safetensors");
        look_at(
            ge,
            &north_cohort,
            &weights,
            &folder.path().join(format!("look-{objective}")),
        );
    }
}

/// `embed` and `attention` of the real head.
fn look_at(scan: &Scan, cohort: &Path, weights: &Path, out: &Path) {
    let device = Device::flex();
    let options = LoadOptions {
        heads: Some(HEADS),
        ..LoadOptions::default()
    };
    let loaded = load_vit(weights, options, &device).unwrap();
    let input = Cache::new(cohort, CHAIN).input(&scan.scan).unwrap();
    let shape = vec![3, input.size, input.size, input.size];
    let volume = core_model::state::NamedTensor {
        shape,
        values: input.values,
    };
    fs::create_dir_all(out).unwrap();
    let file = out.join("volume.safetensors");
    let tensors = [("volume".to_owned(), volume)].into_iter().collect();
    site_client::weights::write(&file, &tensors, &Default::default()).unwrap();
    let volumes = Volumes::read(&file, &loaded.config).unwrap();
    let embedded = embed(&loaded.vit, &loaded.config, &volumes, true, &device);
    assert_eq!(embedded["cls"].shape, [1, 96]);
    assert_eq!(embedded["tokens"].shape, [1, 217, 96]);
    let values = embedded.values().flat_map(|tensor| &tensor.values);
    assert!(values.copied().all(f32::is_finite));
    let spread = |values: &[f32]| {
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        values
            .iter()
            .map(|value| (value - mean).abs())
            .fold(0.0, f32::max)
    };
    assert!(
        spread(&embedded["attention_distance"].values) > 0.0,
        "every token looks the same"
    );

    let options = AttentionOptions {
        preprocessing: CHAIN,
        heads: Some(HEADS),
        slices: 3,
    };
    let model = NamedWeights {
        name: "federated".to_owned(),
        path: weights.to_owned(),
    };
    let written = attention(&cohort.join(&scan.file), &[model], &options, &device, out).unwrap();
    assert!(
        written.len() >= 3
            && written
                .iter()
                .all(|path| path.metadata().unwrap().len() > 0)
    );
}
