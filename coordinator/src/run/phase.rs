//! The phases of a round and the ways between them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use protocol::{Round, SiteId, Timestamp};

use super::event::{Action, Checkpoint, Dropped, Exact, Report, Signature, Update};
use super::{Presence, RoundRecord, Run};

/// What the run is doing.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Waiting for enough sites to start the round.
    Gathering {
        /// Updates kept from a start of this round that did not reach its quorum.
        staged: BTreeMap<SiteId, Update>,
        /// When the round starts without waiting for more sites; set while there is a quorum.
        closes: Option<Timestamp>,
    },
    /// The cohort is fixed and at work.
    Training {
        /// The cohort.
        members: BTreeMap<SiteId, Member>,
        /// When those who are not done are dropped.
        deadline: Timestamp,
        /// When it started.
        started: Timestamp,
    },
    /// The staged updates are being folded.
    Aggregating {
        /// Updates that are folded.
        updates: BTreeMap<SiteId, Update>,
        /// Sites that are not among them.
        dropped: BTreeMap<SiteId, Dropped>,
        /// When training started.
        started: Timestamp,
    },
    /// The new model is durable; its record is being signed.
    Publishing {
        /// The round's record so far.
        record: Box<RoundRecord>,
    },
    /// Sites are evaluating the published model.
    Evaluating {
        /// Sites that are waited for.
        awaited: BTreeSet<SiteId>,
        /// What has arrived.
        reports: BTreeMap<SiteId, Report>,
        /// Sites that are not waited for although nothing has arrived, and why.
        dropped: BTreeMap<SiteId, Dropped>,
        /// When the rest are not waited for any longer.
        deadline: Timestamp,
    },
    /// Nothing is left to do.
    Finished,
}

/// One member of a cohort.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Member {
    /// Out of this round.
    Dropped(Dropped),
    /// Done.
    Staged(Update),
    /// At work.
    Working {
        /// Since when.
        since: Timestamp,
    },
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Gathering { .. } => "gathering",
            Self::Training { .. } => "training",
            Self::Aggregating { .. } => "aggregating",
            Self::Publishing { .. } => "publishing",
            Self::Evaluating { .. } => "evaluating",
            Self::Finished => "finished",
        })
    }
}

impl Phase {
    /// The record that is being signed.
    pub(super) fn record(&self) -> Option<&RoundRecord> {
        match self {
            Self::Publishing { record } => Some(record),
            _ => None,
        }
    }

    /// Whether a site is waited for, or why not, in words.
    pub fn awaits(&self, site: &SiteId) -> String {
        match self {
            Self::Gathering { staged, .. } if staged.contains_key(site) => "done".to_owned(),
            Self::Gathering { .. } => "to connect".to_owned(),
            Self::Training { members, .. } => match members.get(site) {
                Some(Member::Working { .. }) => "its update".to_owned(),
                Some(Member::Staged(_)) => "done".to_owned(),
                Some(Member::Dropped(reason)) => format!("dropped: {reason}"),
                None => "not in this round".to_owned(),
            },
            Self::Evaluating {
                awaited, dropped, ..
            } => match dropped.get(site) {
                Some(reason) => format!("dropped: {reason}"),
                None if awaited.contains(site) => "its evaluation".to_owned(),
                None => "nothing".to_owned(),
            },
            _ => "nothing".to_owned(),
        }
    }
}

impl Run {
    pub(super) fn joined(&mut self, site: SiteId) {
        let now = self.now;
        self.presence
            .entry(site.clone())
            .or_insert_with(|| Presence::new(now))
            .join(now);
        if self.takes_back(&site) {
            match &mut self.phase {
                Phase::Training { members, .. } => {
                    members.insert(site.clone(), Member::Working { since: now });
                }
                Phase::Evaluating {
                    awaited, dropped, ..
                } => {
                    dropped.remove(&site);
                    awaited.insert(site.clone());
                }
                _ => {}
            }
        }
        match &self.phase {
            Phase::Gathering { .. } => self.gather(),
            _ => self.tell(&site),
        }
    }

    /// Starts the round if everybody is there, opens the gathering window if a quorum is.
    fn gather(&mut self) {
        if self.present() == self.config.cohort.sites.len() {
            self.start_training();
        } else {
            self.open_window();
        }
    }

    /// Sites that are connected or done already, while gathering.
    fn present(&self) -> usize {
        let Phase::Gathering { staged, .. } = &self.phase else {
            return 0;
        };
        let sites = &self.config.cohort.sites;
        sites
            .iter()
            .filter(|site| staged.contains_key(site) || self.is_connected(site))
            .count()
    }

    /// With a quorum there, more sites are waited for, but not for ever.
    fn open_window(&mut self) {
        let quorum = self.present() >= self.config.cohort.quorum();
        let at = self.now + Duration::from_secs(self.config.cohort.gather_seconds);
        if let Phase::Gathering { closes, .. } = &mut self.phase
            && quorum
            && closes.is_none()
        {
            *closes = Some(at);
        }
    }

    pub(super) fn gather_closed(&mut self) {
        if self.present() >= self.config.cohort.quorum() {
            self.start_training();
        } else if let Phase::Gathering { closes, .. } = &mut self.phase {
            *closes = None;
        }
    }

