//! Runs a plan: skips what is done, goes on where a crash stopped, logs each step to its folder.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use transport::FileLock;

use super::{ReproduceError, Step, Study};
use crate::heap;
use crate::report::RunInfo;
use crate::train::pretrain::CHECKPOINT;

/// What a step's folder says about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum State {
    /// Not begun, or begun with other settings.
    New,
    /// Begun with these settings and not finished.
    Begun,
    /// Finished with these settings, in so many seconds.
    Done {
        /// Wall-clock seconds it took.
        seconds: f64,
    },
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// Done before.
    Skipped,
    /// Begun now.
    Started,
    /// Done now, in so many seconds.
    Finished {
        /// Wall-clock seconds it took.
        seconds: f64,
    },
}

/// The note in a step's folder.
#[derive(Serialize, Deserialize)]
struct Note {
    digest: String,
    seconds: Option<f64>,
}

/// The state of each step of the study in `out`.
pub fn state(study: &Study, out: &Path) -> Vec<State> {
    let digests = study.digests();
    study
        .steps()
        .iter()
        .map(|step| step_state(&out.join(&step.name), digests[&*step.name]))
        .collect()
}

/// Runs what is not done, one step after the other, by `program`, and tells `report` about each.
///
/// # Errors
/// The first step that fails; those before it stay done.
pub fn run(
    study: &Study,
    out: &Path,
    program: &Path,
    mut report: impl FnMut(&Step, Outcome),
) -> Result<(), ReproduceError> {
    fs::create_dir_all(out).map_err(at(out))?;
    let lock = lock(out)?;
    for step in study.steps() {
        let folder = out.join(&step.name);
        // Asked for when its turn comes: a step before it may have made a table it reads.
        let digest = study.digests()[&*step.name];
        let state = step_state(&folder, digest);
        if let State::Done { .. } = state {
            report(step, Outcome::Skipped);
            continue;
        }
        // Only pre-training keeps checkpoints; the other steps begin anew.
        let resume = state == State::Begun
            && step.arguments[0] == "pretrain"
            && folder.join(CHECKPOINT).exists();
        if !resume && folder.exists() {
            fs::remove_dir_all(&folder).map_err(at(&folder))?;
        }
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        report(step, Outcome::Started);
        write_note(&folder, digest, None)?;
        let started = Instant::now();
        execute(step, out, program, resume, &lock)?;
        if let Some(info) = &step.info {
            let path = folder.join("run.toml");
            let text = run_toml(info, &folder)?;
            fs::write(&path, text).map_err(at(&path))?;
        }
        let seconds = started.elapsed().as_secs_f64();
        write_note(&folder, digest, Some(seconds))?;
        report(step, Outcome::Finished { seconds });
    }
    Ok(())
}

/// Keeps a second study out of the folder until it is dropped.
///
/// A step holds the lock too, as its standard input: killing the study leaves its step running, and
/// the next one must not begin while that still writes.
fn lock(out: &Path) -> Result<FileLock, ReproduceError> {
    let path = out.join("lock");
    let file = File::create(&path).map_err(at(&path))?;
    FileLock::take(file).map_err(|error| match error {
        TryLockError::WouldBlock => ReproduceError::Locked {
            path: out.to_owned(),
        },
        TryLockError::Error(source) => ReproduceError::Io { path, source },
    })
}

fn execute(
    step: &Step,
    out: &Path,
    program: &Path,
    resume: bool,
    lock: &FileLock,
) -> Result<(), ReproduceError> {
    let log = out.join(&step.name).join("output.log");
    let file = File::create(&log).map_err(at(&log))?;
    let copy = file.try_clone().map_err(at(&log))?;
    let held = lock.share().map_err(at(out))?;
    let mut command = Command::new(program);
    for argument in &step.arguments {
        command.arg(argument.replace("{out}", &out.to_string_lossy()));
    }
    if resume {
        command.arg("--resume");
    }
    command.stdin(held).stdout(file).stderr(copy);
    let status = heap::keep(&mut command).status().map_err(at(program))?;
    if status.success() {
        Ok(())
    } else {
        Err(ReproduceError::Step {
            step: step.name.clone(),
            status,
            log,
        })
    }
}

