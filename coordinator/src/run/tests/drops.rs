//! Sites that cannot, and sites that may not any longer.

use super::evaluation::{evaluate, report};
use super::*;

fn drop_site(run: &mut Run, now: u64, name: &str, reason: Dropped) -> Result<(), Reason> {
    let event = Event::Dropped {
        site: site(name),
        reason,
    };
    run.admits(&event)?;
    run.apply(at(now), event);
    Ok(())
}

fn failed() -> Dropped {
    Dropped::Failed {
        reason: "no patients".to_owned(),
    }
}

/// A run under this rule whose first model is being evaluated.
fn evaluating(cohort: &str) -> Run {
    let mut run = run(config(cohort, EVALUATED));
    join(&mut run, 0, &["a", "b", "c", "x"]);
    for name in ["a", "b", "c"] {
        stage(&mut run, 1, name).unwrap();
    }
    fold(&mut run, 2);
    assert_eq!(run.phase().to_string(), "evaluating");
    run
}

#[test]
fn a_site_that_cannot_evaluate_is_not_waited_for_and_its_reason_is_kept() {
    let mut run = evaluating(FULL);
    for name in ["a", "c", "x"] {
        evaluate(&mut run, 3, name, report(0.5)).unwrap();
    }
    assert_eq!(run.phase().awaits(&site("b")), "its evaluation");
    drop_site(&mut run, 4, "b", failed()).unwrap();
    // Nobody is awaited any more, so it ends long before its deadline.
    assert_eq!(
        (run.phase().to_string().as_str(), run.round()),
        ("training", Round(2))
    );
    assert_eq!(trained(&drain(&mut run)), ["a", "b", "c"]);
    let record = &run.history()[0];
    assert_eq!(record.reports.len(), 3);
    assert_eq!(record.unevaluated, [(site("b"), failed())].into());
}

#[test]
fn a_failed_evaluation_is_shown_while_others_are_awaited_and_may_be_tried_again() {
    let mut run = evaluating(FULL);
    drop_site(&mut run, 3, "b", failed()).unwrap();
    assert_eq!(
        run.phase().awaits(&site("b")),
        "dropped: failed: no patients"
    );
    assert_eq!(run.phase().to_string(), "evaluating");
    // Saying so twice is refused, as is a failure of a site that has reported.
    assert!(drop_site(&mut run, 3, "b", failed()).is_err());
    evaluate(&mut run, 4, "a", report(0.5)).unwrap();
    assert!(drop_site(&mut run, 4, "a", failed()).is_err());
    // Over a new connection it is asked again.
    run.apply(at(5), Event::Left { site: site("b") });
    join(&mut run, 6, &["b"]);
    assert!(
        drain(&mut run)
            .iter()
            .any(|one| matches!(one, Action::Evaluate { site, .. } if site.as_str() == "b"))
    );
    assert_eq!(run.phase().awaits(&site("b")), "its evaluation");
    // What it said before that may arrive late, and its report counts all the same.
    drop_site(&mut run, 7, "b", failed()).unwrap();
    evaluate(&mut run, 8, "b", report(0.7)).unwrap();
    for name in ["c", "x"] {
        evaluate(&mut run, 9, name, report(0.5)).unwrap();
    }
    let record = &run.history()[0];
    assert_eq!((record.reports.len(), record.unevaluated.len()), (4, 0));
}

#[test]
fn an_evaluation_that_every_site_fails_ends() {
    let mut run = evaluating(TWO);
    for name in ["a", "b", "c", "x"] {
        drop_site(&mut run, 3, name, failed()).unwrap();
    }
    assert_eq!(run.phase().to_string(), "training");
    assert_eq!(run.history()[0].unevaluated.len(), 4);
}

#[test]
fn a_staged_update_of_a_revoked_site_is_not_folded() {
    let mut run = run(config(TWO, ""));
    join(&mut run, 0, &["a", "b", "c"]);
    for name in ["a", "b"] {
        stage(&mut run, 1, name).unwrap();
    }
    assert!(drop_site(&mut run, 2, "a", Dropped::Idle).is_err());
    drop_site(&mut run, 2, "a", Dropped::Revoked).unwrap();
    drain(&mut run);
    stage(&mut run, 3, "c").unwrap();
    let actions = fold(&mut run, 4);
    let folded = actions.iter().find_map(|action| match action {
        Action::Aggregate { updates, .. } => Some(updates.keys().cloned().collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(folded.unwrap(), [site("b"), site("c")]);
    assert_eq!(run.history()[0].dropped[&site("a")], Dropped::Revoked);
}

#[test]
fn an_update_kept_for_a_round_that_is_gathered_again_goes_with_its_site() {
    let mut run = run(config(FULL, ""));
    join(&mut run, 0, &["a", "b", "c"]);
    for name in ["a", "b"] {
        stage(&mut run, 1, name).unwrap();
    }
    run.apply(at(1000), Event::DeadlinePassed);
    assert!(drop_site(&mut run, 1001, "c", Dropped::Revoked).is_err());
    drop_site(&mut run, 1001, "a", Dropped::Revoked).unwrap();
    let Phase::Gathering { staged, .. } = run.phase() else {
        panic!("{}", run.phase());
    };
    assert_eq!(staged.keys().collect::<Vec<_>>(), [&site("b")]);
}

#[test]
fn a_revoked_site_is_waited_for_neither_in_training_nor_in_evaluation() {
    let mut run = run(config(TWO, EVALUATED));
    join(&mut run, 0, &["a", "b", "c"]);
    for name in ["a", "b"] {
        stage(&mut run, 1, name).unwrap();
    }
    drop_site(&mut run, 2, "c", Dropped::Revoked).unwrap();
    fold(&mut run, 3);
    evaluate(&mut run, 4, "a", report(0.5)).unwrap();
    evaluate(&mut run, 4, "b", report(0.5)).unwrap();
    drop_site(&mut run, 5, "c", Dropped::Revoked).unwrap();
    assert_eq!(run.round(), Round(2));
    let record = &run.history()[0];
    assert_eq!(record.unevaluated[&site("c")], Dropped::Revoked);
}
