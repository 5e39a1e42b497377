//! Something to show.

use std::collections::BTreeMap;

use coordinator::service::{Overview, RoundOverview, RunOverview, SiteOverview};
use protocol::message::Doing;
use protocol::{Digest, Round, Timestamp};

/// A run in `round` of 5, whose sites have `done` of 10 behind them.
pub(crate) fn overview(round: u32, done: u64) -> Overview {
    let site = |connected, evaluates_only, refused| SiteOverview {
        evaluates_only,
        connected,
        since: Some(Timestamp(1000)),
        heard: Some(Timestamp(2000)),
        doing: Doing::Training,
        done,
        total: 10,
        awaited: "its update".to_owned(),
        refused,
        declined: None,
    };
    let mut harbor = site(false, true, None);
    harbor.declined = Some("site policy: plan has 5 rounds, policy max_rounds is 3".to_owned());
    let refused = Some((Round(1), "storage is full".to_owned()));
    let evaluated = RoundOverview {
        round: Round(1),
        model: Digest::of(b"first"),
        sites: vec!["north".to_owned()],
        dropped: BTreeMap::new(),
        examples: 20,
        bytes: 3000,
        delta_norm: 0.5,
        seconds: 9.0,
        auc: BTreeMap::new(),
        unreported: BTreeMap::from([(
            "north".to_owned(),
            ["EDH", "SAH"].map(str::to_owned).into(),
        )]),
        unevaluated: BTreeMap::from([("harbor".to_owned(), "failed: no patients".to_owned())]),
    };
    let run = RunOverview {
        run: "headct".to_owned(),
        plan: Digest::of(b"plan"),
        strategy: "fedavg",
        phase: "training".to_owned(),
        round: Round(round),
        rounds: 5,
        step: 40,
        model: Digest::of(b"model"),
        quorum: 1,
        deadline: None,
        sites: BTreeMap::from([
            ("harbor".to_owned(), harbor),
            ("north".to_owned(), site(true, false, refused)),
        ]),
        history: vec![evaluated],
    };
    Overview {
        at: Timestamp(5000),
        run: Some(run),
        errors: vec![(Timestamp(4000), "<b>disk failed</b>".to_owned())],
    }
}
