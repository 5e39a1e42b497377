//! The training commands, run as a user runs them: on phantoms, at a size that takes seconds.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, thread, time};

use assert_cmd::cargo::cargo_bin;

/// A model of 8 tokens.
const SMALL: [&str; 14] = [
    "model.input=12",
    "model.dim=12",
    "model.depth=1",
    "model.heads=2",
    "model.mlp=24",
    "dino.cube=12",
    "dino.local_cube=12",
    "dino.global_crop=[8, 12]",
    "dino.local_crop=[4, 8]",
    "mae.decoder_dim=12",
    "mae.decoder_heads=2",
    "mae.decoder_mlp=24",
    "finetune.draws=32",
    "finetune.epochs=2",
];

fn site(args: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin("fmct-site"));
    command.args(args).args(["--preset", "tiny", "--seed", "3"]);
    for setting in SMALL {
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

fn pretrain(objective: &str, out: &Path, steps: u32, more: &[&str]) -> Command {
    pretrain_on("rsna:30", objective, out, steps, more)
}

fn pretrain_on(phantoms: &str, objective: &str, out: &Path, steps: u32, more: &[&str]) -> Command {
    let out = out.to_str().expect("UTF-8");
    let mut command = site(&[
        "pretrain",
        "--objective",
        objective,
        "--phantoms",
        phantoms,
        "--out",
        out,
    ]);
    for batch in ["global_batch=8", "device_batch=8"] {
        command.args(["--set", &format!("{objective}.{batch}")]);
    }
    command.args([
        "--set",
        &format!("{objective}.length={{ steps = {steps} }}"),
    ]);
    command
        .args(["--set", "pretrain.checkpoint_every=1"])
        .args(more);
    command
}

#[test]
fn a_run_killed_at_some_step_and_resumed_ends_in_the_same_bytes() {
    // After so many logged steps, and wherever the next one stands by then.
    for (objective, after) in [("mae", 17), ("dino", 6)] {
        let dir = tempfile::tempdir().unwrap();
        let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
        succeed(pretrain(objective, &whole, 40, &[]));
        let mut running = pretrain(objective, &killed, 40, &["--set", "pretrain.log_every=1"]);
        let mut child = running
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let logged =
            || fs::read_to_string(killed.join("log.jsonl")).map_or(0, |log| log.lines().count());
        while logged() < after && child.try_wait().unwrap().is_none() {
            thread::sleep(time::Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            !killed.join("backbone.safetensors").exists(),
            "{objective}: killed before its end"
        );
        succeed(pretrain(objective, &killed, 40, &["--resume"]));
        for file in ["last.safetensors", "backbone.safetensors", "config.toml"] {
            let read = |dir: &Path| fs::read(dir.join(file)).unwrap();
            assert!(read(&whole) == read(&killed), "{objective}: {file} differs");
        }
        let again = fail(pretrain(objective, &whole, 40, &[]));
        assert!(again.contains("belongs to an earlier run"), "{again}");
    }
}

#[test]
fn a_full_disk_at_a_checkpoint_warns_and_leaves_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let mut command = pretrain("mae", &out, 4, &[]);
    succeed(command);
    let old = fs::read(out.join("last.safetensors")).unwrap();
    // No file may grow beyond 8 KiB: the log still fits, a checkpoint does not.
    command = pretrain("mae", &out, 8, &["--resume"]);
    let resumed = fail(limited(&command));
    assert!(
        resumed.contains("configuration"),
        "another length is another run: {resumed}"
    );
    assert!(fs::read(out.join("last.safetensors")).unwrap() == old);

    // A run that was stopped goes on, and what it goes on from outlives the full disk.
    let half = dir.path().join("half");
    let mut child = pretrain("mae", &half, 60, &["--set", "pretrain.log_every=1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while steps(&half).len() < 5 && child.try_wait().unwrap().is_none() {
        thread::sleep(time::Duration::from_millis(1));
    }
    let id = child.id().to_string();
    succeed({
        let mut signal = Command::new("kill");
        signal.args(["-TERM", &id]);
        signal
    });
    assert_eq!(child.wait().unwrap().code(), Some(75), "stopped, not done");
    assert!(!half.join("backbone.safetensors").exists());
    let old = fs::read(half.join("last.safetensors")).unwrap();
    let errors = fail(limited(&pretrain("mae", &half, 60, &["--resume"])));
    assert!(
        errors.contains("no checkpoint; the previous one is intact"),
        "{errors}"
    );
    assert!(errors.contains("step 60/60"), "{errors}");
    assert!(fs::read(half.join("last.safetensors")).unwrap() == old);
    succeed(pretrain(
        "mae",
        &half,
        60,
        &["--resume", "--set", "pretrain.log_every=1"],
    ));
    assert_eq!(
        steps(&half),
        (1..=60).collect::<Vec<u64>>(),
        "each step once"
    );

    let fresh = dir.path().join("fresh");
    let errors = fail(limited(&pretrain("mae", &fresh, 3, &[])));
    assert!(
        errors.contains("no checkpoint; the previous one is intact"),
        "{errors}"
    );
    assert!(
        errors.contains("step 3/3"),
        "the run went on to its end: {errors}"
    );
    assert!(!fresh.join("last.safetensors").exists());
    assert!(!fresh.join("last.safetensors.partial").exists());
}

/// The steps in a run's log.
fn steps(run: &Path) -> Vec<u64> {
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap_or_default();
    log.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|line| line["step"].as_u64())
        .collect()
}

/// The same command where files may not grow beyond 8 KiB.
fn limited(command: &Command) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""]);
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

