//! One training run: rounds, cohorts, deadlines. Pure: bytes, clocks and files live elsewhere.

mod again;
mod drops;
mod evaluation;
mod event;
mod phase;
mod selection;
mod status;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use protocol::bounded::Text;
use protocol::message::Reason;
use protocol::plan::{CohortRule, Config};
use protocol::{Digest, Round, SiteId, Timestamp};

pub use event::{Action, Checkpoint, Dropped, Event, Exact, Report, Signature, TaskReport, Update};
pub use phase::Phase;
pub use status::{Presence, Progress};

use phase::Member;

/// A federated training run, as the coordinator sees it.
///
/// ```text
///            quorum joined            every member done, or deadline
///  Gathering ────────────▶ Training ─────────────────▶ Aggregating ──▶ Publishing
///    ▲   ▲                    │                                            │
///    │   └────────────────────┘ quorum not reached: same round,            │ every Nth round
///    │                          staged updates are kept                    ▼ and the last
///    └───────────────────────────────────────────────────────────────  Evaluating
///      next round                                                          │ last round
///                                      stopped, in any phase ────────────▶ ▼ Finished
/// ```
///
/// An event that comes from outside is first put to [`admits`](Self::admits), then journalled, then
/// [applied](Self::apply); afterwards [`poll`](Self::poll) is drained. [`due`](Self::due) turns
/// passed time into an event when [`poll_timeout`](Self::poll_timeout) says so. Applying a
/// journal's events in order therefore gives back the run, and `Restarted` gives back the actions
/// that were under way.
///
/// Progress of sites ([`note_progress`](Self::note_progress)) is not journalled: it only postpones
/// the idle timeout, and what follows from that is.
#[derive(Clone, Debug)]
pub struct Run {
    config: Config,
    /// Latest time seen; time does not go backwards here whatever the clock does.
    now: Timestamp,
    phase: Phase,
    /// Last published model.
    checkpoint: Checkpoint,
    presence: BTreeMap<SiteId, Presence>,
    history: Vec<RoundRecord>,
    refusals: BTreeMap<(Round, SiteId), Vec<Reason>>,
    actions: VecDeque<Action>,
}

/// What is known of a finished round.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoundRecord {
    /// The model it made.
    pub checkpoint: Checkpoint,
    /// The model it started from.
    pub base: Checkpoint,
    /// Updates that were folded.
    pub updates: BTreeMap<SiteId, Update>,
    /// Sites that were dropped, and why.
    pub dropped: BTreeMap<SiteId, Dropped>,
    /// Norm of the folded change.
    pub delta_norm: Exact,
    /// The coordinator's signature over the record.
    pub signature: Signature,
    /// Evaluations of the model, by site.
    pub reports: BTreeMap<SiteId, Report>,
    /// Sites that said they cannot evaluate it, or were revoked meanwhile, and why.
    pub unevaluated: BTreeMap<SiteId, Dropped>,
    /// When training started.
    pub started: Timestamp,
    /// When the model was published.
    pub published: Timestamp,
}

impl RoundRecord {
    /// What replay needs of it: the model it started from, each update, the model it made.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> {
        let updates = self.updates.values().map(|update| update.blob);
        let checkpoints = [self.base, self.checkpoint].into_iter();
        let models = checkpoints.flat_map(|one| [Some(one.model), one.moments]);
        updates.chain(models.flatten())
    }
}

impl Run {
    /// A run as the `Launched` event makes it.
    pub fn launch(config: Config, now: Timestamp, checkpoint: Checkpoint) -> Self {
        let mut run = Self {
            config,
            now,
            phase: Phase::Gathering {
                staged: BTreeMap::new(),
                closes: None,
            },
            checkpoint,
            presence: BTreeMap::new(),
            history: Vec::new(),
            refusals: BTreeMap::new(),
            actions: VecDeque::new(),
        };
        if run.config.rounds == 0 {
            run.start_evaluation();
        }
        run
    }

    /// Whether an event from outside may enter the journal.
    ///
    /// # Errors
    /// The reason to tell the site, and to journal as [`Event::Refused`].
    pub fn admits(&self, event: &Event) -> Result<(), Reason> {
        match event {
            Event::Joined { site } | Event::Left { site } => {
                self.is_named(site).then_some(()).ok_or(Reason::NotInPlan)
            }
            Event::Staged { site, update } => self.admits_update(site, update),
            Event::Evaluated {
                site,
                round,
                report,
            } => self.admits_report(site, *round, report),
            Event::Dropped { site, reason } => self.admits_drop(site, reason),
            _ => Ok(()),
        }
    }

