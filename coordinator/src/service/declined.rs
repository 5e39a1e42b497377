//! Sites that take no part in the run, and why they said so.

use protocol::SiteId;
use protocol::message::{Rejection, Subject};

use super::coordinator::Coordinator;

impl Coordinator {
    /// Notes what a site refused: its word on the plan is kept for people who look until it joins
    /// or the run is over, everything else is for the log.
    pub(super) fn declined(&mut self, site: &SiteId, rejection: Rejection) {
        let Rejection { subject, reason } = rejection;
        let Subject::Plan(plan) = subject else {
            tracing::info!(%site, %subject, %reason, "refused by a site");
            return;
        };
        let Some(active) = &mut self.active else {
            return;
        };
        let cohort = &active.config.cohort;
        let named = cohort.sites.contains(site) || cohort.evaluators.contains(site);
        // It says so again on every connection; once in the log is enough.
        if !named || active.plan.digest() != plan || active.declined.get(site) == Some(&reason) {
            return;
        }
        tracing::warn!(%site, run = %active.launch.run, %plan, %reason, "plan declined by a site");
        active.declined.insert(site.clone(), reason);
    }
}
