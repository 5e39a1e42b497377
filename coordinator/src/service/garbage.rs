//! Blobs that nobody needs: rounds that are not to be kept, and what sites sent that was turned down.
//!
//! Both go only while nobody [holds](crate::blobs::Blobs::hold) the blobs; what refers to them is looked
//! up under that lock, so a run that is being launched is there whole or not at all.

use std::collections::BTreeSet;

use protocol::{Digest, Round};
use transport::FileLock;

use super::active::Active;
use super::coordinator::Coordinator;
use super::error::ServiceError;
use crate::run::Phase;

/// What is to go when it can.
#[derive(Default)]
pub(super) struct Garbage {
    /// Rounds are over that are not to be kept.
    due: bool,
    collection: Option<Collection>,
    /// Blobs that were turned down.
    refused: BTreeSet<Digest>,
    /// Blobs of the runs that are not served, and how many runs there were.
    elsewhere: (usize, BTreeSet<Digest>),
}

/// Leave to remove all blobs but some, as long as it lives.
pub struct Collection {
    needed: BTreeSet<Digest>,
    _cleared: FileLock,
}

impl Collection {
    /// What must stay.
    pub fn needed(&self) -> &BTreeSet<Digest> {
        &self.needed
    }
}

impl Garbage {
    /// The runs that are not served are others than before.
    pub(super) fn forget_runs(&mut self) {
        self.elsewhere = (0, BTreeSet::new());
    }
}

impl Coordinator {
    /// What to collect, once after each round where the options let any blobs go.
    pub fn poll_collection(&mut self) -> Option<Collection> {
        self.garbage.collection.take()
    }

    /// A round is over.
    pub(super) fn collect(&mut self) -> Result<(), ServiceError> {
        self.garbage.due = true;
        self.tidy()
    }

    /// A blob of a site is not wanted.
    pub(super) fn turn_down(&mut self, blob: Digest) {
        if self.blobs.has_any_of(blob) {
            self.garbage.refused.insert(blob);
        }
    }

    /// Lets go of what can go now.
    pub(super) fn tidy(&mut self) -> Result<(), ServiceError> {
        self.garbage.due &= self.options.keep_rounds.is_some() && self.active.is_some();
        if !self.garbage.due && self.garbage.refused.is_empty() {
            return Ok(());
        }
        let cleared = match self.blobs.clear() {
            Ok(Some(cleared)) => cleared,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "nothing collected: the blobs cannot be locked");
                return Ok(());
            }
        };
        self.discard()?;
        if std::mem::take(&mut self.garbage.due) {
            let needed = self.needed()?;
            self.garbage.collection = Some(Collection {
                needed,
                _cleared: cleared,
            });
        }
        Ok(())
    }

    /// Removes what was turned down and nothing refers to.
    fn discard(&mut self) -> Result<(), ServiceError> {
        // The next model is on disk before the journal names it.
        if self
            .run()
            .is_some_and(|run| matches!(run.phase(), Phase::Aggregating { .. }))
        {
            return Ok(());
        }
        for blob in std::mem::take(&mut self.garbage.refused) {
            if self.arriving.contains(blob) || self.is_named(blob)? {
                continue;
            }
            if let Err(error) = self.blobs.remove(blob) {
                tracing::warn!(%blob, %error, "refused upload not removed");
            }
        }
        Ok(())
    }

    /// Whether a journal names a blob.
    fn is_named(&mut self, blob: Digest) -> Result<bool, ServiceError> {
        let launches = self.journal.launches()?;
        if self.garbage.elsewhere.0 != launches.len() {
            let (count, mut blobs) = (launches.len(), BTreeSet::new());
            for launch in launches.into_iter().filter(|one| !self.is_active(&one.run)) {
                blobs.extend(Active::load(&self.journal, launch)?.driver.run().blobs());
            }
            self.garbage.elsewhere = (count, blobs);
        }
        let here = self.run().is_some_and(|run| run.blobs().contains(&blob));
        Ok(here || self.garbage.elsewhere.1.contains(&blob))
    }

    /// Blobs that the run, the rounds to be kept and the uploads under way need; what need not stay is
    /// journalled first.
    fn needed(&mut self) -> Result<BTreeSet<Digest>, ServiceError> {
        let (Some(keep), Some(active)) = (self.options.keep_rounds, &self.active) else {
            return Ok(BTreeSet::new());
        };
        let run = active.driver.run();
        let mut needed = run.needed_blobs();
        needed.extend(self.arriving.blobs());
        let over = run.history().len().saturating_sub(keep as usize);
        let (gone, kept) = run.history().split_at(over);
        needed.extend(kept.iter().flat_map(|round| round.blobs()));
        let mut collected = Vec::new();
        if let Some(last) = gone.last() {
            collected.push((active.launch.run.clone(), last.checkpoint.round));
        }
        // Other runs' first and last models stay.
        for launch in self.journal.launches()? {
            if launch.run != active.launch.run {
                let other = Active::load(&self.journal, launch)?;
                let run = other.driver.run();
                needed.extend(run.needed_blobs());
                if run.checkpoint().round > Round(0) {
                    collected.push((other.launch.run.clone(), run.checkpoint().round));
                }
            }
        }
        for (run, through) in collected {
            self.journal.note_collected(&run, through)?;
        }
        Ok(needed)
    }
}
