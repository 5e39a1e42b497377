//! Evaluation: who is waited for, which reports count, which round is best.

use super::*;

pub(super) fn report(auc: f64) -> Report {
    let task = TaskReport {
        task: "ich".to_owned(),
        positive: vec![1, 9],
        negative: vec![8, 2],
        auc: Some(auc.into()),
    };
    Report { tasks: vec![task] }
}

pub(super) fn evaluate(run: &mut Run, now: u64, name: &str, report: Report) -> Result<(), Reason> {
    let event = Event::Evaluated {
        site: site(name),
        round: run.round(),
        report,
    };
    run.admits(&event)?;
    run.apply(at(now), event);
    Ok(())
}

#[test]
fn evaluation_waits_for_everybody_under_the_full_rule_and_picks_the_best() {
    let tail = format!("{EVALUATED}\nselect = \"best-mean-auc\"");
    let mut run = run(config(FULL, &tail));
    join(&mut run, 0, &["a", "b", "c", "x"]);
    for (round, auc) in [(1, 0.9), (2, 0.7)] {
        for name in ["a", "b", "c"] {
            stage(&mut run, round * 10, name).unwrap();
        }
        let asked = fold(&mut run, round * 10 + 1);
        let asked = asked
            .iter()
            .filter(|one| matches!(one, Action::Evaluate { .. }))
            .count();
        assert_eq!(asked, 4);
        for name in ["a", "b", "c"] {
            evaluate(&mut run, round * 10 + 2, name, report(auc)).unwrap();
        }
        assert_eq!(run.phase().to_string(), "evaluating");
        // The external site scores the other way round, and has no say.
        evaluate(&mut run, round * 10 + 3, "x", report(1.0 - auc)).unwrap();
        fold(&mut run, round * 10 + 4);
    }
    assert_eq!(run.phase(), &Phase::Finished);
    assert_eq!(run.result().round, Round(1));
    assert_eq!(run.history()[1].reports.len(), 4);
}

#[test]
fn evaluation_does_not_wait_for_ever() {
    let mut run = run(config(TWO, EVALUATED));
    join(&mut run, 0, &["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        stage(&mut run, 1, name).unwrap();
    }
    fold(&mut run, 2);
    evaluate(&mut run, 3, "a", report(0.5)).unwrap();
    assert_eq!(run.due(at(501)), None);
    let event = run.due(at(502)).unwrap();
    run.apply(at(502), event);
    assert_eq!(
        (run.phase().to_string().as_str(), run.round()),
        ("training", Round(2))
    );
    assert_eq!(run.history()[0].reports.len(), 1);
}

#[test]
fn reports_that_are_not_the_plans_are_refused() {
    let mut run = run(config(FULL, EVALUATED));
    join(&mut run, 0, &["a", "b", "c", "x"]);
    for name in ["a", "b", "c"] {
        stage(&mut run, 1, name).unwrap();
    }
    fold(&mut run, 2);
    let good = report(0.5).tasks.remove(0);
    for (task, defect) in [
        (
            TaskReport {
                task: "other".to_owned(),
                ..good.clone()
            },
            "a task the plan does not name",
        ),
        (
            TaskReport {
                positive: vec![1],
                ..good.clone()
            },
            "a histogram with another number",
        ),
        (
            TaskReport {
                auc: Some(1.5.into()),
                ..good.clone()
            },
            "an AUC outside",
        ),
        (
            TaskReport {
                auc: Some(f64::NAN.into()),
                ..good.clone()
            },
            "an AUC outside",
        ),
    ] {
        let error = evaluate(&mut run, 3, "a", Report { tasks: vec![task] }).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("evaluation: {defect}")),
            "{error}"
        );
    }
    let twice = Report {
        tasks: vec![good.clone(), good],
    };
    assert!(evaluate(&mut run, 3, "a", twice).is_err());
    evaluate(&mut run, 4, "a", report(0.5)).unwrap();
    assert!(evaluate(&mut run, 5, "a", report(0.6)).is_err());
}

/// A report without an area: what a site sends whose policy has `auc = false`. With two bins, and
/// one of 10 patients of either class per `wrong` in the other one's bin.
fn withheld(wrong: u32) -> Report {
    let task = TaskReport {
        task: "ich".to_owned(),
        positive: vec![wrong, 10 - wrong],
        negative: vec![10 - wrong, wrong],
        auc: None,
    };
    Report { tasks: vec![task] }
}

/// Two rounds under a quorum of two, with these reports of `a` and `b` after each; the result.
fn best_of(rounds: [[Option<Report>; 2]; 2]) -> Round {
    let tail = format!("{EVALUATED}\nselect = \"best-mean-auc\"");
    let mut run = run(config(TWO, &tail));
    join(&mut run, 0, &["a", "b", "c", "x"]);
    for (round, reports) in rounds.into_iter().enumerate() {
        let now = 1000 * (round as u64 + 1);
        for name in ["a", "b", "c"] {
            stage(&mut run, now, name).unwrap();
        }
        fold(&mut run, now);
        for (name, report) in ["a", "b"].into_iter().zip(reports) {
            if let Some(report) = report {
                evaluate(&mut run, now, name, report).unwrap();
            }
        }
        run.apply(at(now + 1), Event::EvaluationClosed);
    }
    run.result().round
}

#[test]
fn a_site_that_withholds_its_auc_has_a_say_by_its_histograms() {
    // By a alone the first round is better; b's histograms are much better in the second.
    let rounds = [
        [Some(report(0.9)), Some(withheld(5))],
        [Some(report(0.8)), Some(withheld(1))],
    ];
    assert_eq!(best_of(rounds), Round(2));
}

#[test]
fn rounds_are_compared_over_the_sites_that_reported_in_both() {
    // Without b, who scores low, the second round's mean is higher although a found it worse.
    let rounds = [
        [Some(report(0.8)), Some(report(0.5))],
        [Some(report(0.7)), None],
    ];
    assert_eq!(best_of(rounds), Round(1));
    let rounds = [
        [Some(report(0.8)), Some(report(0.5))],
        [Some(report(0.81)), None],
    ];
    assert_eq!(best_of(rounds), Round(2));
}

#[test]
fn a_round_that_shares_no_report_with_the_best_is_not_chosen() {
    let rounds = [[Some(report(0.6)), None], [None, Some(report(0.9))]];
    assert_eq!(best_of(rounds), Round(1));
    // Nor is an exact area compared with a binned one: 0.85 in the first round, 0.8 in the second.
    let rounds = [[Some(report(0.6)), None], [Some(withheld(2)), None]];
    assert_eq!(best_of(rounds), Round(1));
}

#[test]
fn without_any_report_the_last_round_is_the_result() {
    assert_eq!(best_of([[None, None], [None, None]]), Round(2));
}
