//! Stopping on request: SIGINT and SIGTERM ask a run to save and end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, thread};

use tokio::signal::unix::{SignalKind, signal};

/// Whether a run has been asked to stop; clones share the request.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A request that only [`request`](Self::request) makes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A request that SIGINT or SIGTERM makes; a second signal ends the process at once.
    ///
    /// # Errors
    ///
    /// The system refuses the handler or its thread.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::new();
        let requested = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let context = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        drop(context);
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                runtime.block_on(async {
                    loop {
                        tokio::select! {
                            _ = interrupt.recv() => {}
                            _ = terminate.recv() => {}
                        }
                        if requested.requested() {
                            // The convention for a process ended by SIGINT.
                            std::process::exit(130);
                        }
                        tracing::warn!("stopping after this step; once more to stop at once");
                        requested.request();
                    }
                });
            })?;
        Ok(stop)
    }

    /// Asks the run to stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the run should stop.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
