//! Sites that come and go: what each is told, and how little of it is journalled. One connection makes
//! one row when its site joins and one when it leaves, whatever the site says in between.

use protocol::bounded::List;
use protocol::message::{self, Join, Reason};
use protocol::{Signed, SiteId, Timestamp};

use super::active::Active;
use super::coordinator::Coordinator;
use super::error::ServiceError;
use crate::run::Event;

impl Coordinator {
    /// A member is connected; what it is told.
    pub fn connected(&mut self, site: SiteId) {
        self.connected.insert(site.clone());
        self.joined.remove(&site);
        self.announce(site);
    }

    /// A member's connection ended.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn disconnected(&mut self, now: Timestamp, site: &SiteId) -> Result<(), ServiceError> {
        self.connected.remove(site);
        self.left(now, site)
    }

    /// A site takes no part any longer; it may over its next connection.
    pub(super) fn left(&mut self, now: Timestamp, site: &SiteId) -> Result<(), ServiceError> {
        let present = |active: &Active| {
            active
                .driver
                .run()
                .presence()
                .get(site)
                .is_some_and(|site| site.is_connected())
        };
        if self.active.as_ref().is_some_and(present) {
            // It is named in the plan, or it would not be present: it is admitted.
            let _ = self.submit(now, Event::Left { site: site.clone() }, &[])?;
        }
        Ok(())
    }

    /// A site has approved the plan.
    pub(super) fn join(
        &mut self,
        now: Timestamp,
        site: &SiteId,
        join: &Join,
    ) -> Result<Result<(), Reason>, ServiceError> {
        let known = |active: &&mut Active| {
            active.launch.run == join.run && active.plan.digest() == join.plan
        };
        let Some(active) = self.active.as_mut().filter(known) else {
            return Ok(Err(Reason::Unknown));
        };
        active.declined.remove(site);
        if active.driver.run_mut().joined_again(now, site) {
            self.joined.insert(site.clone());
            return self.act(now).map(Ok);
        }
        if self.joined.contains(site) {
            return Ok(Err(Reason::Busy));
        }
        let joined = self.submit(now, Event::Joined { site: site.clone() }, &[])?;
        if joined.is_ok() {
            self.joined.insert(site.clone());
        }
        Ok(joined)
    }

    /// Tells a site of the run, if the plan names it.
    pub(super) fn announce(&mut self, site: SiteId) {
        let Some(active) = &self.active else { return };
        let cohort = &active.config.cohort;
        if !cohort.sites.contains(&site) && !cohort.evaluators.contains(&site) {
            return;
        }
        let signed = Signed::from_bytes(&active.launch.signature);
        let text = List::new(active.launch.plan.clone());
        if let (Ok(launch), Ok(text)) = (signed, text) {
            self.outgoing
                .push_back((site, message::Plan { launch, text }.into()));
        }
    }
}
