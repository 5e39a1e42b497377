//! Sites that take no part in the run or in a round, and why they said so.

use protocol::message::{Rejection, Subject};
use protocol::{SiteId, Timestamp};

use super::coordinator::Coordinator;
use super::error::ServiceError;

impl Coordinator {
    /// Notes what a site refused: its word on the plan is kept for people who look until it joins
    /// or the run is over, a task it refuses is one it will not finish, everything else is for the
    /// log.
    pub(super) fn declined(
        &mut self,
        now: Timestamp,
        site: &SiteId,
        rejection: Rejection,
    ) -> Result<(), ServiceError> {
        let Rejection { subject, reason } = rejection;
        let plan = match &subject {
            Subject::Plan(plan) => *plan,
            Subject::Task(run, round) if self.is_in_round(run, *round) => {
                tracing::warn!(%site, %run, %round, %reason, "task refused by a site");
                return self.drop_failed(now, site, reason.to_string());
            }
            _ => {
                tracing::info!(%site, %subject, %reason, "refused by a site");
                return Ok(());
            }
        };
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let cohort = &active.config.cohort;
        let named = cohort.sites.contains(site) || cohort.evaluators.contains(site);
        // It says so again on every connection; once in the log is enough.
        if !named || active.plan.digest() != plan || active.declined.get(site) == Some(&reason) {
            return Ok(());
        }
        tracing::warn!(%site, run = %active.launch.run, %plan, %reason, "plan declined by a site");
        active.declined.insert(site.clone(), reason);
        Ok(())
    }
}