    /// Whether a site's upload for this round would be welcome, so that bytes need not move first.
    ///
    /// # Errors
    /// As [`admits`](Self::admits).
    pub fn admits_update(&self, site: &SiteId, update: &Update) -> Result<(), Reason> {
        if !self.config.cohort.sites.contains(site) {
            return Err(Reason::NotInPlan);
        }
        let expected = self.round();
        if update.round != expected {
            return Err(Reason::WrongRound {
                expected,
                found: update.round,
            });
        }
        let expected = self.checkpoint.model;
        if update.base != expected {
            return Err(Reason::WrongBase {
                expected,
                found: update.base,
            });
        }
        let limit = self.config.limits.max_examples;
        if !(1..=limit).contains(&update.examples) {
            return Err(Reason::Examples {
                found: update.examples,
                limit,
            });
        }
        // Under FedNova each site's part is scaled by what all say of their steps.
        let most = self.config.max_local_steps(update.examples);
        if !(1..=most).contains(&update.steps) {
            return Err(Reason::Steps {
                found: update.steps,
            });
        }
        match &self.phase {
            Phase::Training { members, .. } => match members.get(site) {
                Some(Member::Working { .. }) => Ok(()),
                // Nobody is left out under the full rule, so late work is still wanted.
                Some(Member::Dropped(_)) if self.config.cohort.rule == CohortRule::Full => Ok(()),
                Some(Member::Staged(staged)) if staged.blob != update.blob => {
                    Err(Reason::Replayed {
                        staged: staged.blob,
                    })
                }
                _ => Err(self.not_asked()),
            },
            // A site that finished while its round is gathered again has done the same work.
            Phase::Gathering { staged, .. } => match staged.get(site) {
                None => Ok(()),
                Some(staged) => Err(Reason::Replayed {
                    staged: staged.blob,
                }),
            },
            _ => Err(self.not_asked()),
        }
    }

    /// The update of `site` for `round` with these bytes, if it counts: what an upload that is sent
    /// again gets its receipt from, however far the run has gone on.
    pub fn counted(&self, site: &SiteId, round: Round, blob: Digest) -> Option<&Update> {
        let update = match &self.phase {
            Phase::Training { members, .. } => match members.get(site) {
                Some(Member::Staged(update)) => Some(update),
                _ => None,
            },
            Phase::Gathering { staged, .. } => staged.get(site),
            Phase::Aggregating { updates, .. } => updates.get(site),
            Phase::Publishing { record } => record.updates.get(site),
            _ => None,
        };
        let before = self.history.iter().rev();
        update
            .into_iter()
            .chain(before.filter_map(|record| record.updates.get(site)))
            .find(|update| (update.round, update.blob) == (round, blob))
    }

    /// Applies a journalled event.
    pub fn apply(&mut self, now: Timestamp, event: Event) {
        self.now = self.now.max(now);
        match event {
            Event::Aggregated {
                checkpoint,
                delta_norm,
            } => self.aggregated(checkpoint, delta_norm),
            Event::DeadlinePassed => self.drop_working(),
            Event::Dropped { site, reason } => self.drop_site(&site, reason),
            Event::Evaluated { site, report, .. } => self.evaluated(&site, report),
            Event::EvaluationClosed => self.finish_evaluation(),
            Event::GatherClosed => self.gather_closed(),
            Event::Joined { site } => self.joined(site),
            Event::Launched { .. } => {}
            Event::Left { site } => {
                if let Some(presence) = self.presence.get_mut(&site) {
                    presence.leave(self.now);
                }
            }
            Event::Published { signature } => self.published(signature),
            Event::Refused {
                site,
                round,
                reason,
            } => {
                let refusals = self.refusals.entry((round, site)).or_default();
                if refusals.len() < MAX_REFUSALS {
                    refusals.push(reason);
                }
            }
            Event::Restarted => self.restarted(),
            Event::Staged { site, update } => self.stage(site, update),
            Event::Stopped => self.stopped(),
        }
    }

