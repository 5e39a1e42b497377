//! What people see: the same data for `status`, the web page and metrics.

use std::collections::BTreeMap;

use protocol::message::Doing;
use protocol::plan::Config;
use protocol::{Digest, Round, SiteId, Timestamp};
use serde::Serialize;

use super::coordinator::Coordinator;
use crate::run::{Dropped, Phase, Report, RoundRecord, Run};

/// Everything there is to see.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    /// When it was made.
    pub at: Timestamp,
    /// The run that is served, if any.
    pub run: Option<RunOverview>,
    /// Last errors of the coordinator itself, oldest first.
    pub errors: Vec<(Timestamp, String)>,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct RunOverview {
    /// Its name.
    pub run: String,
    /// Its plan's digest.
    pub plan: Digest,
    /// What it does with updates.
    pub strategy: &'static str,
    /// What it is doing.
    pub phase: String,
    /// The round in work, or the last one.
    pub round: Round,
    /// Rounds in all.
    pub rounds: u32,
    /// Global step of the last published model.
    pub step: u64,
    /// The last published model.
    pub model: Digest,
    /// Fewest updates that make a round.
    pub quorum: usize,
    /// When the phase ends whatever happens.
    pub deadline: Option<Timestamp>,
    /// Each named site.
    pub sites: BTreeMap<String, SiteOverview>,
    /// Finished rounds, newest last.
    pub history: Vec<RoundOverview>,
}

/// One site.
#[derive(Clone, Debug, Serialize)]
pub struct SiteOverview {
    /// Whether its data never train.
    pub evaluates_only: bool,
    /// Whether it is connected.
    pub connected: bool,
    /// Since when it has been so; `None` if it was never here.
    pub since: Option<Timestamp>,
    /// When it was last heard.
    pub heard: Option<Timestamp>,
    /// What it is doing.
    pub doing: Doing,
    /// Steps, patients or bytes done.
    pub done: u64,
    /// Steps, patients or bytes in all.
    pub total: u64,
    /// Whether it is waited for, or why not.
    pub awaited: String,
    /// What it was last refused for, with the round.
    pub refused: Option<(Round, String)>,
    /// Why it takes no part in the run, if it said so.
    pub declined: Option<String>,
}

/// One finished round.
#[derive(Clone, Debug, Serialize)]
pub struct RoundOverview {
    /// Its number.
    pub round: Round,
    /// The model it made.
    pub model: Digest,
    /// Sites whose updates were folded.
    pub sites: Vec<String>,
    /// Sites that were dropped, and why.
    pub dropped: BTreeMap<String, String>,
    /// Examples all of them trained on.
    pub examples: u64,
    /// Bytes of their updates.
    pub bytes: u64,
    /// Norm of the folded change.
    pub delta_norm: f64,
    /// Seconds from the start of training to the published model.
    pub seconds: f64,
    /// AUC by site and task, where one was reported.
    pub auc: BTreeMap<String, BTreeMap<String, f64>>,
    /// Tasks of the plan that a site's report leaves out: kept in by its policy, or not evaluated
    /// there. The wire tells no reason; the site's log does.
    pub unreported: BTreeMap<String, Vec<String>>,
    /// Sites that did not evaluate the model, and why.
    pub unevaluated: BTreeMap<String, String>,
}

impl Coordinator {
    /// What people see now.
    pub fn overview(&self, at: Timestamp) -> Overview {
        let run = self.active().map(|active| {
            let run = active.driver.run();
            let mut shown = RunOverview::new(active.launch.run.as_str(), active.plan.digest(), run);
            for (site, reason) in &active.declined {
                if let Some(one) = shown.sites.get_mut(site.as_str()) {
                    one.declined = Some(reason.to_string());
                }
            }
            shown
        });
        Overview {
            at,
            run,
            errors: self.errors().iter().cloned().collect(),
        }
    }
}

impl Overview {
    /// It as JSON of at most `limit` bytes: the oldest rounds are left out until it fits, which the
    /// number of the first one that is left tells. `None` where all of them would not do.
    pub(super) fn json_within(&self, limit: usize) -> Option<Vec<u8>> {
        let json = serde_json::to_vec(self).ok()?;
        let mut over = json.len().saturating_sub(limit);
        if over == 0 {
            return Some(json);
        }
        let mut shorter = self.clone();
        let history = &mut shorter.run.as_mut()?.history;
        let mut left_out = 0;
        for round in history.iter() {
            // With the comma behind it; the last one has none.
            let len = serde_json::to_vec(round).ok()?.len() + 1;
            left_out += 1;
            over = over.saturating_sub(len);
            if over == 0 {
                break;
            }
        }
        history.drain(..left_out);
        let json = serde_json::to_vec(&shorter).ok()?;
        (json.len() <= limit).then_some(json)
    }
}

