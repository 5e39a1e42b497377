//! A phantom cohort on disk behaves as a hospital's does, and better: its truth is known.

use core_model::phantom::{RecordNoise, builtin_profile};

use super::super::{Definitions, LabelWindow, Mapping, Records, from_records};
use super::*;

fn plan(patients: u64, noise: RecordNoise) -> PhantomPlan {
    let mut profile = builtin_profile("longisland")
        .unwrap()
        .with_prevalence_floor(0.2);
    profile.records = noise;
    PhantomPlan {
        site: Site::new(profile).unwrap(),
        patients,
        first: 0,
        seed: 8,
        format: FileFormat::Nifti,
        grid: Some(8),
        matrix: 64,
        records: vec![RecordFormat::Plain, RecordFormat::Omop, RecordFormat::Fhir],
        masks: false,
    }
}

fn labels(folder: &Path, format: RecordFormat, window: LabelWindow) -> LabelTable {
    let name = match format {
        RecordFormat::Plain => "plain",
        RecordFormat::Omop => "omop",
        RecordFormat::Fhir => "fhir",
    };
    let scans = scans::read(&folder.join("scans.csv")).unwrap();
    let folder = folder.join("ehr").join(name);
    let mapping = Mapping::default();
    assert_eq!(RecordFormat::detect(&folder, &mapping).unwrap(), format);
    let records = Records::read(&folder, format, &mapping).unwrap();
    assert!(records.troubles().is_empty(), "{:?}", records.troubles());
    from_records(&scans, records, &Definitions::paper(), window).0
}

#[test]
fn three_forms_of_records_give_equal_labels() {
    let folder = tempfile::tempdir().unwrap();
    let noise = RecordNoise {
        missed: 0.1,
        delayed: 0.1,
        unlisted: 0.1,
    };
    Cohort::write(&plan(80, noise), folder.path(), |_| {}).unwrap();
    for window in [LabelWindow::FromScan, LabelWindow::Centered] {
        let plain = labels(folder.path(), RecordFormat::Plain, window);
        assert_eq!(plain, labels(folder.path(), RecordFormat::Omop, window));
        assert_eq!(plain, labels(folder.path(), RecordFormat::Fhir, window));
    }
}

#[test]
fn records_without_errors_give_the_truth() {
    let folder = tempfile::tempdir().unwrap();
    Cohort::write(&plan(80, RecordNoise::default()), folder.path(), |_| {}).unwrap();
    let truth = LabelTable::read(&folder.path().join("truth/labels.csv")).unwrap();
    let found = labels(folder.path(), RecordFormat::Plain, LabelWindow::FromScan);
    for (row, true_row) in found.rows.iter().zip(&truth.rows) {
        assert_eq!(row.scan, true_row.scan);
        for (task, name) in found.tasks.iter().enumerate() {
            let true_task = truth.task(name).unwrap();
            assert_eq!(
                row.labels[task], true_row.labels[true_task],
                "{} {name}",
                row.scan
            );
        }
    }
    // Nothing was read wrong here, so the truth is also what a reader would write.
    assert_eq!(
        LabelTable::read(&folder.path().join("labels.csv")).unwrap(),
        truth
    );
}

#[test]
fn records_differ_from_the_truth_by_the_errors_asked_for_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let noise = RecordNoise {
        missed: 0.2,
        delayed: 0.1,
        unlisted: 0.1,
    };
    let mut plan = plan(600, noise);
    plan.records = vec![RecordFormat::Plain];
    Cohort::write(&plan, folder.path(), |_| {}).unwrap();
    let truth = LabelTable::read(&folder.path().join("truth/labels.csv")).unwrap();
    let found = labels(folder.path(), RecordFormat::Plain, LabelWindow::FromScan);
    let (mut lost, mut positive, mut unlabeled) = (0.0, 0.0, 0.0);
    // Kinds that no other code implies: ICH is implied by IPH and IVH.
    let tasks = [
        "Tumor", "HCP", "Edema", "ADRD", "IPH", "IVH", "SDH", "EDH", "SAH",
    ];
    for (row, true_row) in found.rows.iter().zip(&truth.rows) {
        if row.labels[0].is_none() {
            assert!(row.labels.iter().all(Option::is_none));
            unlabeled += 1.0;
            continue;
        }
        for task in tasks {
            let is = true_row.labels[truth.task(task).unwrap()] == Some(true);
            let seen = row.labels[found.task(task).unwrap()] == Some(true);
            assert!(is || !seen, "{} {task}: positive out of nothing", row.scan);
            positive += f64::from(u8::from(is));
            lost += f64::from(u8::from(is && !seen));
        }
    }
    let lost = lost / positive;
    assert!(
        (lost - 0.3).abs() < 0.05,
        "{lost} of positives lost, 0.3 asked for"
    );
    let unlabeled = unlabeled / found.rows.len() as f64;
    assert!(
        (unlabeled - 0.1).abs() < 0.05,
        "{unlabeled} of scans unlabeled, 0.1 asked for"
    );
    assert!(
        !folder.path().join("labels.csv").exists(),
        "labels are derived, not given"
    );
}

