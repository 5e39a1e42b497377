//! A site that is present says once more that it takes part: over another connection, as a rule, before
//! the end of the one before was noticed.

use protocol::plan::CohortRule;
use protocol::{SiteId, Timestamp};

use super::Run;
use super::event::Action;
use super::phase::{Member, Phase};

impl Run {
    /// Tells a site that is present once more what it is to do; that changes nothing which is
    /// journalled. `false`, and nothing done, where [`Event::Joined`](super::Event::Joined) would
    /// change more than what the site is told.
    pub fn joined_again(&mut self, now: Timestamp, site: &SiteId) -> bool {
        if !self.is_connected(site) || self.takes_back(site) {
            return false;
        }
        self.now = self.now.max(now);
        let now = self.now;
        if let Some(presence) = self.presence.get_mut(site) {
            presence.hear(now);
        }
        self.tell(site);
        true
    }

    /// What a site that is present is to do now, or that nothing is left.
    pub(super) fn tell(&mut self, site: &SiteId) {
        let (round, checkpoint) = (self.round(), self.checkpoint);
        let to = site.clone();
        let action = match &self.phase {
            Phase::Training { members, .. } => match members.get(site) {
                Some(Member::Working { .. }) => Action::Train {
                    site: to,
                    round,
                    base: checkpoint,
                },
                _ => return,
            },
            Phase::Evaluating { awaited, .. } if awaited.contains(site) => Action::Evaluate {
                site: to,
                checkpoint,
            },
            Phase::Finished => Action::Finish {
                checkpoint: self.result(),
            },
            _ => return,
        };
        self.actions.push_back(action);
    }

    /// Whether a site that joins is in again what it was out of.
    pub(super) fn takes_back(&self, site: &SiteId) -> bool {
        match &self.phase {
            // Under the full rule nobody can be left out, so a site that comes back in time is in
            // again.
            Phase::Training { members, .. } => {
                let dropped = matches!(members.get(site), Some(Member::Dropped(_)));
                dropped && self.config.cohort.rule == CohortRule::Full
            }
            Phase::Evaluating {
                awaited, reports, ..
            } => !reports.contains_key(site) && !awaited.contains(site),
            _ => false,
        }
    }
}
