//! What a site agrees to: the plans a person here has approved by digest, and what may leave.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use protocol::Digest;
use protocol::plan::Plan;

use super::error::FederationError;
use super::session::Ready;
use super::store::write_durably;
use super::trainer::Report;

/// Decides whether a site takes part in a plan, and what of its results leaves.
pub trait Approval: Send + Sync {
    /// Whether the site takes part.
    ///
    /// # Errors
    /// Why not, in words for the logs of both ends.
    fn allows(&self, plan: &Plan) -> Result<(), String>;

    /// Whether a finished update may leave; asked each time it is about to.
    ///
    /// # Errors
    /// Why not, in words for the logs of both ends.
    fn lets_out(&self, update: &Ready) -> Result<(), String>;

    /// What of an evaluation may leave.
    fn suppress(&self, report: Report) -> Report;
}

/// Approved plans: a text file with one digest a line.
#[derive(Clone, Debug)]
pub struct Approvals {
    path: PathBuf,
    digests: BTreeSet<Digest>,
}

impl Approvals {
    /// Reads the list of a site's directory; there need not be one.
    ///
    /// # Errors
    /// If the file cannot be read or a line is no digest.
    pub fn load(directory: &Path) -> Result<Self, FederationError> {
        let path = directory.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(FederationError::Io { path, source }),
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let digests: Result<_, _> = lines.map(str::parse).collect();
        match digests {
            Ok(digests) => Ok(Self { path, digests }),
            Err(error) => Err(FederationError::State {
                path,
                reason: error.to_string(),
            }),
        }
    }

    /// Adds a plan to the list; durable when this returns.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn approve(&mut self, digest: Digest) -> Result<(), FederationError> {
        self.digests.insert(digest);
        let lines: String = self
            .digests
            .iter()
            .map(|digest| format!("{digest}\n"))
            .collect();
        write_durably(&self.path, lines.as_bytes())
    }

    /// Approved digests.
    pub fn digests(&self) -> &BTreeSet<Digest> {
        &self.digests
    }

    /// Whether a plan is approved. Reads the file again where the digest is not known yet, so that
    /// an approval needs no restart.
    ///
    /// # Errors
    /// That it is not, and what approves it.
    pub fn allows(&self, plan: &Plan) -> Result<(), String> {
        let known = |approvals: &Self| approvals.digests.contains(&plan.digest());
        let again = || {
            self.path
                .parent()
                .and_then(|folder| Self::load(folder).ok())
        };
        if known(self) || again().is_some_and(|fresh| known(&fresh)) {
            return Ok(());
        }
        Err(format!(
            "not approved; `fmct-site approve-plan {}` approves it",
            plan.digest()
        ))
    }
}

const FILE: &str = "approved-plans";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approved_digest_is_known_from_then_on_to_everybody() {
        let directory = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"plan");
        let mut approvals = Approvals::load(directory.path()).unwrap();
        assert!(approvals.digests().is_empty());
        approvals.approve(digest).unwrap();
        approvals.approve(digest).unwrap();
        let again = Approvals::load(directory.path()).unwrap();
        assert_eq!(again.digests().iter().collect::<Vec<_>>(), [&digest]);
    }

    #[test]
    fn a_line_that_is_no_digest_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "everything\n").unwrap();
        let error = Approvals::load(directory.path()).unwrap_err().to_string();
        assert!(error.contains("approved-plans is damaged"), "{error}");
    }
}
