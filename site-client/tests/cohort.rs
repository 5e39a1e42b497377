//! A hospital's way from a PACS export to a scored test part, run as a user runs it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use assert_cmd::cargo::cargo_bin;
use site_client::cohort::LabelTable;

/// A model of 8 tokens.
const SETTINGS: [&str; 20] = [
    "model.input=12",
    "model.dim=12",
    "model.depth=1",
    "model.heads=2",
    "model.mlp=24",
    "dino.cube=16",
    "dino.local_cube=16",
    "dino.global_crop=[8, 16]",
    "dino.local_crop=[4, 8]",
    "dino.length={ steps = 2 }",
    "dino.global_batch=4",
    "dino.device_batch=4",
    "mae.decoder_dim=12",
    "mae.decoder_heads=2",
    "mae.decoder_mlp=24",
    "mae.length={ steps = 2 }",
    "mae.global_batch=4",
    "mae.device_batch=4",
    "finetune.draws=16",
    "finetune.epochs=1",
];

fn site(args: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin("fmct-site"));
    command.args(args);
    command
}

fn training(args: &[&str], geometry: &str) -> Command {
    let mut command = site(args);
    command.args(["--preset", "tiny", "--seed", "3"]);
    command.args(["--set", &format!("data.geometry={geometry}")]);
    for setting in SETTINGS {
        command.args(["--set", setting]);
    }
    command
}

