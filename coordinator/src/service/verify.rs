//! Proof after the fact: the chain, the signatures, the models.

use std::path::Path;

use certs::{Home, PublicKey, Trust};
use protocol::message::{Content, Launch as LaunchStatement, Manifest, Receipt};
use protocol::{Digest, Role, RunId, Signed, SiteId};

use super::active::Active;
use super::coordinator::blobs_path;
use super::error::ServiceError;
use super::record::{RECORD_CONTEXT, record};
use crate::blobs::Blobs;
use crate::journal::{Entry, Journal};
use crate::run::{Event, Update};

/// What was checked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Verified {
    /// Events whose chain holds.
    pub events: u64,
    /// Manifests signed by their sites.
    pub manifests: u64,
    /// Receipts signed by the coordinator.
    pub receipts: u64,
    /// Round records signed by the coordinator.
    pub records: u64,
    /// Hash of the last event: two transcripts of one run agree exactly if this does.
    pub head: Option<Digest>,
}

/// Checks a run in a transcript: the hash chain, the launch, every manifest, receipt and record.
/// Needs no blobs and no network.
///
/// # Errors
/// The first thing that does not hold.
pub fn verify(directory: &Path, trust: &Trust, run: &RunId) -> Result<Verified, ServiceError> {
    let journal = Journal::open_read_only(&directory.join("journal.sqlite"))?;
    let active = load(&journal, run)?;
    let check = Check {
        journal: &journal,
        trust,
        active: &active,
    };
    check.launch()?;
    let mut verified = Verified::default();
    for entry in journal.entries(run)? {
        check.entry(&entry, &mut verified)?;
        verified.events += 1;
        verified.head = Some(entry.hash);
    }
    Ok(verified)
}

/// What was computed again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Replayed {
    /// Rounds whose model came out the same.
    pub rounds: u32,
    /// Rounds that were passed over: blobs that they need were [collected](super::Options).
    pub collected: u32,
}

/// Computes every round's model, and the server's moments with it, again from its staged updates;
/// calls `done` after each. A round whose updates or base were collected is passed over; nothing is
/// collected meanwhile.
///
/// # Errors
/// The first round that differs, or a blob that is damaged, or missing although it is to be kept.
pub fn replay(
    directory: &Path,
    run: &RunId,
    mut done: impl FnMut(protocol::Round, Digest),
) -> Result<Replayed, ServiceError> {
    let journal = Journal::open_read_only(&directory.join("journal.sqlite"))?;
    let path = blobs_path(directory);
    let blobs = Blobs::open_shared(path.clone()).map_err(ServiceError::io(&path))?;
    let _held = blobs.hold().map_err(ServiceError::io(path))?;
    let active = load(&journal, run)?;
    let collected = journal.collected(run)?;
    let mut replayed = Replayed::default();
    for round in active.driver.run().history() {
        if round.updates.is_empty() {
            continue;
        }
        let number = round.checkpoint.round;
        let job = active.fold_job(&blobs, number, round.base, round.updates.clone());
        if collected.is_some_and(|through| number <= through) && !job.has_inputs() {
            replayed.collected += 1;
            continue;
        }
        let (model, moments) = job.rederive()?;
        for (what, found, expected) in [
            ("model", Some(model), Some(round.checkpoint.model)),
            ("moments", moments, round.checkpoint.moments),
        ] {
            if found != expected {
                return Err(ServiceError::Differs {
                    run: run.clone(),
                    round: number,
                    what,
                    expected,
                    found,
                });
            }
        }
        replayed.rounds += 1;
        done(number, model);
    }
    Ok(replayed)
}

pub(super) fn load(journal: &Journal, run: &RunId) -> Result<Active, ServiceError> {
    let launch = journal
        .launches()?
        .into_iter()
        .find(|launch| launch.run == *run);
    Active::load(
        journal,
        launch.ok_or_else(|| ServiceError::NoRun { run: run.clone() })?,
    )
}

struct Check<'a> {
    journal: &'a Journal,
    trust: &'a Trust,
    active: &'a Active,
}

