//! What a configuration may not be.

use thiserror::Error;

/// A model or training setting that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{object}: {rule}, found {found}")]
pub struct ConfigError {
    /// The setting, as it is named in a configuration file.
    pub object: &'static str,
    /// The rule it breaks.
    pub rule: &'static str,
    /// What was given.
    pub found: String,
}

impl ConfigError {
    /// Returns an error unless `holds`.
    pub(crate) fn unless(
        holds: bool,
        object: &'static str,
        rule: &'static str,
        found: impl ToString,
    ) -> Result<(), Self> {
        if holds {
            Ok(())
        } else {
            Err(Self {
                object,
                rule,
                found: found.to_string(),
            })
        }
    }
}
