//! Runs a plan: skips what is done, goes on where a crash stopped, logs each step to its folder.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{ReproduceError, Step, Study};

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
    let digests = study.digests();
    for step in study.steps() {
        let folder = out.join(&step.name);
        let digest = digests[&*step.name];
        let state = step_state(&folder, digest);
        if let State::Done { .. } = state {
            report(step, Outcome::Skipped);
            continue;
        }
        if state == State::New && folder.exists() {
            fs::remove_dir_all(&folder).map_err(at(&folder))?;
        }
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        report(step, Outcome::Started);
        write_note(&folder, digest, None)?;
        let started = Instant::now();
        execute(step, out, &folder, program, state == State::Begun)?;
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

fn execute(
    step: &Step,
    out: &Path,
    folder: &Path,
    program: &Path,
    begun: bool,
) -> Result<(), ReproduceError> {
    let log = folder.join("output.log");
    let file = File::create(&log).map_err(at(&log))?;
    let copy = file.try_clone().map_err(at(&log))?;
    let mut command = Command::new(program);
    for argument in &step.arguments {
        command.arg(argument.replace("{out}", &out.to_string_lossy()));
    }
    command.arg("--out").arg(folder);
    // Only pre-training keeps checkpoints; the other steps begin anew.
    if begun && step.arguments[0] == "pretrain" && holds_checkpoint(folder) {
        command.arg("--resume");
    }
    command.stdin(Stdio::null()).stdout(file).stderr(copy);
    let status = command.status().map_err(at(program))?;
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

fn holds_checkpoint(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut names = names.map(|name| name.to_string_lossy().into_owned());
    names.any(|name| name.ends_with(".safetensors") || name.starts_with("checkpoint"))
}

/// `[run]` for the report, and the training command's resolved configuration below it.
fn run_toml(info: &crate::report::RunInfo, folder: &Path) -> Result<String, ReproduceError> {
    #[derive(Serialize)]
    struct Head<'a> {
        run: &'a crate::report::RunInfo,
    }
    let mut text = toml::to_string(&Head { run: info })
        .map_err(|error| at(folder)(io::Error::other(error)))?;
    let path = folder.join("config.toml");
    if path.exists() {
        let config = fs::read_to_string(&path).map_err(at(&path))?;
        let table: toml::Table = toml::from_str(&config)?;
        let nested = toml::Table::from_iter([("config".to_owned(), toml::Value::Table(table))]);
        let nested =
            toml::to_string(&nested).map_err(|error| at(folder)(io::Error::other(error)))?;
        text.push('\n');
        text.push_str(&nested);
    }
    Ok(text)
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
        let script = "#!/bin/sh\necho \"$1\" >> \"$(dirname \"$0\")/calls\"\n\
                      for last; do :; done\n\
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
