//! A consortium on one machine: a coordinator's folder and one folder for each hospital, each with
//! a key that was made there and a certificate that was asked for and approved.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use certs::{Approval, AuthorityHome, Home, Pin};
use protocol::{ConsortiumId, Role, SiteId, Timestamp};

/// Where everybody's files are.
pub(crate) struct Consortium {
    dir: PathBuf,
}

impl Consortium {
    /// Founds a consortium in `dir` and takes `sites` in, as `fmct-coordinator init`,
    /// `fmct-site enroll` and `fmct-coordinator approve` do.
    pub(crate) fn found(dir: &Path, sites: &[SiteId], now: Timestamp) -> anyhow::Result<Self> {
        let consortium = Self::at(dir);
        let authority = AuthorityHome::new(consortium.coordinator());
        let name: ConsortiumId = "demo".parse()?;
        let root = authority
            .found(name, &"coordinator".parse()?, None, now)?
            .root()
            .fingerprint();
        let told: Pin = root.to_string().parse()?;
        for site in sites {
            let home = Home::new(consortium.site(site));
            let request = home.enroll(site, &told, None)?;
            let answer = authority.approve(&request, Role::Site, None, now)?;
            let answer = Approval::read(&fs::read(answer)?)?;
            home.accept(&answer, now)
                .with_context(|| format!("{site} was not taken in"))?;
        }
        Ok(consortium)
    }

    /// The consortium that was founded in `dir`.
    pub(crate) fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// The coordinator's folder.
    pub(crate) fn coordinator(&self) -> PathBuf {
        self.dir.join("coordinator")
    }

    /// A hospital's folder.
    pub(crate) fn site(&self, site: &SiteId) -> PathBuf {
        self.dir.join("sites").join(site.as_str())
    }

    /// Where the demo's processes log.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }
}
