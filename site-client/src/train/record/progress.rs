//! What a run tells while it goes: a bar or lines, a JSON-lines log, TensorBoard events.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::EventFile;

/// Reports of a run: to the terminal, `log.jsonl` and TensorBoard files in the run's folder.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    first: u64,
    total: u64,
    every: u64,
    sinks: Option<Sinks>,
}

#[derive(Debug)]
struct Sinks {
    log: File,
    events: EventFile,
}

impl Progress {
    /// Progress from step `first` to `total`, recorded in `dir` if one is given.
    ///
    /// What the folder's log holds of later steps is cut off: they are done again. So is a line that
    /// a kill has torn. TensorBoard is told to drop the same steps.
    ///
    /// # Errors
    ///
    /// The log or the event file cannot be made.
    pub fn start(dir: Option<&Path>, first: u64, total: u64, every: u64) -> io::Result<Self> {
        let sinks = dir.map(|dir| Sinks::open(dir, first)).transpose()?;
        let bar = io::stderr().is_terminal().then(|| {
            let style = "{bar:40} {pos}/{len} steps · {msg} · {per_sec} · {eta} left";
            // The template is a constant; a wrong one would only cost the decoration.
            let style = ProgressStyle::with_template(style)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(total)
                .with_style(style)
                .with_position(first);
            bar.reset_eta();
            bar
        });
        Ok(Self {
            bar,
            started: Instant::now(),
            first,
            total,
            every: every.max(1),
            sinks,
        })
    }

    /// Reports the end of step `step` (counted from 1) with its named figures, `loss` first.
    ///
    /// Figures go to the log and to TensorBoard at each interval; a full disk there is a warning,
    /// not the end of the run.
    pub fn step(&mut self, step: u64, figures: &[(&str, f64)]) {
        if let Some(bar) = &self.bar {
            bar.set_position(step);
        }
        if !step.is_multiple_of(self.every) && step != self.total {
            return;
        }
        let text = figures
            .iter()
            .take(2)
            .map(|(name, value)| format!("{name} {}", short(*value)));
        let text = text.collect::<Vec<_>>().join(" · ");
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None => {
                let seconds = self.started.elapsed().as_secs_f64();
                let rate = (step - self.first) as f64 / seconds.max(1e-9);
                let left = (self.total - step) as f64 / rate.max(1e-9);
                tracing::info!(
                    "step {step}/{} · {text} · {rate:.2}/s · {left:.0} s left",
                    self.total
                );
            }
        }
        if let Some(sinks) = &mut self.sinks
            && let Err(error) = sinks.write(step, figures)
        {
            tracing::warn!(%error, "the training log cannot be written");
        }
    }

    /// Removes the bar.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Four decimals, or four digits of a value that these would hide.
fn short(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.01 {
        format!("{value:.3e}")
    } else {
        format!("{value:.4}")
    }
}

/// Cuts a log back to the whole lines of the steps up to `last`.
fn cut_back(path: &Path, last: u64) -> io::Result<()> {
    let log = match fs::read(path) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let stands = |line: &&[u8]| {
        let line: Option<Value> = serde_json::from_slice(line).ok();
        let step = line.and_then(|line| line.get("step")?.as_u64());
        step.is_some_and(|step| step <= last)
    };
    let lines = log.split_inclusive(|byte| *byte == b'\n');
    let kept = lines.filter(|line| line.ends_with(b"\n")).filter(stands);
    let kept: Vec<u8> = kept.flatten().copied().collect();
    if kept == log {
        return Ok(());
    }
    // Renamed over it, so that a kill here leaves the one or the other.
    let partial = path.with_extension("partial");
    fs::write(&partial, kept)?;
    fs::rename(partial, path)
}

impl Sinks {
    fn open(dir: &Path, first: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let path = dir.join("log.jsonl");
        cut_back(&path, first)?;
        let log = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            log,
            events: EventFile::create(&dir.join("tensorboard"), first + 1)?,
        })
    }

    fn write(&mut self, step: u64, figures: &[(&str, f64)]) -> io::Result<()> {
        let mut line = Map::from_iter([("step".to_owned(), json!(step))]);
        line.extend(
            figures
                .iter()
                .map(|(name, value)| ((*name).to_owned(), json!(value))),
        );
        // One write, which a kill cannot tear.
        self.log
            .write_all(format!("{}\n", Value::Object(line)).as_bytes())?;
        self.events.scalars(step, figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_holds_one_line_per_interval_and_the_last_step() {
        let dir = tempfile::tempdir().unwrap();
        let mut progress = Progress::start(Some(dir.path()), 0, 7, 3).unwrap();
        for step in 1..=7 {
            progress.step(step, &[("loss", 1.0 / step as f64), ("lr", 1e-3)]);
        }
        progress.finish();
        let log = fs::read_to_string(dir.path().join("log.jsonl")).unwrap();
        let lines: Vec<Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(
            lines
                .iter()
                .map(|l| l["step"].as_u64().unwrap())
                .collect::<Vec<_>>(),
            [3, 6, 7]
        );
        assert_eq!(lines[0]["lr"], 1e-3);
        assert_eq!(
            fs::read_dir(dir.path().join("tensorboard"))
                .unwrap()
                .count(),
            1
        );
    }

    #[test]
    fn a_resumed_log_goes_on_from_the_checkpoint_without_what_a_kill_tore() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let whole = |steps: &[u64]| -> String {
            let line = |step| format!("{{\"loss\":0.5,\"step\":{step}}}\n");
            steps.iter().map(line).collect()
        };
        fs::write(&path, whole(&[3, 6, 9]) + "{\"loss\":0.5,\"ste").unwrap();
        let mut progress = Progress::start(Some(dir.path()), 6, 9, 3).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), whole(&[3, 6]));
        progress.step(9, &[("loss", 0.5)]);
        assert_eq!(fs::read_to_string(&path).unwrap(), whole(&[3, 6, 9]));
        drop(progress);
        Progress::start(Some(dir.path()), 0, 9, 3).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "", "a new run");
    }

    #[test]
    fn a_small_rate_is_shown_by_its_digits() {
        assert_eq!(short(1e-5), "1.000e-5");
        assert_eq!(short(0.0), "0.0000");
        assert_eq!(short(11.29874), "11.2987");
    }
}
