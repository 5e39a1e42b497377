//! How the programs at both ends log: to standard error; results go to standard output.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Starts logging: `FMCT_LOG` filters (default `info`), `FMCT_LOG_FORMAT=json` writes JSON lines.
pub fn start() {
    let filter = EnvFilter::try_from_env("FMCT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let started = if std::env::var_os("FMCT_LOG_FORMAT").is_some_and(|format| format == "json") {
        builder.json().try_init()
    } else {
        builder
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .try_init()
    };
    // A second start (several commands in one test process) keeps the first.
    drop(started);
}
