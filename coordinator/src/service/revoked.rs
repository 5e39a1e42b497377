//! Sites that were shut out while a run goes on: they are not waited for, and nothing of theirs that
//! is not folded yet counts.

use certs::Trust;
use protocol::{SiteId, Timestamp};

use super::coordinator::Coordinator;
use super::error::ServiceError;
use crate::run::{Dropped, Event};

impl Coordinator {
    /// Believes this of who is a member, from now on and as it changes; anybody counts who is in the
    /// plan if it is never told.
    pub fn follow(&mut self, trust: Trust) {
        self.trust = Some(trust);
    }

    /// Whether a site is no member, or not any longer.
    pub(super) fn is_shut_out(&self, site: &SiteId) -> bool {
        let trust = self.trust.as_ref();
        trust.is_some_and(|trust| trust.consortium().active(site).is_none())
    }

    /// Drops sites that are shut out from the round in work or the evaluation.
    pub(super) fn drop_shut_out(&mut self, now: Timestamp) -> Result<(), ServiceError> {
        let (Some(trust), Some(active)) = (&self.trust, &self.active) else {
            return Ok(());
        };
        let consortium = trust.consortium();
        let cohort = &active.config.cohort;
        let named = cohort.sites.iter().chain(&cohort.evaluators);
        let gone: Vec<SiteId> = named
            .filter(|site| consortium.active(site).is_none())
            .cloned()
            .collect();
        for site in gone {
            let reason = Dropped::Revoked;
            let event = Event::Dropped { site, reason };
            let run = self.run();
            if run.is_some_and(|run| run.admits(&event).is_ok()) {
                // It was just admitted.
                let _ = self.submit(now, event, &[])?;
            }
        }
        Ok(())
    }
}
