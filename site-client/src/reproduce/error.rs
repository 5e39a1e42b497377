//! Why a study cannot be planned or run.

use std::path::PathBuf;

/// A configuration that is no study, or a step that failed.
#[derive(Debug, thiserror::Error)]
pub enum ReproduceError {
    /// A configuration that is not one.
    #[error("study configuration")]
    Config(#[from] toml::de::Error),
    /// A setting outside its domain.
    #[error("study configuration: {key}: {rule}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// The rule broken, and what was found.
        rule: String,
    },
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process works on the study.
    #[error("{}: a study or a step of one that was killed still runs here, expected none", path.display())]
    Locked {
        /// The study's folder.
        path: PathBuf,
    },
    /// A step's command failed; its output is in its folder.
    #[error("step {step}: {status}, see {}", log.display())]
    Step {
        /// The step.
        step: String,
        /// How the command ended.
        status: std::process::ExitStatus,
        /// What it printed.
        log: PathBuf,
    },
}
