use protocol::message::Doing;
use protocol::plan::Plan;

use super::*;

mod drops;
mod evaluation;
mod stop;

fn config(cohort: &str, tail: &str) -> Config {
    let text = format!(
        r#"
        name = "test"
        objective = "mae"
        model = "vit"
        preset = "tiny"
        initial = "{}"
        rounds = 2
        local = {{ steps = 10, batch_size = 1 }}
        schedule = {{ learning_rate = {{ peak = 0.1 }} }}
        [cohort]
        sites = ["a", "b", "c"]
        evaluators = ["x"]
        gather_seconds = 30
        round_deadline_seconds = 1000
        idle_timeout_seconds = 100
        {cohort}
        {tail}
        "#,
        "0".repeat(64)
    );
    Plan::parse(text.as_bytes()).unwrap().config().clone()
}

const FULL: &str = "rule = \"full\"";
const TWO: &str = "rule = \"quorum\"\nquorum = 2";
const EVALUATED: &str =
    "[evaluation]\nevery = 1\ntasks = [\"ich\"]\nhistogram_bins = 2\ndeadline_seconds = 500";

fn site(name: &str) -> SiteId {
    name.parse().unwrap()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds * 1000)
}

fn run(config: Config) -> Run {
    let model = Digest::of(b"model 0");
    let start = Checkpoint {
        round: Round(0),
        step: 0,
        model,
        moments: None,
    };
    Run::launch(config, at(0), start)
}

fn drain(run: &mut Run) -> Vec<Action> {
    std::iter::from_fn(|| run.poll()).collect()
}

fn join(run: &mut Run, now: u64, names: &[&str]) {
    for name in names {
        let event = Event::Joined { site: site(name) };
        run.admits(&event).unwrap();
        run.apply(at(now), event);
    }
}

fn update(run: &Run, name: &str) -> Update {
    Update {
        round: run.round(),
        base: run.checkpoint().model,
        blob: Digest::of(format!("{name} {}", run.round()).as_bytes()),
        manifest: Digest::of(b"manifest"),
        receipt: Digest::of(b"receipt"),
        bytes: 4,
        examples: 10,
        steps: 10,
        norm: 1.0.into(),
    }
}

fn stage(run: &mut Run, now: u64, name: &str) -> Result<(), Reason> {
    let event = Event::Staged {
        site: site(name),
        update: update(run, name),
    };
    run.admits(&event)?;
    run.apply(at(now), event);
    Ok(())
}

/// Answers `Aggregate` and `Publish` as the shell would.
fn fold(run: &mut Run, now: u64) -> Vec<Action> {
    let mut seen = Vec::new();
    while let Some(action) = run.poll() {
        match &action {
            Action::Aggregate {
                round,
                base,
                updates,
            } => {
                let inputs = format!("{base:?} {updates:?}");
                let model = Digest::of(inputs.as_bytes());
                let checkpoint = Checkpoint {
                    round: *round,
                    step: base.step + 10,
                    model,
                    moments: None,
                };
                run.apply(
                    at(now),
                    Event::Aggregated {
                        checkpoint,
                        delta_norm: 1.0.into(),
                    },
                );
            }
            Action::Publish { .. } => {
                run.apply(
                    at(now),
                    Event::Published {
                        signature: Signature::default(),
                    },
                );
            }
            _ => {}
        }
        seen.push(action);
    }
    seen
}