    /// Fixes the cohort: sites that are connected, and those whose update is staged already.
    pub(super) fn start_training(&mut self) {
        let Phase::Gathering { staged, closes } = &mut self.phase else {
            return;
        };
        let mut members: BTreeMap<SiteId, Member> = std::mem::take(staged)
            .into_iter()
            .map(|(site, update)| (site, Member::Staged(update)))
            .collect();
        *closes = None;
        let now = self.now;
        let working: Vec<SiteId> = self
            .config
            .cohort
            .sites
            .iter()
            .filter(|site| self.is_connected(site) && !members.contains_key(site))
            .cloned()
            .collect();
        members.extend(
            working
                .iter()
                .map(|site| (site.clone(), Member::Working { since: now })),
        );
        let deadline = now + Duration::from_secs(self.config.cohort.round_deadline_seconds);
        self.phase = Phase::Training {
            members,
            deadline,
            started: now,
        };
        for site in working {
            self.assign_training(site);
        }
        self.settle();
    }

    fn assign_training(&mut self, site: SiteId) {
        let (round, base) = (self.round(), self.checkpoint);
        self.actions.push_back(Action::Train { site, round, base });
    }

    pub(super) fn stage(&mut self, site: SiteId, update: Update) {
        let now = self.now;
        if let Some(presence) = self.presence.get_mut(&site) {
            presence.finish(now);
        }
        match &mut self.phase {
            Phase::Training { members, .. } => {
                members.insert(site, Member::Staged(update));
                self.settle();
            }
            Phase::Gathering { staged, .. } => {
                staged.insert(site, update);
                self.gather();
            }
            _ => {}
        }
    }

    /// Ends training when nobody is at work any more: with a quorum forward, without it back.
    pub(super) fn settle(&mut self) {
        let Phase::Training {
            members, started, ..
        } = &mut self.phase
        else {
            return;
        };
        if members
            .values()
            .any(|member| matches!(member, Member::Working { .. }))
        {
            return;
        }
        let started = *started;
        let (mut updates, mut dropped) = (BTreeMap::new(), BTreeMap::new());
        for (site, member) in std::mem::take(members) {
            match member {
                Member::Staged(update) => {
                    updates.insert(site, update);
                }
                Member::Dropped(reason) => {
                    dropped.insert(site, reason);
                }
                Member::Working { .. } => {}
            }
        }
        // A quorum is at least one, so an empty aggregate cannot come from here.
        if updates.len() >= self.config.cohort.quorum() {
            self.phase = Phase::Aggregating {
                updates,
                dropped,
                started,
            };
            self.resume();
        } else {
            // No start at once: sites that were dropped a moment ago would be assigned again in
            // the same breath. The gathering window gives them time.
            self.phase = Phase::Gathering {
                staged: updates,
                closes: None,
            };
            self.open_window();
        }
    }

    pub(super) fn aggregated(&mut self, checkpoint: Checkpoint, delta_norm: Exact) {
        let Phase::Aggregating {
            updates,
            dropped,
            started,
        } = &mut self.phase
        else {
            return;
        };
        let record = RoundRecord {
            checkpoint,
            base: self.checkpoint,
            updates: std::mem::take(updates),
            dropped: std::mem::take(dropped),
            delta_norm,
            signature: Signature::default(),
            reports: BTreeMap::new(),
            unevaluated: BTreeMap::new(),
            started: *started,
            published: self.now,
        };
        self.phase = Phase::Publishing {
            record: Box::new(record),
        };
        self.resume();
    }

    pub(super) fn published(&mut self, signature: Signature) {
        let Phase::Publishing { record } = &mut self.phase else {
            return;
        };
        record.signature = signature;
        record.published = self.now;
        let round = record.checkpoint.round;
        self.checkpoint = record.checkpoint;
        self.history.push((**record).clone());
        if self.config.evaluates_after(round.0) {
            self.start_evaluation();
        } else {
            self.next_round(round);
        }
    }

    pub(super) fn next_round(&mut self, done: Round) {
        if done.0 >= self.config.rounds {
            self.finish();
        } else {
            self.phase = Phase::Gathering {
                staged: BTreeMap::new(),
                closes: None,
            };
            self.gather();
        }
    }

    pub(super) fn finish(&mut self) {
        self.phase = Phase::Finished;
        self.resume();
    }

    pub(super) fn restarted(&mut self) {
        let now = self.now;
        for presence in self.presence.values_mut() {
            presence.leave(now);
        }
        // Sites come back one by one; time spent down is not held against them.
        match &mut self.phase {
            Phase::Gathering { closes, .. } => *closes = None,
            Phase::Training {
                members, deadline, ..
            } => {
                *deadline = now + Duration::from_secs(self.config.cohort.round_deadline_seconds);
                for member in members.values_mut() {
                    if let Member::Working { since } = member {
                        *since = now;
                    }
                }
            }
            Phase::Evaluating { deadline, .. } => {
                if let Some(evaluation) = &self.config.evaluation {
                    *deadline = now + Duration::from_secs(evaluation.deadline_seconds);
                }
            }
            _ => {}
        }
        self.actions.clear();
        self.resume();
    }

    /// The action that this phase waits for, if it is one of the coordinator's own.
    fn resume(&mut self) {
        let action = match &self.phase {
            Phase::Aggregating { updates, .. } => Action::Aggregate {
                round: self.round(),
                base: self.checkpoint,
                updates: updates.clone(),
            },
            Phase::Publishing { record } => Action::Publish {
                checkpoint: record.checkpoint,
            },
            Phase::Finished => Action::Finish {
                checkpoint: self.result(),
            },
            _ => return,
        };
        self.actions.push_back(action);
    }
}