#[test]
fn the_same_plan_writes_the_same_bytes_on_any_number_of_threads() {
    let bytes = |threads: usize| {
        let folder = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let plan = plan(12, RecordNoise::default());
        pool.install(|| Cohort::write(&plan, folder.path(), |_| {}))
            .unwrap();
        let mut files: Vec<(PathBuf, Vec<u8>)> = walkdir::WalkDir::new(folder.path())
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| {
                let path = entry.path().strip_prefix(folder.path()).unwrap().to_owned();
                (path, fs::read(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    };
    assert_eq!(bytes(1), bytes(3));
}

#[test]
fn a_dicom_slice_holds_the_voxels_where_its_header_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(1, RecordNoise::default());
    (plan.format, plan.grid, plan.records) = (FileFormat::Dicom, None, Vec::new());
    Cohort::write(&plan, folder.path(), |_| {}).unwrap();

    let patient = Patient::draw(&plan.site, plan.seed, 0);
    let scan = patient.acquisition(&plan.site, 0);
    let grid = patient.scanner_grid(&scan, plan.matrix);
    let voxels = patient.render(&scan, &grid);
    let [nx, ny, nz] = grid.shape();
    let affine = grid.affine();
    let series = folder
        .path()
        .join("dicom/longisland-000000/longisland-000000-0");
    assert_eq!(fs::read_dir(&series).unwrap().count(), nz);
    let slice = nz / 2;
    let object = dicom_object::open_file(series.join(format!("{:04}.dcm", slice + 1))).unwrap();
    let numbers = |name: &str| {
        object
            .element_by_name(name)
            .unwrap()
            .to_multi_float64()
            .unwrap()
    };
    let (position, orientation) = (
        numbers("ImagePositionPatient"),
        numbers("ImageOrientationPatient"),
    );
    let spacing = numbers("PixelSpacing");
    let pixels = object
        .element_by_name("PixelData")
        .unwrap()
        .to_multi_int::<u16>()
        .unwrap();
    for (row, column) in [(0, 0), (ny / 2, nx / 2), (ny / 3, nx - 2)] {
        // DICOM's axes: left, posterior, superior.
        let place: Vec<f64> = (0..3)
            .map(|axis| {
                position[axis]
                    + orientation[axis] * spacing[1] * column as f64
                    + orientation[3 + axis] * spacing[0] * row as f64
            })
            .collect();
        let (i, j) = (nx - 1 - column, ny - 1 - row);
        let index = [i as f64, j as f64, slice as f64, 1.0];
        for (axis, sign) in [(0, -1.0), (1, -1.0), (2, 1.0)] {
            let expected: f64 = affine[axis].iter().zip(index).map(|(a, x)| a * x).sum();
            assert!((sign * place[axis] - expected).abs() < 0.01, "axis {axis}");
        }
        let expected = voxels[(i * ny + j) * nz + slice]
            .round()
            .clamp(-1024.0, 3071.0);
        assert_eq!(f32::from(pixels[row * nx + column]) - 1024.0, expected);
    }
}

#[test]
fn plans_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (change, words) in [
        (
            (|p| p.patients = 0) as fn(&mut PhantomPlan),
            "phantom: patients: 0, expected 1 or more",
        ),
        (|p| p.grid = Some(4), "phantom: grid: 4, expected 8 to 256"),
        (|p| p.format = FileFormat::Dicom, "expected NIfTI"),
        (|p| p.matrix = 5000, "phantom: matrix: 5000"),
    ] {
        let mut plan = plan(1, RecordNoise::default());
        change(&mut plan);
        let error = Cohort::write(&plan, folder.path(), |_| {})
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}