impl RunOverview {
    /// What can be seen of a run.
    pub fn new(name: &str, plan: Digest, run: &Run) -> Self {
        let config = run.config();
        let named = config.cohort.sites.iter().chain(&config.cohort.evaluators);
        let sites = named
            .map(|site| {
                let presence = run.presence().get(site);
                let progress = presence
                    .map(|presence| presence.progress())
                    .unwrap_or_default();
                let mut refused = run
                    .refusals()
                    .iter()
                    .rev()
                    .filter(|((_, of), _)| of == site);
                let overview = SiteOverview {
                    evaluates_only: config.cohort.evaluators.contains(site),
                    connected: presence.is_some_and(|presence| presence.is_connected()),
                    since: presence.map(|presence| presence.since()),
                    heard: presence.map(|presence| presence.heard()),
                    doing: progress.doing,
                    done: progress.done,
                    total: progress.total,
                    awaited: run.phase().awaits(site),
                    refused: refused.next().and_then(|((round, _), reasons)| {
                        reasons.last().map(|reason| (*round, reason.to_string()))
                    }),
                    declined: None,
                };
                (site.to_string(), overview)
            })
            .collect();
        Self {
            run: name.to_owned(),
            plan,
            strategy: config.strategy.name(),
            phase: run.phase().to_string(),
            round: run.round(),
            rounds: config.rounds,
            step: run.checkpoint().step,
            model: run.checkpoint().model,
            quorum: config.cohort.quorum(),
            deadline: match run.phase() {
                Phase::Training { deadline, .. } | Phase::Evaluating { deadline, .. } => {
                    Some(*deadline)
                }
                _ => None,
            },
            sites,
            history: run
                .history()
                .iter()
                .map(|record| RoundOverview::new(config, record))
                .collect(),
        }
    }
}

impl RoundOverview {
    fn new(config: &Config, record: &RoundRecord) -> Self {
        let updates = || record.updates.values();
        Self {
            round: record.checkpoint.round,
            model: record.checkpoint.model,
            sites: record.updates.keys().map(ToString::to_string).collect(),
            dropped: reasons(&record.dropped),
            examples: updates().map(|update| update.examples).sum(),
            bytes: updates().map(|update| update.bytes).sum(),
            delta_norm: record.delta_norm.into(),
            seconds: record.published.since(record.started).as_secs_f64(),
            auc: record
                .reports
                .iter()
                .map(|(site, report)| {
                    let tasks = report.tasks.iter();
                    let aucs = tasks.filter_map(|task| Some((task.task.clone(), task.auc?.into())));
                    (site.to_string(), aucs.collect())
                })
                .collect(),
            unreported: record
                .reports
                .iter()
                .map(|(site, report)| (site.to_string(), unreported(config, report)))
                .filter(|(_, tasks)| !tasks.is_empty())
                .collect(),
            unevaluated: reasons(&record.unevaluated),
        }
    }
}

fn reasons(dropped: &BTreeMap<SiteId, Dropped>) -> BTreeMap<String, String> {
    let shown = |(site, reason): (&SiteId, &Dropped)| (site.to_string(), reason.to_string());
    dropped.iter().map(shown).collect()
}

fn unreported(config: &Config, report: &Report) -> Vec<String> {
    let wanted = config.evaluation.iter().flat_map(|one| &one.tasks);
    let known = |name: &&String| report.tasks.iter().any(|task| task.task == **name);
    wanted.filter(|name| !known(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overview(rounds: u32) -> Overview {
        let round = |number| RoundOverview {
            round: Round(number),
            model: Digest::of(b"model"),
            sites: vec!["north".to_owned(); number as usize % 3],
            dropped: BTreeMap::new(),
            examples: 10,
            bytes: 4,
            delta_norm: 0.5,
            seconds: 1.0,
            auc: BTreeMap::new(),
            unreported: BTreeMap::new(),
            unevaluated: BTreeMap::new(),
        };
        let run = RunOverview {
            run: "long".to_owned(),
            plan: Digest::of(b"plan"),
            strategy: "fedavg",
            phase: "training".to_owned(),
            round: Round(rounds + 1),
            rounds,
            step: 0,
            model: Digest::of(b"model"),
            quorum: 1,
            deadline: None,
            sites: BTreeMap::new(),
            history: (1..=rounds).map(round).collect(),
        };
        Overview {
            at: Timestamp(1),
            run: Some(run),
            errors: Vec::new(),
        }
    }

    #[test]
    fn an_overview_that_is_too_long_leaves_out_the_oldest_rounds_and_no_more_than_it_must() {
        let shown = overview(30);
        let json = |rounds: usize| {
            let mut shorter = shown.clone();
            let history = &mut shorter.run.as_mut().unwrap().history;
            history.drain(..history.len() - rounds);
            serde_json::to_vec(&shorter).unwrap()
        };
        for rounds in [30, 29, 7, 1, 0] {
            let expected = json(rounds);
            assert_eq!(
                shown.json_within(expected.len()),
                Some(expected.clone()),
                "{rounds}"
            );
            let found = shown.json_within(expected.len() - 1);
            let next = rounds.checked_sub(1).map(json);
            assert_eq!(found, next, "a byte less than {rounds}");
        }
    }
}
