//! Sites that are out: of a round's training, or of an evaluation. The run goes on without them.

use protocol::SiteId;
use protocol::message::Reason;

use super::Run;
use super::event::{Action, Dropped};
use super::phase::{Member, Phase};

impl Run {
    /// A site is dropped from what it is waited for; one that was revoked, from what it has given
    /// for the round in work as well.
    pub(super) fn admits_drop(&self, site: &SiteId, reason: &Dropped) -> Result<(), Reason> {
        let revoked = *reason == Dropped::Revoked;
        let counts = match &self.phase {
            Phase::Gathering { staged, .. } => revoked && staged.contains_key(site),
            Phase::Training { members, .. } => match members.get(site) {
                Some(Member::Working { .. }) => true,
                Some(Member::Staged(_)) => revoked,
                _ => false,
            },
            Phase::Evaluating { awaited, .. } => awaited.contains(site),
            _ => false,
        };
        if counts {
            Ok(())
        } else {
            Err(self.not_asked())
        }
    }

    pub(super) fn drop_site(&mut self, site: &SiteId, reason: Dropped) {
        if self.admits_drop(site, &reason).is_err() {
            return;
        }
        let now = self.now;
        if matches!(reason, Dropped::Failed { .. })
            && let Some(presence) = self.presence.get_mut(site)
        {
            presence.finish(now);
        }
        match &mut self.phase {
            Phase::Gathering { staged, .. } => {
                staged.remove(site);
            }
            Phase::Training { members, .. } => {
                members.insert(site.clone(), Member::Dropped(reason.clone()));
                let site = site.clone();
                self.actions.push_back(Action::Withdraw { site, reason });
                self.settle();
            }
            Phase::Evaluating {
                awaited, dropped, ..
            } => {
                awaited.remove(site);
                dropped.insert(site.clone(), reason);
                if awaited.is_empty() {
                    self.finish_evaluation();
                }
            }
            _ => {}
        }
    }

    pub(super) fn drop_working(&mut self) {
        let Phase::Training { members, .. } = &mut self.phase else {
            return;
        };
        for (site, member) in members {
            if matches!(member, Member::Working { .. }) {
                *member = Member::Dropped(Dropped::Deadline);
                let (site, reason) = (site.clone(), Dropped::Deadline);
                self.actions.push_back(Action::Withdraw { site, reason });
            }
        }
        self.settle();
    }
}
