//! Real processes that never outlive the demo.
//!
//! A child holds the read end of a pipe from its parent as standard input. When the parent goes,
//! however it goes, the pipe closes and the child stops: see [`stop_with_parent`].

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::{Context, ensure};
use site_client::heap;

/// A running child of the demo.
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    lines: Receiver<String>,
    // Held open for the child's life; dropping it asks the child to stop.
    _lifeline: Option<ChildStdin>,
}

impl Process {
    /// Starts this very program again with other arguments; what it logs goes to `log`, what it
    /// prints can be read with [`lines`](Self::lines). It computes on `threads` threads.
    pub(crate) fn start(
        name: &str,
        arguments: &[String],
        log: &Path,
        threads: usize,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the demo's own program is not found")?;
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("{}: cannot be written", log.display()))?;
        let mut child = heap::keep(&mut Command::new(program))
            .args(arguments)
            .env("RAYON_NUM_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(output)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        let lifeline = child.stdin.take();
        let (say, lines) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if say.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self {
            name: name.to_owned(),
            log: log.to_owned(),
            child,
            lines,
            _lifeline: lifeline,
        })
    }

    /// What it printed since the last call.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Whether it has ended, and how.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end, which must be a success.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        let status = self.child.wait()?;
        ensure!(status.success(), self.failure(status));
        Ok(())
    }

    /// How it ended, and where to read why.
    pub(crate) fn failure(&self, status: ExitStatus) -> String {
        let log = self.log.display();
        format!("{} ended with {status}; its log: {log}", self.name)
    }

    /// Ends it at once, as a power cut would.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the child is already gone.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Threads for each of some processes that compute side by side.
pub(crate) fn threads_each(processes: usize) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores / processes.max(1)).max(1)
}

/// Ends this process when its parent is gone.
pub(crate) fn stop_with_parent() {
    thread::spawn(|| {
        let mut sink = [0; 64];
        loop {
            match io::stdin().read(&mut sink) {
                Ok(0) | Err(_) => std::process::exit(EXIT_ORPHANED),
                Ok(_) => {}
            }
        }
    });
}

/// Exit status of a child whose parent went away.
const EXIT_ORPHANED: i32 = 75;