impl Check<'_> {
    fn launch(&self) -> Result<(), ServiceError> {
        let Active {
            launch,
            plan,
            schema,
            ..
        } = self.active;
        let defect = |defect: &str| self.defect(0, defect);
        let signed = Signed::<LaunchStatement>::from_bytes(&launch.signature)
            .map_err(|_| defect("launch is not a signed statement"))?;
        let statement = self.open(&signed, &self.coordinators(), 0)?;
        if (&statement.run, statement.plan, statement.schema)
            != (&launch.run, plan.digest(), *schema)
        {
            return Err(defect("launch is signed for another run, plan or schema"));
        }
        Ok(())
    }

    fn entry(&self, entry: &Entry, verified: &mut Verified) -> Result<(), ServiceError> {
        let event = entry.event(&self.active.launch.run)?;
        match &event {
            Event::Staged { site, update } => {
                self.staged(entry.index, site, update)?;
                verified.manifests += 1;
                verified.receipts += 1;
            }
            Event::Published { signature } => {
                let history = self.active.driver.run().history();
                let round = history
                    .iter()
                    .find(|round| round.signature == *signature)
                    .ok_or_else(|| self.defect(entry.index, "signature of no round"))?;
                let run = &self.active.launch.run;
                let bytes = record(run, self.active.plan.digest(), round);
                let signature = signature.to_bytes().unwrap_or_default();
                let holds =
                    |key: &PublicKey| key.verify(RECORD_CONTEXT, &bytes, &signature).is_ok();
                if !self.coordinators().iter().any(holds) {
                    return Err(self.defect(entry.index, "round record: wrong signature"));
                }
                verified.records += 1;
            }
            _ => {}
        }
        Ok(())
    }

    fn staged(&self, index: u64, site: &SiteId, update: &Update) -> Result<(), ServiceError> {
        let manifest: Manifest = self.open(
            &self.document(index, update.manifest)?,
            &self.keys(site),
            index,
        )?;
        let Content::Update(facts) = &manifest.content else {
            return Err(self.defect(index, "manifest is not of an update"));
        };
        let signed = (
            manifest.round,
            manifest.blob.digest,
            manifest.blob.len,
            &manifest.run,
        );
        let staged = (
            update.round,
            update.blob,
            update.bytes,
            &self.active.launch.run,
        );
        let facts = (facts.base, facts.examples, facts.steps);
        if signed != staged || facts != (update.base, update.examples, update.steps) {
            return Err(self.defect(index, "manifest says something else than the event"));
        }
        let receipt: Receipt = self.open(
            &self.document(index, update.receipt)?,
            &self.coordinators(),
            index,
        )?;
        if receipt.blob != manifest.blob {
            return Err(self.defect(index, "receipt is for another blob"));
        }
        Ok(())
    }

    fn document<T: protocol::Statement>(
        &self,
        index: u64,
        digest: Digest,
    ) -> Result<Signed<T>, ServiceError> {
        let bytes = self.journal.document(digest)?;
        let bytes = bytes.filter(|bytes| Digest::of(bytes) == digest);
        bytes
            .and_then(|bytes| Signed::from_bytes(&bytes).ok())
            .ok_or_else(|| self.defect(index, &format!("{} is missing or damaged", T::CONTEXT)))
    }

    fn open<T: protocol::Statement>(
        &self,
        signed: &Signed<T>,
        keys: &[PublicKey],
        index: u64,
    ) -> Result<T, ServiceError> {
        let opened = signed.open(|context, bytes, signature| {
            keys.iter()
                .any(|key| key.verify(context, bytes, signature).is_ok())
        });
        opened.map_err(|error| self.defect(index, &error.to_string()))
    }

    fn coordinators(&self) -> Vec<PublicKey> {
        let consortium = self.trust.consortium();
        let members = consortium.members().iter();
        members
            .filter(|member| member.role == Role::Coordinator)
            .map(|member| member.key)
            .collect()
    }

    /// Every key a site has had: one that was revoked later has signed all the same.
    fn keys(&self, site: &SiteId) -> Vec<PublicKey> {
        let consortium = self.trust.consortium();
        let members = consortium.members().iter();
        members
            .filter(|member| member.id == *site)
            .map(|member| member.key)
            .collect()
    }

    fn defect(&self, index: u64, defect: &str) -> ServiceError {
        let run = self.active.launch.run.clone();
        ServiceError::Transcript {
            run,
            index,
            defect: defect.to_owned(),
        }
    }
}

/// Whom a directory trusts: the pinned root and the newest consortium file.
///
/// # Errors
/// If they cannot be read.
pub fn trust(directory: &Path) -> Result<Trust, certs::Error> {
    Home::new(directory).trust()
}
