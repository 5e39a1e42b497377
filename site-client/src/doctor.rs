//! What stands between this machine and a round, and whom to ask for it.
//!
//! One line for each check; a check that fails says in a second line what to ask the hospital's IT
//! (or the coordinator) for. Nothing is changed anywhere.

use std::fmt;
use std::path::PathBuf;

use certs::{Home, Passphrase};
use protocol::Timestamp;
use transport::Config;

mod identity;
mod machine;
mod path;

/// What is to be examined.
#[derive(Debug)]
pub struct Subject {
    /// The site's directory, as `enroll` made it.
    pub home: Home,
    /// What opens the private key.
    pub passphrase: Option<Passphrase>,
    /// Where the coordinator listens, as `host:port`.
    pub coordinator: String,
    /// Transport settings, a proxy for instance.
    pub transport: Config,
    /// Where models and updates are kept.
    pub work: PathBuf,
    /// Bytes that one round needs there.
    pub needed_bytes: u64,
}

/// Examines identity, machine and path, in this order, and tells each finding as it is made.
pub async fn examine(subject: &Subject, now: Timestamp, mut tell: impl FnMut(Finding)) {
    let known = identity::examine(&subject.home, subject.passphrase.as_ref(), now, &mut tell);
    machine::examine(&subject.work, subject.needed_bytes, &mut tell);
    path::examine(subject, known, &mut tell).await;
}

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was checked.
    pub check: &'static str,
    /// How it went.
    pub outcome: Outcome,
    /// What was found.
    pub detail: String,
    /// What to ask for, and whom.
    pub ask: Option<String>,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Good,
    /// It works, but not well, or not for long.
    Poor,
    /// A round cannot run like this.
    Bad,
    /// It could not be checked, because of an earlier finding.
    Skipped,
}

impl Finding {
    fn good(check: &'static str, detail: impl Into<String>) -> Self {
        Self {
            check,
            outcome: Outcome::Good,
            detail: detail.into(),
            ask: None,
        }
    }

    fn poor(check: &'static str, detail: impl Into<String>, ask: impl Into<String>) -> Self {
        Self {
            check,
            outcome: Outcome::Poor,
            detail: detail.into(),
            ask: Some(ask.into()),
        }
    }

    fn bad(check: &'static str, detail: impl Into<String>, ask: impl Into<String>) -> Self {
        Self {
            check,
            outcome: Outcome::Bad,
            detail: detail.into(),
            ask: Some(ask.into()),
        }
    }

    fn skipped(check: &'static str, detail: impl Into<String>) -> Self {
        Self {
            check,
            outcome: Outcome::Skipped,
            detail: detail.into(),
            ask: None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Good => "ok",
            Outcome::Poor => "poor",
            Outcome::Bad => "FAILED",
            Outcome::Skipped => "skipped",
        };
        write!(f, "{outcome:<8} {:<16} {}", self.check, self.detail)?;
        match &self.ask {
            Some(ask) => write!(f, "\n{:<8} {:<16} -> {ask}", "", ""),
            None => Ok(()),
        }
    }
}