    /// The next thing to do, if any.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`due`](Self::due) has something to say, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Gathering { closes, .. } => *closes,
            Phase::Training {
                members, deadline, ..
            } => {
                let idle = members
                    .iter()
                    .filter_map(|(site, member)| self.idle_at(site, member));
                idle.chain([*deadline]).min()
            }
            Phase::Evaluating { deadline, .. } => Some(*deadline),
            _ => None,
        }
    }

    /// The event that passed time has made, to be journalled and applied.
    pub fn due(&self, now: Timestamp) -> Option<Event> {
        match &self.phase {
            Phase::Gathering {
                closes: Some(closes),
                ..
            } if *closes <= now => Some(Event::GatherClosed),
            Phase::Training { deadline, .. } if *deadline <= now => Some(Event::DeadlinePassed),
            Phase::Training { members, .. } => members
                .iter()
                .find(|(site, member)| self.idle_at(site, member).is_some_and(|at| at <= now))
                .map(|(site, _)| Event::Dropped {
                    site: site.clone(),
                    reason: Dropped::Idle,
                }),
            Phase::Evaluating { deadline, .. } if *deadline <= now => Some(Event::EvaluationClosed),
            _ => None,
        }
    }

    /// Notes that a site is alive and where it is; postpones its idle timeout.
    pub fn note_progress(&mut self, now: Timestamp, site: &SiteId, progress: Progress) {
        self.now = self.now.max(now);
        let now = self.now;
        if let Some(presence) = self.presence.get_mut(site) {
            presence.note(now, progress);
        }
    }

    /// The round in work, or the last one of a finished run.
    pub fn round(&self) -> Round {
        match &self.phase {
            Phase::Gathering { .. } | Phase::Training { .. } | Phase::Aggregating { .. } => {
                self.checkpoint.round.next()
            }
            _ => self.checkpoint.round,
        }
    }

    /// What the run is doing.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// What the plan says.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Last published model.
    pub fn checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    /// Finished rounds, in order.
    pub fn history(&self) -> &[RoundRecord] {
        &self.history
    }

    /// Sites that have ever joined.
    pub fn presence(&self) -> &BTreeMap<SiteId, Presence> {
        &self.presence
    }

    /// Why sites were turned down, by round and site.
    pub fn refusals(&self) -> &BTreeMap<(Round, SiteId), Vec<Reason>> {
        &self.refusals
    }

    /// Blobs the run cannot go on without.
    pub fn needed_blobs(&self) -> BTreeSet<Digest> {
        let mut needed: BTreeSet<Digest> = [self.checkpoint, self.result()]
            .iter()
            .flat_map(|checkpoint| [Some(checkpoint.model), checkpoint.moments])
            .flatten()
            .collect();
        match &self.phase {
            Phase::Gathering { staged, .. }
            | Phase::Aggregating {
                updates: staged, ..
            } => {
                needed.extend(staged.values().map(|update| update.blob));
            }
            Phase::Training { members, .. } => {
                needed.extend(members.values().filter_map(|member| match member {
                    Member::Staged(update) => Some(update.blob),
                    _ => None,
                }));
            }
            Phase::Publishing { record } => {
                needed.insert(record.checkpoint.model);
                needed.extend(record.checkpoint.moments);
            }
            _ => {}
        }
        needed
    }

    /// Every blob the run has named: what it cannot go on without, and what only replay needs.
    pub fn blobs(&self) -> BTreeSet<Digest> {
        let mut blobs = self.needed_blobs();
        for record in self.history.iter().chain(self.phase.record()) {
            blobs.extend(record.blobs());
        }
        blobs
    }

    fn not_asked(&self) -> Reason {
        Reason::NotAsked {
            phase: Text::lossy(&self.phase.to_string()),
        }
    }

    fn is_named(&self, site: &SiteId) -> bool {
        let cohort = &self.config.cohort;
        cohort.sites.contains(site) || cohort.evaluators.contains(site)
    }

    fn is_connected(&self, site: &SiteId) -> bool {
        self.presence.get(site).is_some_and(Presence::is_connected)
    }

    fn idle_at(&self, site: &SiteId, member: &Member) -> Option<Timestamp> {
        let Member::Working { since } = member else {
            return None;
        };
        let heard = self
            .presence
            .get(site)
            .map_or(*since, |presence| presence.heard());
        let timeout = Duration::from_secs(self.config.cohort.idle_timeout_seconds);
        Some(heard.max(*since) + timeout)
    }
}

/// Refusals kept for one site and round; what comes after them is refused as well.
pub const MAX_REFUSALS: usize = 16;

#[cfg(test)]
mod tests;