fn trained(actions: &[Action]) -> Vec<&str> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Train { site, .. } => Some(site.as_str()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_full_cohort_runs_from_gathering_to_finished() {
    let mut run = run(config(FULL, ""));
    join(&mut run, 1, &["a", "b"]);
    assert_eq!(run.phase().to_string(), "gathering");
    join(&mut run, 2, &["c"]);
    assert_eq!(trained(&drain(&mut run)), ["a", "b", "c"]);
    for name in ["b", "c", "a"] {
        stage(&mut run, 3, name).unwrap();
    }
    let actions = fold(&mut run, 4);
    assert!(matches!(&actions[0], Action::Aggregate { updates, .. } if updates.len() == 3));
    assert_eq!(trained(&actions), ["a", "b", "c"]);
    assert_eq!((run.round(), run.checkpoint().step), (Round(2), 10));
    for name in ["a", "b", "c"] {
        stage(&mut run, 5, name).unwrap();
    }
    assert!(matches!(
        fold(&mut run, 6).last(),
        Some(Action::Finish { .. })
    ));
    assert_eq!((run.phase(), run.history().len()), (&Phase::Finished, 2));
}

#[test]
fn arrival_order_leads_to_the_same_model() {
    let orders = [["a", "b", "c"], ["c", "b", "a"], ["b", "a", "c"]];
    let models: BTreeSet<Digest> = orders
        .iter()
        .map(|order| {
            let mut run = run(config(FULL, ""));
            join(&mut run, 1, order);
            for name in order {
                stage(&mut run, 2, name).unwrap();
            }
            fold(&mut run, 3);
            run.checkpoint().model
        })
        .collect();
    assert_eq!(models.len(), 1);
}

#[test]
fn a_quorum_waits_the_gathering_window_and_then_starts() {
    let mut run = run(config(TWO, ""));
    join(&mut run, 1, &["a"]);
    assert_eq!(run.poll_timeout(), None);
    join(&mut run, 5, &["b"]);
    assert_eq!(run.poll_timeout(), Some(at(35)));
    assert_eq!(run.due(at(34)), None);
    let event = run.due(at(35)).unwrap();
    run.apply(at(35), event);
    assert_eq!(trained(&drain(&mut run)), ["a", "b"]);
    // A site that comes now is in the next round.
    join(&mut run, 36, &["c"]);
    assert_eq!(drain(&mut run), []);
    stage(&mut run, 40, "a").unwrap();
    assert!(matches!(
        stage(&mut run, 40, "c"),
        Err(Reason::NotAsked { .. })
    ));
    stage(&mut run, 41, "b").unwrap();
    assert_eq!(trained(&fold(&mut run, 42)), ["a", "b", "c"]);
}

#[test]
fn a_straggler_is_dropped_for_the_round_only() {
    let mut run = run(config(TWO, ""));
    join(&mut run, 1, &["a", "b", "c"]);
    drain(&mut run);
    stage(&mut run, 2, "a").unwrap();
    stage(&mut run, 2, "b").unwrap();
    let deadline = at(101);
    assert_eq!(run.poll_timeout(), Some(deadline));
    let event = run.due(deadline).unwrap();
    assert_eq!(
        event,
        Event::Dropped {
            site: site("c"),
            reason: Dropped::Idle
        }
    );
    run.apply(deadline, event);
    let actions = fold(&mut run, 102);
    assert!(matches!(&actions[0], Action::Withdraw { .. }));
    assert_eq!(trained(&actions), ["a", "b", "c"]);
    assert_eq!(run.history()[0].dropped[&site("c")], Dropped::Idle);
}

#[test]
fn progress_postpones_the_idle_timeout_but_not_the_deadline() {
    let mut run = run(config(FULL, ""));
    join(&mut run, 0, &["a", "b", "c"]);
    for name in ["a", "b"] {
        stage(&mut run, 1, name).unwrap();
    }
    for step in 1..=10 {
        let progress = Progress {
            doing: Doing::Training,
            done: step,
            total: 10,
        };
        run.note_progress(at(90 * step), &site("c"), progress);
        assert_eq!(run.due(at(90 * step + 80)), None);
    }
    // The same progress again is none.
    let progress = Progress {
        doing: Doing::Training,
        done: 10,
        total: 10,
    };
    run.note_progress(at(990), &site("c"), progress);
    assert_eq!(run.poll_timeout(), Some(at(1000)));
    assert_eq!(run.due(at(1000)), Some(Event::DeadlinePassed));
}

#[test]
fn without_a_quorum_the_round_is_gathered_again_and_keeps_what_is_staged() {
    let mut run = run(config(FULL, ""));
    join(&mut run, 0, &["a", "b", "c"]);
    let staged = update(&run, "a");
    stage(&mut run, 1, "a").unwrap();
    run.apply(at(1000), Event::DeadlinePassed);
    assert_eq!(
        (run.phase().to_string().as_str(), run.round()),
        ("gathering", Round(1))
    );
    drain(&mut run);
    // One of the two stragglers arrives with its work after all, so there is nobody to wait for:
    // the round starts again with the third.
    stage(&mut run, 1001, "b").unwrap();
    assert_eq!(trained(&drain(&mut run)), ["c"]);
    assert_eq!(
        run.counted(&site("a"), staged.round, staged.blob),
        Some(&staged)
    );
    stage(&mut run, 1031, "c").unwrap();
    assert!(matches!(run.poll(), Some(Action::Aggregate { updates, .. }) if updates.len() == 3));
}

#[test]
fn a_site_that_comes_back_gets_its_task_again() {
    let mut run = run(config(FULL, ""));
    join(&mut run, 0, &["a", "b", "c"]);
    let first = drain(&mut run);
    run.apply(at(1), Event::Left { site: site("b") });
    join(&mut run, 2, &["b"]);
    assert_eq!(drain(&mut run), [first[1].clone()]);
}

#[test]
fn wrong_updates_are_refused_with_a_reason_and_the_round_goes_on() {
    let mut run = run(config(FULL, "[limits]\nmax_examples = 100"));
    join(&mut run, 0, &["a", "b", "c"]);
    let good = update(&run, "a");
    let refuse = |run: &Run, name: &str, update: Update| {
        run.admits(&Event::Staged {
            site: site(name),
            update,
        })
        .unwrap_err()
        .to_string()
    };
    let other = Digest::of(b"other");
    for (update, message) in [
        (
            Update {
                round: Round(2),
                ..good.clone()
            },
            "for round 2, expected round 1",
        ),
        (
            Update {
                round: Round(0),
                ..good.clone()
            },
            "for round 0, expected round 1",
        ),
        (
            Update {
                base: other,
                ..good.clone()
            },
            "starts from model ",
        ),
        (
            Update {
                examples: 0,
                ..good.clone()
            },
            "examples must be 1 to 100, found 0",
        ),
        (
            Update {
                examples: 101,
                ..good.clone()
            },
            "examples must be 1 to 100, found 101",
        ),
        (
            Update {
                steps: 0,
                ..good.clone()
            },
            "local steps must be 1 to what the plan allows, found 0",
        ),
        (
            Update {
                steps: 11,
                ..good.clone()
            },
            "local steps must be 1 to what the plan allows, found 11",
        ),
        (
            Update {
                steps: 1_000_000_000_000,
                ..good.clone()
            },
            "local steps must be 1 to what the plan allows, found 1000000000000",
        ),
    ] {
        assert!(refuse(&run, "a", update).starts_with(message));
    }
    assert_eq!(
        refuse(&run, "x", good.clone()),
        "site is not named in the plan for this"
    );
    stage(&mut run, 1, "a").unwrap();
    let replayed = refuse(
        &run,
        "a",
        Update {
            blob: other,
            ..good
        },
    );
    assert!(replayed.ends_with("of this round is staged already"));
    let refused = Event::Refused {
        site: site("a"),
        round: Round(1),
        reason: Reason::NotInPlan,
    };
    for _ in 0..100 {
        run.apply(at(2), refused.clone());
    }
    assert_eq!(run.refusals()[&(Round(1), site("a"))].len(), MAX_REFUSALS);
    assert_eq!(run.phase().to_string(), "training");
}

#[test]
fn steps_of_a_plan_in_epochs_are_at_most_one_for_each_example_in_each_epoch() {
    let mut config = config(FULL, "");
    let local = config.local.as_mut().unwrap();
    (local.steps, local.epochs, local.nominal_steps) = (None, Some(3), Some(10));
    let mut run = run(config);
    join(&mut run, 0, &["a", "b", "c"]);
    // Steps are no reason to count in the plan's nominal ones: batches of one scan are the most.
    for (examples, steps, fits) in [(10, 30, true), (10, 31, false), (1, 3, true), (1, 4, false)] {
        let update = Update {
            examples,
            steps,
            ..update(&run, "a")
        };
        let admitted = run.admits_update(&site("a"), &update);
        let expected = fits.then_some(()).ok_or(Reason::Steps { found: steps });
        assert_eq!(admitted, expected, "{steps} steps of {examples} examples");
    }
}

#[test]
fn a_site_that_fails_or_is_not_named_ends_nothing() {
    let mut run = run(config(TWO, ""));
    let stranger = Event::Joined {
        site: site("stranger"),
    };
    assert_eq!(run.admits(&stranger), Err(Reason::NotInPlan));
    join(&mut run, 0, &["a", "b", "c"]);
    let reason = Dropped::Failed {
        reason: "out of memory".to_owned(),
    };
    let failed = Event::Dropped {
        site: site("b"),
        reason: reason.clone(),
    };
    run.admits(&failed).unwrap();
    run.apply(at(1), failed.clone());
    assert!(matches!(run.admits(&failed), Err(Reason::NotAsked { .. })));
    for name in ["a", "c"] {
        stage(&mut run, 2, name).unwrap();
    }
    fold(&mut run, 3);
    assert_eq!(run.history()[0].dropped[&site("b")], reason);
}

#[test]
fn a_restart_brings_back_the_work_under_way() {
    let mut run = run(config(FULL, ""));
    join(&mut run, 0, &["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        stage(&mut run, 1, name).unwrap();
    }
    let before = drain(&mut run);
    run.apply(at(50), Event::Restarted);
    assert_eq!(drain(&mut run), before[before.len() - 1..]);
    fold(&mut run, 51);
    run.apply(at(52), Event::Restarted);
    assert!(
        run.presence()
            .values()
            .all(|presence| !presence.is_connected())
    );
}

#[test]
fn a_clock_that_jumps_back_moves_no_deadline() {
    let mut run = run(config(FULL, ""));
    join(&mut run, 500, &["a", "b"]);
    join(&mut run, 3, &["c"]);
    assert_eq!(run.poll_timeout(), Some(at(600)));
}