/// `[run]` for the report, and the training command's resolved configuration below it.
fn run_toml(info: &RunInfo, folder: &Path) -> Result<String, ReproduceError> {
    #[derive(Serialize)]
    struct RunFile {
        run: RunInfo,
        #[serde(skip_serializing_if = "Option::is_none")]
        config: Option<toml::Table>,
    }
    let path = folder.join("config.toml");
    let mut run = info.clone();
    let config: Option<toml::Table> = match fs::read_to_string(&path) {
        Ok(text) => Some(toml::from_str(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(at(path)(error)),
    };
    // Ablations are told apart by what the model was, not by what a folder is called.
    if let Some(model) = config.as_ref().and_then(|config| config.get("model")) {
        let count = |key: &str| model.get(key)?.as_integer()?.try_into().ok();
        (run.channels, run.patch) = (count("channels"), count("patch"));
    }
    toml::to_string(&RunFile { run, config }).map_err(|error| at(folder)(io::Error::other(error)))
}

fn step_state(folder: &Path, digest: blake3::Hash) -> State {
    let note = fs::read(folder.join(NOTE)).ok();
    let note: Option<Note> = note.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    match note {
        Some(note) if note.digest == digest.to_hex().as_str() => match note.seconds {
            Some(seconds) => State::Done { seconds },
            None => State::Begun,
        },
        _ => State::New,
    }
}

/// The note appears whole: a half-written one would count as another step's.
fn write_note(
    folder: &Path,
    digest: blake3::Hash,
    seconds: Option<f64>,
) -> Result<(), ReproduceError> {
    let (path, partial) = (folder.join(NOTE), folder.join("partial-step.json"));
    let note = Note {
        digest: digest.to_hex().to_string(),
        seconds,
    };
    let bytes = serde_json::to_vec(&note).map_err(|error| at(&path)(error.into()))?;
    fs::write(&partial, bytes).map_err(at(&partial))?;
    fs::rename(&partial, &path).map_err(at(&path))
}

fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ReproduceError {
    let path = path.into();
    |source| ReproduceError::Io { path, source }
}

const NOTE: &str = "step.json";

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::reproduce::StudyConfig;

    /// A program that notes its arguments, and fails where the folder's parent holds `fail-NAME`.
    fn program(folder: &Path) -> PathBuf {
        let path = folder.join("program.sh");
        let script = "#!/bin/sh\necho \"$*\" >> \"$(dirname \"$0\")/calls\"\n\
                      [ ! -e \"$(dirname \"$0\")/fail-$1\" ]\n";
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn study() -> Study {
        let text = StudyConfig::builtin("phantom-tiny").unwrap();
        Study::new(&StudyConfig::parse(text).unwrap()).unwrap()
    }

    #[test]
    fn a_failed_step_stops_and_the_next_run_goes_on_there() {
        let folder = tempfile::tempdir().unwrap();
        let (program, out) = (program(folder.path()), folder.path().join("out"));
        let study = study();
        fs::write(folder.path().join("fail-probe"), "").unwrap();
        let error = run(&study, &out, &program, |_, _| {}).unwrap_err();
        assert!(matches!(error, ReproduceError::Step { .. }), "{error}");
        let before = fs::read_to_string(folder.path().join("calls"))
            .unwrap()
            .lines()
            .count();
        fs::remove_file(folder.path().join("fail-probe")).unwrap();
        let mut skipped = 0;
        run(&study, &out, &program, |_, outcome| {
            skipped += usize::from(outcome == Outcome::Skipped)
        })
        .unwrap();
        assert_eq!(skipped, before - 1);
        let all = fs::read_to_string(folder.path().join("calls"))
            .unwrap()
            .lines()
            .count();
        assert_eq!(all, study.steps().len() + 1);
        assert!(
            state(&study, &out)
                .iter()
                .all(|state| matches!(state, State::Done { .. }))
        );
        let run_toml = fs::read_to_string(out.join("DINO").join("run.toml")).unwrap();
        assert!(run_toml.contains("objective = \"dino\""), "{run_toml}");
    }

    #[test]
    fn a_study_that_runs_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (program, out) = (program(folder.path()), folder.path().join("out"));
        fs::create_dir(&out).unwrap();
        let held = lock(&out).unwrap();
        let error = run(&study(), &out, &program, |_, _| {}).unwrap_err();
        assert!(matches!(error, ReproduceError::Locked { .. }), "{error}");
        // As a child of another thread would hold it that has not begun its program yet.
        let copy = held.share().unwrap();
        drop(held);
        run(&study(), &out, &program, |_, _| {}).unwrap();
        drop(copy);
    }

    #[test]
    fn a_begun_step_begins_anew_but_pretraining_goes_on_from_its_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let (program, out) = (program(folder.path()), folder.path().join("out"));
        let study = study();
        let begin = |name: &str, file: &str| {
            let folder = out.join(name);
            fs::create_dir_all(&folder).unwrap();
            write_note(&folder, study.digests()[name], None).unwrap();
            fs::write(folder.join(file), "").unwrap();
        };
        begin("DINO", CHECKPOINT);
        begin("MAE", "log.jsonl");
        begin("cohort", "cohort.csv");
        assert_eq!(
            state(&study, &out)
                .iter()
                .filter(|s| **s == State::Begun)
                .count(),
            3
        );
        run(&study, &out, &program, |_, _| {}).unwrap();
        let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
        assert_eq!(calls.matches("--resume").count(), 1, "{calls}");
        assert!(out.join("DINO").join(CHECKPOINT).exists());
        assert!(!out.join("MAE").join("log.jsonl").exists());
        assert!(!out.join("cohort").join("cohort.csv").exists());
    }

    #[test]
    fn other_settings_begin_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (program, out) = (program(folder.path()), folder.path().join("out"));
        run(&study(), &out, &program, |_, _| {}).unwrap();
        let text = StudyConfig::builtin("phantom-tiny").unwrap();
        let mut config = StudyConfig::parse(text).unwrap();
        config.few_shot = false;
        let smaller = Study::new(&config).unwrap();
        // All but the report, which reads other runs now.
        let states = state(&smaller, &out);
        let (report, rest) = states.split_last().unwrap();
        assert_eq!(*report, State::New);
        assert!(rest.iter().all(|state| matches!(state, State::Done { .. })));
    }
}
