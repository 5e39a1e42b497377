//! Flags that most subcommands share: where the consortium is kept, and what opens its keys.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use certs::{AuthorityHome, Passphrase};
use protocol::Timestamp;

/// Where the consortium is kept.
#[derive(clap::Args)]
pub(crate) struct Directory {
    /// Directory that `init` made
    #[arg(long, env = "FMCT_COORDINATOR_DIR", default_value = ".")]
    dir: PathBuf,
    #[command(flatten)]
    pub(crate) secret: Secret,
}

impl Directory {
    pub(crate) fn home(&self) -> AuthorityHome {
        AuthorityHome::new(&self.dir)
    }
}

/// What opens the private keys.
#[derive(clap::Args)]
pub(crate) struct Secret {
    /// File (mode 0600) whose first line encrypts the private keys
    #[arg(long, env = "FMCT_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Secret {
    pub(crate) fn read(&self) -> anyhow::Result<Option<Passphrase>> {
        let path = self.passphrase_file.as_deref();
        Ok(path.map(Passphrase::from_file).transpose()?)
    }
}

/// The clock, read at the edge.
pub(crate) fn now() -> anyhow::Result<Timestamp> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("clock: before 1970")?;
    Ok(Timestamp(
        u64::try_from(since.as_millis()).context("clock: out of range")?,
    ))
}