#[test]
fn pre_training_fine_tuning_probing_few_shots_and_evaluation_fit_together() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    succeed(pretrain("mae", &dir.path().join("mae"), 3, &[]));
    let phantoms = [
        "--phantoms",
        "rsna:200",
        "--prevalence-floor",
        "0.3",
        "--tasks",
        "SDH",
    ];
    let from = path("mae");

    let mut tuned = site(&["finetune", "--from", &from, "--out", &path("tuned")]);
    tuned
        .args(phantoms)
        .args(["--external-phantoms", "cq500:60"]);
    let printed = succeed(tuned);
    assert!(printed.contains("validation AUC"), "{printed}");
    let table = fs::read_to_string(path("tuned/predictions.csv")).unwrap();
    assert!(
        table.starts_with("patient,scan,site,task,label,score"),
        "{table}"
    );
    assert!(
        table.contains(",rsna,SDH,") && table.contains(",cq500,SDH,"),
        "both sites are scored"
    );

    let mut baseline = site(&["finetune", "--model", "resnet50-3d", "--from", &from]);
    baseline.args(["--out", &path("baseline")]).args(phantoms);
    let errors = fail(baseline);
    assert!(
        errors.contains("resnet50-3d trains from scratch only"),
        "{errors}"
    );

    let mut scored = Command::new(cargo_bin("fmct-site"));
    scored.args(["evaluate", "--weights", &path("tuned/SDH.safetensors")]);
    scored.args(["--out", &path("again.csv"), "--phantoms", "rsna:200"]);
    scored.args(["--prevalence-floor", "0.3"]);
    succeed(scored);
    let again = fs::read_to_string(path("again.csv")).unwrap();
    let score = |line: &str| {
        line.split(',')
            .take(6)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let rows = table.lines().skip(1).map(score);
    let internal: Vec<_> = rows.filter(|columns| columns[2] == "rsna").collect();
    let evaluated: Vec<_> = again.lines().skip(1).map(score).collect();
    assert_eq!(
        internal, evaluated,
        "a saved classifier scores as the one that was trained"
    );

    for kind in ["linear", "attentive"] {
        let out = path(kind);
        let mut probed = site(&["probe", "--kind", kind, "--from", &from, "--out", &out]);
        probed.args(phantoms);
        succeed(probed);
        assert!(Path::new(&out).join("SDH.safetensors").exists());
    }
    for classifier in ["finetune", "knn", "simpleshot", "prototypical"] {
        let out = path(classifier);
        let mut shots = site(&["few-shot", "--classifier", classifier, "--from", &from]);
        shots
            .args(["--out", &out, "--k", "4", "--repeats", "2"])
            .args(phantoms);
        let printed = succeed(shots);
        assert_eq!(printed.matches("K 4 repeat").count(), 2, "{printed}");
    }
    let out = path("more");
    let mut more = site(&["few-shot", "--classifier", "simpleshot", "--from", &from]);
    more.args(["--out", &out, "--k", "4,100", "--repeats", "1"])
        .args(phantoms);
    let output = more.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("K exceeds a class").count(), 1, "{said}");
    let table = fs::read_to_string(Path::new(&out).join("predictions.csv")).unwrap();
    assert!(
        table.contains("k100-r0"),
        "a K beyond the class is still tried: {table}"
    );
    let mut sweep = site(&[
        "sweep",
        "--out",
        &path("sweep"),
        "--set",
        "sweep.epochs=[1]",
    ]);
    sweep.args([
        "--set",
        "sweep.learning_rates=[1e-2]",
        "--set",
        "sweep.weight_decays=[1e-2]",
    ]);
    sweep.args(phantoms);
    let printed = succeed(sweep);
    assert_eq!(
        printed.matches("weight decay").count(),
        3,
        "three optimizers: {printed}"
    );
    let notes = fs::read_to_string(path("sweep/trials.jsonl")).unwrap();
    let notes: Vec<serde_json::Value> = notes
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (kept, tried) = notes.split_last().unwrap();
    assert_eq!((tried.len(), &kept["protocol"]), (3, &"sweep".into()));
    let best = tried
        .iter()
        .max_by(|a, b| {
            let auc = |note: &serde_json::Value| note["validation_auc"].as_f64().unwrap();
            auc(a).total_cmp(&auc(b))
        })
        .unwrap();
    assert_eq!(kept["validation_auc"], best["validation_auc"]);
    let config = fs::read_to_string(path("sweep/config.toml")).unwrap();
    let config: toml::Table = config.parse().unwrap();
    let optimizer = &config["finetune"]["optimizer"];
    assert_eq!(
        optimizer.as_str(),
        kept["combination"]["optimizer"].as_str()
    );
    assert_eq!(config["finetune"]["head_lr"].as_float(), Some(1e-2));

    // A rate no model survives is noted and loses; so the others are trained nevertheless.
    let mut wild = site(&["sweep", "--out", &path("wild")]);
    for setting in [
        "sweep.epochs=[1]",
        "sweep.learning_rates=[1e30, 1e-2]",
        "sweep.weight_decays=[1e-2]",
        "sweep.optimizers=['sgd']",
        "finetune.clip=0.0",
        "finetune.warmup=0.0",
    ] {
        wild.args(["--set", setting]);
    }
    wild.args(phantoms);
    let printed = succeed(wild);
    assert!(printed.contains("expected a finite number"), "{printed}");
    let notes = fs::read_to_string(path("wild/trials.jsonl")).unwrap();
    let lines: Vec<&str> = notes.lines().collect();
    assert!(
        lines.len() == 3 && lines[0].contains("\"failed\""),
        "{notes}"
    );
    assert!(
        lines[2].contains("\"sweep\"") && lines[2].contains("0.01"),
        "{notes}"
    );
}

