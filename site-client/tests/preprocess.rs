//! `fmct-site preprocess` over a cohort, as a user, a scheduler and bad luck run it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{thread, time};

use assert_cmd::cargo::cargo_bin;

#[test]
fn shards_fill_one_cache_and_a_second_run_finds_everything_there() {
    let cohort = Cohort::new();
    let mut total = 0;
    for shard in 0..3 {
        let said = cohort.succeed(&["--shard", &format!("{shard}/3")]);
        total += said[0];
        assert_eq!(said[1..], [0, 0]);
    }
    assert_eq!(total, cohort.scans().len());
    assert_eq!(cohort.succeed(&[]), [0, total, 0]);
    for folder in [INPUTS, HEADS] {
        assert_eq!(cohort.entries(folder), cohort.scans(), "{folder}");
    }
    let unknown = cohort.run(&["--shard", "3/3"]);
    assert!(said(&unknown).contains("expected I/N with I from 0 to N-1"));
}

#[test]
fn a_killed_run_is_finished_by_the_next_one_and_leaves_nothing_half_written() {
    let cohort = Cohort::new();
    let mut killed = cohort.command(&["--workers", "1"]);
    let mut child = killed
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Wherever the kill falls, the outcome is the same.
    while cohort.entries(INPUTS).is_empty() && child.try_wait().unwrap().is_none() {
        thread::sleep(time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = cohort.entries(HEADS).len();
    let [stored, present, failed] = cohort.succeed(&[]);
    assert_eq!((stored + present, failed), (cohort.scans().len(), 0));
    assert!(present <= kept);
    for folder in [INPUTS, HEADS] {
        assert_eq!(cohort.entries(folder), cohort.scans(), "{folder}");
        assert_eq!(cohort.files(folder).len(), cohort.scans().len(), "{folder}");
    }
}

#[test]
fn a_vanished_and_a_broken_scan_are_named_and_the_others_go_on() {
    let cohort = Cohort::new();
    let mut scans = cohort.scans().into_iter();
    let (vanished, broken) = (scans.next().unwrap(), scans.next().unwrap());
    fs::remove_file(cohort.nifti(&vanished)).unwrap();
    let bytes = fs::read(cohort.nifti(&broken)).unwrap();
    fs::write(cohort.nifti(&broken), &bytes[..bytes.len() / 2]).unwrap();
    let output = cohort.run(&[]);
    assert!(!output.status.success());
    let (errors, count) = (said(&output), scans.len());
    for words in [
        format!("scan {vanished}: "),
        "cannot read: No such file".to_owned(),
        format!("scan {broken}: "),
        "not a usable NIfTI scan: ".to_owned(),
        format!("{count} scans preprocessed, 0 already there, 2 failed"),
    ] {
        assert!(errors.contains(&words), "{errors} does not say {words}");
    }
    assert_eq!(cohort.entries(INPUTS), scans.collect());
}

#[test]
fn a_corrupt_entry_is_made_again() {
    let cohort = Cohort::new();
    let [total, ..] = cohort.succeed(&[]);
    for folder in [INPUTS, HEADS] {
        let entry = cohort.files(folder).remove(0);
        let whole = fs::read(&entry).unwrap();
        let mut corrupt = whole.clone();
        *corrupt.last_mut().unwrap() ^= 1;
        for broken in [&corrupt[..], &whole[..100], &[]] {
            fs::write(&entry, broken).unwrap();
            assert_eq!(cohort.succeed(&[]), [1, total - 1, 0]);
            assert_eq!(cohort.succeed(&[]), [0, total, 0]);
        }
    }
}

#[test]
fn a_full_disk_ends_the_run_with_the_file_and_no_half_written_entry() {
    let cohort = Cohort::new();
    // No file may grow beyond 8 KiB.
    let mut shell = Command::new("bash");
    let command = cohort.command(&[]);
    shell.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""]);
    shell.arg(command.get_program()).args(command.get_args());
    let output = shell.output().unwrap();
    assert!(!output.status.success());
    let errors = said(&output);
    assert!(
        errors.contains(".safetensors: cannot write: File too large"),
        "{errors}"
    );
    for folder in [INPUTS, HEADS] {
        assert_eq!(cohort.files(folder), Vec::<PathBuf>::new(), "{folder}");
    }
    assert_eq!(cohort.succeed(&[])[0], cohort.scans().len());
}

