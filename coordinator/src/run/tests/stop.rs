//! A run that somebody ends, in every phase.

use super::evaluation::{evaluate, report};
use super::*;

#[test]
fn a_stopped_run_ends_with_the_last_published_model_and_folds_nothing_more() {
    let mut run = run(config(FULL, ""));
    join(&mut run, 0, &["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        stage(&mut run, 1, name).unwrap();
    }
    fold(&mut run, 2);
    stage(&mut run, 3, "a").unwrap();
    let published = run.checkpoint();
    assert_eq!(published.round, Round(1));
    let late = update(&run, "b");
    run.apply(at(4), Event::Stopped);
    let checkpoint = published;
    assert_eq!(drain(&mut run), [Action::Finish { checkpoint }]);
    assert_eq!((run.phase(), run.history().len()), (&Phase::Finished, 1));
    let event = Event::Staged {
        site: site("b"),
        update: late,
    };
    assert!(run.admits(&event).is_err());
    assert_eq!(run.poll_timeout(), None);
    // Who comes late is told as well.
    join(&mut run, 5, &["c"]);
    assert_eq!(drain(&mut run), [Action::Finish { checkpoint }]);
}

#[test]
fn a_full_cohort_that_waits_for_a_site_that_left_for_good_can_be_stopped() {
    let mut run = run(config(FULL, ""));
    join(&mut run, 0, &["a", "b"]);
    let checkpoint = run.checkpoint();
    run.apply(at(1), Event::Stopped);
    assert_eq!(drain(&mut run), [Action::Finish { checkpoint }]);
    assert_eq!(run.history(), []);
}

#[test]
fn a_run_that_is_stopped_while_it_folds_does_not_take_the_result() {
    let mut run = run(config(FULL, ""));
    join(&mut run, 0, &["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        stage(&mut run, 1, name).unwrap();
    }
    let before = run.checkpoint();
    run.apply(at(2), Event::Stopped);
    let checkpoint = Checkpoint {
        round: Round(1),
        ..before
    };
    let delta_norm = 1.0.into();
    run.apply(
        at(3),
        Event::Aggregated {
            checkpoint,
            delta_norm,
        },
    );
    assert_eq!((run.phase(), run.checkpoint()), (&Phase::Finished, before));
}

#[test]
fn what_was_reported_when_an_evaluation_is_stopped_is_kept() {
    let mut run = run(config(FULL, EVALUATED));
    join(&mut run, 0, &["a", "b", "c", "x"]);
    for name in ["a", "b", "c"] {
        stage(&mut run, 1, name).unwrap();
    }
    fold(&mut run, 2);
    evaluate(&mut run, 3, "a", report(0.5)).unwrap();
    run.apply(at(4), Event::Stopped);
    assert_eq!(run.phase(), &Phase::Finished);
    assert_eq!(run.history()[0].reports[&site("a")], report(0.5));
}