#[test]
fn a_few_shot_study_that_is_killed_keeps_the_repeats_it_has_done() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("few");
    let mut study = site(&["few-shot", "--from", "scratch", "--k", "4"]);
    study.args(["--repeats", "1000", "--tasks", "SDH", "--out"]);
    study.arg(&out);
    study.args(["--phantoms", "rsna:200", "--prevalence-floor", "0.3"]);
    let mut child = study
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let second = said.find(|line| line.as_ref().unwrap().contains("repeat 1:"));
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "killed before its end");
    assert!(second.is_some());
    let table = fs::read_to_string(out.join("predictions.csv")).unwrap();
    assert!(table.contains("k4-r0") && table.contains("k4-r1"));
}

#[test]
fn phantoms_of_another_seed_or_prevalence_are_those_of_another_run() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    succeed(pretrain_on("rsna:30:7", "mae", &out, 3, &[]));
    let resumed = |phantoms, more: &[&str]| {
        let more = [&["--resume"][..], more].concat();
        pretrain_on(phantoms, "mae", &out, 3, &more)
    };
    let seed = fail(resumed("rsna:30:8", &[]));
    assert!(
        seed.contains("expected phantoms of rsna with seed 8,")
            && seed.contains("found phantoms of rsna with seed 7,"),
        "{seed}"
    );
    let floor = fail(resumed("rsna:30:7", &["--prevalence-floor", "0.3"]));
    assert!(
        floor.contains("expected phantoms of rsna with seed 7, least prevalence 0.3,"),
        "{floor}"
    );
    succeed(resumed("rsna:30:7", &[]));
}

#[test]
fn bad_input_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let out = out.to_str().unwrap();
    let phantoms = ["--phantoms", "rsna:40"];
    let error = |extra: &[&str]| {
        let mut command = site(&["finetune", "--from", "scratch", "--out", out]);
        command.args(phantoms).args(extra);
        fail(command)
    };
    let task = error(&["--tasks", "stroke"]);
    assert!(
        task.contains("task stroke: no such label") && task.contains("ICH"),
        "{task}"
    );
    let setting = error(&["--set", "finetune.speed=3"]);
    assert!(setting.contains("speed"), "{setting}");
    let device = error(&["--device", "tpu"]);
    assert!(device.contains("tpu"), "{device}");
    let mut missing = site(&["finetune", "--from", "nowhere.safetensors", "--out", out]);
    missing.args(phantoms);
    assert!(fail(missing).contains("nowhere.safetensors"));
    let mut none = site(&["finetune", "--from", "scratch", "--out", out]);
    none.args(["--tasks", "ICH"]);
    assert!(fail(none).contains("no scans"));
}