#[test]
fn pictures_are_written_for_every_scan_and_for_all() {
    let cohort = Cohort::new();
    let pictures = cohort.dir.path().join("pictures");
    cohort.succeed(&["--qc", pictures.to_str().unwrap()]);
    let found = stems(&files(&pictures), "png");
    let mut expected = cohort.scans();
    expected.insert("sheet-0of1-001".to_owned());
    assert_eq!(found, expected);
}

#[test]
fn the_scheduler_examples_fill_a_cache_between_their_tasks() {
    let cohort = Cohort::new();
    let folder = cohort.path();
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let program = cargo_bin("fmct-site");
    let search = format!(
        "{}:{}",
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let run = |command: &mut Command| {
        let output = command.env("PATH", &search).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    };
    for task in 5..8 {
        run(Command::new("bash")
            .arg(deploy.join("slurm/preprocess.sbatch"))
            .arg(&folder)
            .env("SLURM_ARRAY_TASK_ID", task.to_string())
            .env("SLURM_ARRAY_TASK_MIN", "5")
            .env("SLURM_ARRAY_TASK_COUNT", "3")
            .env("SLURM_CPUS_PER_TASK", "2"));
    }
    let cache = "input-paper-training-96-v1";
    assert_eq!(cohort.entries(cache), cohort.scans());

    fs::remove_dir_all(cohort.dir.path().join("cohort/cache")).unwrap();
    let job = fs::read_to_string(deploy.join("kubernetes/preprocess-job.yaml")).unwrap();
    let start = "- exec fmct-site preprocess /cohort ";
    let line = job.lines().find_map(|line| line.trim().strip_prefix(start));
    let script = format!("exec fmct-site preprocess {folder} {}", line.unwrap());
    assert!(job.contains("completions: 8"));
    for index in 0..8 {
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]);
        run(shell.env("JOB_COMPLETION_INDEX", index.to_string()));
    }
    assert_eq!(cohort.entries(cache), cohort.scans());
}

const INPUTS: &str = "input-repo-training-16-v1";
const HEADS: &str = "head-v1";

/// Some ten coarse phantoms.
struct Cohort {
    dir: tempfile::TempDir,
}

impl Cohort {
    fn new() -> Self {
        let cohort = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let phantoms = [
            "phantom",
            "--site",
            "rsna",
            "--patients",
            "9",
            "--seed",
            "2",
        ];
        let mut command = Command::new(cargo_bin("fmct-site"));
        command
            .args(phantoms)
            .args(["--matrix", "32", "--out", &cohort.path()]);
        assert!(command.output().unwrap().status.success());
        cohort
    }

    fn path(&self) -> String {
        self.dir.path().join("cohort").to_str().unwrap().to_owned()
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin("fmct-site"));
        command.args([
            "preprocess",
            &self.path(),
            "--preset",
            "repo",
            "--size",
            "16",
        ]);
        command.args(more);
        command
    }

    fn run(&self, more: &[&str]) -> Output {
        self.command(more).output().unwrap()
    }

    /// Scans preprocessed, already there, failed.
    fn succeed(&self, more: &[&str]) -> [usize; 3] {
        let output = self.run(more);
        assert!(output.status.success(), "{}", said(&output));
        let said = String::from_utf8(output.stdout).unwrap();
        let numbers = said.split(|c: char| !c.is_ascii_digit());
        let numbers: Vec<usize> = numbers.filter_map(|text| text.parse().ok()).collect();
        numbers.try_into().unwrap()
    }

    /// The scans of the table.
    fn scans(&self) -> BTreeSet<String> {
        let table = fs::read_to_string(self.dir.path().join("cohort/scans.csv")).unwrap();
        let first = |line: &str| line.split(',').next().unwrap().to_owned();
        table.lines().skip(1).map(first).collect()
    }

    fn nifti(&self, scan: &str) -> PathBuf {
        let folder = self.dir.path().join("cohort/nifti");
        folder.join(format!("{scan}.nii.gz"))
    }

    /// Everything in a folder of the cache.
    fn files(&self, folder: &str) -> Vec<PathBuf> {
        files(&self.dir.path().join("cohort/cache").join(folder))
    }

    /// The scans that have an entry.
    fn entries(&self, folder: &str) -> BTreeSet<String> {
        stems(&self.files(folder), "safetensors")
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn stems(files: &[PathBuf], extension: &str) -> BTreeSet<String> {
    let fitting = files
        .iter()
        .filter(|path| path.extension() == Some(OsStr::new(extension)));
    fitting
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

fn said(output: &Output) -> String {
    let parts = [&output.stdout, &output.stderr];
    parts.map(|bytes| String::from_utf8_lossy(bytes)).concat()
}
