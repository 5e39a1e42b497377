//! Settings of the pump from a file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigError};

/// Why a file of settings was not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A value out of bounds.
    #[error("{path}")]
    Bounds {
        /// The file.
        path: PathBuf,
        /// The field, its rule, and what was found.
        source: ConfigError,
    },
    /// It could not be read.
    #[error("{path}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not TOML, or names a field that there is not.
    #[error("{path}: not the settings of connections")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: toml::de::Error,
    },
}

impl Config {
    /// Reads the settings of `file`; without one those of `transport.toml` in `directory`, and
    /// without that the defaults.
    ///
    /// # Errors
    /// If the file cannot be read, is not the schema's TOML, or holds a value out of bounds.
    pub fn read(file: Option<&Path>, directory: &Path) -> Result<Self, SettingsError> {
        let path = file.map_or_else(|| directory.join(FILE), Path::to_owned);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => return Err(SettingsError::Read { path, source }),
        };
        let config: Self = match toml::from_str(&text) {
            Ok(config) => config,
            Err(source) => return Err(SettingsError::Syntax { path, source }),
        };
        match config.check() {
            Ok(()) => Ok(config),
            Err(source) => Err(SettingsError::Bounds { path, source }),
        }
    }
}

const FILE: &str = "transport.toml";

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::config::Congestion;

    #[test]
    fn without_a_file_the_defaults_hold_and_a_file_that_was_named_must_be_there() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config::read(None, directory.path()).unwrap();
        assert_eq!(config, Config::default());
        let missing = directory.path().join("missing.toml");
        let error = Config::read(Some(&missing), directory.path()).unwrap_err();
        assert!(error.to_string().contains("missing.toml: cannot be read"));
    }

    #[test]
    fn the_directory_s_file_is_used_unless_another_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "congestion = \"bbr\"\n").unwrap();
        let config = Config::read(None, directory.path()).unwrap();
        assert_eq!(config.congestion, Congestion::Bbr);
        let other = directory.path().join("other.toml");
        fs::write(&other, "proxy = \"proxy:3128\"\n").unwrap();
        let config = Config::read(Some(&other), directory.path()).unwrap();
        assert_eq!(config.congestion, Congestion::Cubic);
        assert_eq!(config.proxy.as_deref(), Some("proxy:3128"));
    }

    #[test]
    fn an_unknown_field_and_a_value_out_of_bounds_are_named_with_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE);
        for (text, named) in [
            ("congestion_control = \"bbr\"\n", "congestion_control"),
            (
                "chunks_in_flight = 0\n",
                "chunks_in_flight: must be 1 to 255",
            ),
        ] {
            fs::write(&file, text).unwrap();
            let error = Config::read(None, directory.path()).unwrap_err();
            let source = error.source().unwrap().to_string();
            assert!(error.to_string().contains("transport.toml"), "{error}");
            assert!(source.contains(named), "{source}");
        }
    }
}