fn succeed(mut command: Command) -> String {
    let output = command.output().expect("fmct-site starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn fail(mut command: Command) -> String {
    let output = command.output().expect("fmct-site starts");
    assert!(!output.status.success(), "{command:?} succeeded");
    String::from_utf8(output.stderr).expect("UTF-8")
}

/// Phantoms as DICOM, imported, labelled from their records, split and preprocessed.
struct Prepared {
    dir: tempfile::TempDir,
}

impl Prepared {
    fn new() -> Self {
        let prepared = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let (raw, cohort) = (prepared.path("raw"), prepared.path("cohort"));
        let [export, records] =
            ["dicom", "ehr/plain"].map(|part| prepared.path(&format!("raw/{part}")));
        let [scans, labels, split, link] = ["scans.csv", "labels.csv", "split.csv", "mrn.csv"]
            .map(|table| prepared.path(&format!("cohort/{table}")));
        // With a key of its own every import would deal the patients to other parts.
        let key = Path::new(&cohort).join("pseudonym.key");
        fs::create_dir(&cohort).unwrap();
        fs::write(&key, [7; 32]).unwrap();
        fs::set_permissions(key, Permissions::from_mode(0o600)).unwrap();
        for step in [
            format!(
                "phantom --site longisland --patients 12 --seed 5 --at-least 0.5 --format dicom --matrix 32 --out {raw}"
            ),
            format!("import {export} --filter none --keep-mrn --out {cohort}"),
            format!("labels --scans {scans} --ehr {records} --link {link} --out {labels}"),
            format!("split --table {labels} --stratify --out {split}"),
            format!("preprocess {cohort} --preset repo --size 12"),
            format!("preprocess {cohort} --preset paper --size 12"),
        ] {
            succeed(site(&step.split(' ').collect::<Vec<_>>()));
        }
        prepared
    }

    fn path(&self, name: &str) -> String {
        let path = self.dir.path().join(name);
        path.to_str().expect("UTF-8").to_owned()
    }

    /// The cache entries of one kind.
    fn entries(&self, kind: &str) -> Vec<PathBuf> {
        let folder = self.dir.path().join("cohort/cache").join(kind);
        let mut entries: Vec<PathBuf> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        entries
    }
}

fn tune(prepared: &Prepared, from: &str, out: &str, geometry: &str) -> Command {
    tune_for(prepared, "ICH", [from, out, geometry])
}

fn tune_for(prepared: &Prepared, tasks: &str, [from, out, geometry]: [&str; 3]) -> Command {
    let cohort = prepared.path("cohort");
    let args = [
        "finetune", "--from", from, "--tasks", tasks, "--cohort", &cohort, "--out", out,
    ];
    training(&args, geometry)
}

#[test]
fn an_export_becomes_a_pretrained_tuned_and_scored_model_and_faults_are_named() {
    let prepared = Prepared::new();
    let cohort = prepared.path("cohort");
    for (objective, geometry) in [("dino", "paper"), ("mae", "repo"), ("dino", "repo")] {
        let run = prepared.path(&format!("{objective}-{geometry}"));
        let args = [
            "pretrain",
            "--objective",
            objective,
            "--cohort",
            &cohort,
            "--out",
            &run,
        ];
        let said = succeed(training(&args, geometry));
        assert!(said.contains("done at step 2 of 2"), "{said}");
        assert!(said.contains("0 scans skipped"), "{said}");
    }
    for geometry in ["paper", "repo"] {
        let (from, tuned) = (
            prepared.path("dino-paper"),
            prepared.path(&format!("tuned-{geometry}")),
        );
        succeed(tune(&prepared, &from, &tuned, geometry));
        let written = read_table(&Path::new(&tuned).join("predictions.csv"));
        assert!(!written.is_empty() && written.iter().all(|row| row.contains(",cohort,")));
        // The same scans scored again, through the alias the tables go by.
        let (weights, again) = (
            format!("{tuned}/ICH.safetensors"),
            prepared.path("again.csv"),
        );
        let (scans, labels) = (
            format!("{cohort}/scans.csv"),
            format!("{cohort}/labels.csv"),
        );
        succeed(site(&[
            "evaluate",
            "--weights",
            &weights,
            "--scans",
            &scans,
            "--labels",
            &labels,
            "--out",
            &again,
        ]));
        assert_eq!(read_table(Path::new(&again)).len(), written.len());
    }

    an_external_site_is_tested_on_the_diseases_it_knows(&prepared);
    corrupt_entries_are_named(&prepared);
    leaks_and_foreign_patients_are_refused(&prepared);
}

/// The same scans as another site's, whose tables know one disease of two, then neither.
fn an_external_site_is_tested_on_the_diseases_it_knows(prepared: &Prepared) {
    let other = prepared.path("other");
    fs::create_dir(&other).unwrap();
    let file = |folder: &str, name: &str| prepared.path(&format!("{folder}/{name}"));
    fs::copy(file("cohort", "scans.csv"), file("other", "scans.csv")).unwrap();
    std::os::unix::fs::symlink(file("cohort", "cache"), file("other", "cache")).unwrap();
    let labels = fs::read_to_string(file("cohort", "labels.csv")).unwrap();
    let test = |unknown: &[&str], out: &str| {
        let known: String = unknown.iter().fold(labels.clone(), |labels, task| {
            labels.replacen(&format!(",{task}"), &format!(",{task}-unknown"), 1)
        });
        fs::write(file("other", "labels.csv"), known).unwrap();
        let how = ["scratch", &prepared.path(out), "repo"];
        let mut command = tune_for(prepared, "ICH,SDH", how);
        command.args(["--external-cohort", &other]);
        command
    };
    let said = succeed(test(&["SDH"], "one-known"));
    assert!(said.contains("no label of SDH"), "{said}");
    let rows = read_table(Path::new(&file("one-known", "predictions.csv")));
    let tested = |site: &str, task: &str| {
        let (site, task) = (format!(",{site},"), format!(",{task},"));
        rows.iter()
            .any(|row| row.contains(&site) && row.contains(&task))
    };
    assert!(tested("cohort", "ICH") && tested("cohort", "SDH") && tested("other", "ICH"));
    assert!(!tested("other", "SDH"));

    // So is a model of both, scored on its own.
    let two = file("other", "two.csv");
    only(&file("cohort", "labels.csv"), ["ICH", "SDH"], &two);
    let mut joint = tune_for(
        prepared,
        "all",
        ["scratch", &prepared.path("joint"), "repo"],
    );
    joint.args(["--labels", &two]);
    succeed(joint);
    let (weights, scored) = (
        file("joint", "ICH+SDH.safetensors"),
        file("joint", "other.csv"),
    );
    let evaluate = || {
        site(&[
            "evaluate",
            "--weights",
            &weights,
            "--cohort",
            &other,
            "--out",
            &scored,
        ])
    };
    let said = succeed(evaluate());
    assert!(said.contains("other: no label of SDH"), "{said}");
    let rows = read_table(Path::new(&scored));
    assert!(!rows.is_empty() && rows.iter().all(|row| row.contains(",ICH,")));

    let errors = fail(test(&["ICH", "SDH"], "none-known"));
    assert!(
        errors.contains("expected one of ICH, SDH, found none"),
        "{errors}"
    );
    let errors = fail(evaluate());
    assert!(
        errors.contains("expected one of ICH, SDH, found none"),
        "{errors}"
    );
}

/// A table of labels with two of its diseases.
fn only(table: &str, tasks: [&str; 2], out: &str) {
    let mut table = LabelTable::read(Path::new(table)).unwrap();
    let places = tasks.map(|task| table.task(task).unwrap());
    for row in &mut table.rows {
        row.labels = places.map(|place| row.labels[place]).to_vec();
    }
    table.tasks = tasks.map(str::to_owned).to_vec();
    table.write(Path::new(out)).unwrap();
}

fn corrupt_entries_are_named(prepared: &Prepared) {
    // One of twenty scans is more than one in a hundred.
    let entry = prepared.entries("input-repo-training-12-v1").remove(0);
    let scan = entry.file_stem().unwrap().to_str().unwrap().to_owned();
    let whole = fs::read(&entry).unwrap();
    let mut broken = whole.clone();
    *broken.last_mut().unwrap() ^= 1;
    fs::write(&entry, broken).unwrap();
    let errors = fail(tune(prepared, "scratch", &prepared.path("broken"), "repo"));
    assert!(
        errors.contains(&scan) && errors.contains("at most 1 %") && errors.contains("digest"),
        "{errors}"
    );
    fs::remove_file(&entry).unwrap();
    let errors = fail(tune(prepared, "scratch", &prepared.path("absent"), "repo"));
    assert!(
        errors.contains(&scan) && errors.contains("at most 1 %"),
        "{errors}"
    );
    fs::write(&entry, whole).unwrap();
    let args = [
        "pretrain",
        "--objective",
        "mae",
        "--cohort",
        &prepared.path("cohort"),
        "--out",
        &prepared.path("sized"),
        "--set",
        "model.input=18",
    ];
    let mut sized = training(&args, "repo");
    sized.args(["--set", "model.input=18"]);
    let errors = fail(sized);
    assert!(errors.contains("--preset repo --size 18"), "{errors}");
}

fn leaks_and_foreign_patients_are_refused(prepared: &Prepared) {
    let split = prepared.path("cohort/split.csv");
    let whole = fs::read_to_string(&split).unwrap();
    let (head, rest) = whole.split_once('\n').unwrap();
    let first: Vec<&str> = rest.lines().next().unwrap().split(',').collect();
    let other = if first[2] == "test" { "train" } else { "test" };
    let leak = format!("{whole}extra,{},{other}\n", first[1]);
    let foreign = whole.replacen(
        &format!("{},{}", first[0], first[1]),
        &format!("{},somebody", first[0]),
        1,
    );
    for (text, words) in [(leak, "a leak"), (foreign, "\"somebody\"")] {
        assert!(text.starts_with(head));
        fs::write(&split, text).unwrap();
        let errors = fail(tune(prepared, "scratch", &prepared.path("leaky"), "repo"));
        assert!(errors.contains(words), "{errors}");
    }
    fs::remove_file(&split).unwrap();
    let errors = fail(tune(prepared, "scratch", &prepared.path("unsplit"), "repo"));
    assert!(errors.contains("no split.csv"), "{errors}");
    fs::write(&split, whole).unwrap();
}

/// The rows of a table.
fn read_table(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().skip(1).map(str::to_owned).collect()
}
