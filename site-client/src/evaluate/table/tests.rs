//! Cells, macro rows, comparisons, and what happens to bad input.

use core_model::metrics::Ranked;

use super::*;

/// A noisy model of `tasks` on `scans` scans of half as many patients.
fn predictions(tasks: &[&str], scans: usize, shift: f64) -> Predictions {
    let mut rows = Vec::new();
    for (place, task) in tasks.iter().enumerate() {
        for scan in 0..scans {
            let noise = ((scan * 37 + place * 11) % 101) as f64 / 101.0;
            let label = (scan + place) % 3 == 0;
            let score = (0.7 * noise + 0.3 * shift * f64::from(label)).clamp(0.0, 1.0);
            let (patient, name) = (format!("p{}", scan / 2), format!("s{scan}"));
            let mut row = Prediction::new(patient, name, *task, label, score);
            row.site = Some(if scan % 4 < 2 { "north" } else { "south" }.into());
            row.thickness = Some(if scan % 2 == 0 { 0.5 } else { 5.0 });
            rows.push(row);
        }
    }
    Predictions { rows }
}

fn quick() -> Settings {
    Settings {
        bootstraps: 50,
        permutations: 50,
        ..Settings::default()
    }
}

fn compute(predictions: &Predictions) -> MetricsTable {
    MetricsTable::compute(predictions, None, &quick()).unwrap()
}

#[test]
fn each_task_has_a_cell_and_their_mean_a_row() {
    let table = compute(&predictions(&["ICH", "SDH"], 60, 1.0));
    let tasks: Vec<&str> = table.cells.iter().map(|cell| &*cell.task).collect();
    assert_eq!(tasks, ["ICH", "SDH", "macro"]);
    let auc = |place: usize| table.cells[place].auc.unwrap();
    assert_eq!(auc(2), (auc(0) + auc(1)) / 2.0);
    let cell = &table.cells[0];
    assert_eq!((cell.n, cell.patients, cell.positives), (60, 30, 20));
    let [low, high] = cell.auc_ci.unwrap();
    assert!(low <= auc(0) && auc(0) <= high && low < high);
    assert!(cell.delong_se.is_some() && cell.brier.is_some() && cell.reason.is_none());
}

#[test]
fn groups_keep_their_order_and_their_rows() {
    let settings = Settings {
        by: Some(GroupBy::Thickness),
        ..quick()
    };
    let table = MetricsTable::compute(&predictions(&["ICH"], 60, 1.0), None, &settings).unwrap();
    let groups: Vec<_> = table
        .cells
        .iter()
        .map(|c| (c.group.as_deref().unwrap(), c.n))
        .collect();
    assert_eq!(
        groups,
        [
            ("≤ 1.5 mm", 30),
            ("≤ 1.5 mm", 30),
            ("> 3 mm", 30),
            ("> 3 mm", 30)
        ]
    );
    let by_sex = Settings {
        by: Some(GroupBy::Sex),
        ..quick()
    };
    let error = MetricsTable::compute(&predictions(&["ICH"], 9, 1.0), None, &by_sex).unwrap_err();
    assert!(error.to_string().contains("column sex"), "{error}");
}

#[test]
fn a_bad_cell_says_why_and_the_rest_is_computed() {
    let mut table = predictions(&["ICH", "SDH", "EDH", "IPH", "SAH"], 30, 1.0);
    table
        .rows
        .retain(|row| &*row.task != "IPH" || &*row.scan == "s0");
    for row in &mut table.rows {
        match &*row.task {
            "SDH" => row.label = false,
            "EDH" if &*row.scan == "s4" => row.score = f64::NAN,
            "SAH" if &*row.scan == "s5" => row.scan = "s6".into(),
            _ => {}
        }
    }
    let result = compute(&table);
    let reason = |task: &str| {
        let cell = result.cells.iter().find(|cell| cell.task == task).unwrap();
        (cell.auc.is_some(), cell.reason.clone().unwrap_or_default())
    };
    assert_eq!(reason("ICH"), (true, String::new()));
    assert_eq!(
        reason("SDH"),
        (false, "labels: no positive among 30 rows".to_owned())
    );
    assert_eq!(
        reason("EDH"),
        (
            false,
            "scores: row 4 is NaN, expected a finite number".to_owned()
        )
    );
    assert_eq!(reason("IPH").1, "labels: no negative among 1 rows");
    assert_eq!(reason("SAH"), (false, "1 rows repeat a scan".to_owned()));
    assert_eq!(reason("macro"), (true, "mean of 1 of 5 tasks".to_owned()));
}

#[test]
fn a_better_model_is_found_better_and_the_same_model_is_not() {
    let (good, bad) = (
        predictions(&["ICH", "SDH"], 120, 1.0),
        predictions(&["ICH", "SDH"], 120, 0.0),
    );
    let compared = MetricsTable::compute(&good, Some(&bad), &quick()).unwrap();
    for cell in &compared.cells {
        let comparison = cell.comparison.as_ref().unwrap();
        assert!(comparison.delta.unwrap() > 0.1, "{comparison:?}");
        assert_eq!(comparison.permutation_p, Some(1.0 / 51.0));
        let [low, high] = comparison.delta_ci.unwrap();
        assert!(low > 0.0 && high > low);
    }
    let same = MetricsTable::compute(&good, Some(&good), &quick()).unwrap();
    let comparison = same.cells[0].comparison.as_ref().unwrap();
    assert_eq!(
        (comparison.delta, comparison.delong_p),
        (Some(0.0), Some(1.0))
    );
    assert_eq!(comparison.permutation_p_holm, Some(1.0));
}

#[test]
fn tables_that_do_not_belong_together_are_not_compared() {
    let mine = predictions(&["ICH", "SDH"], 30, 1.0);
    let mut theirs = predictions(&["ICH", "SDH"], 30, 0.5);
    theirs
        .rows
        .retain(|row| &*row.task != "ICH" || &*row.scan != "s3");
    for row in &mut theirs.rows {
        row.label ^= &*row.task == "SDH" && &*row.scan == "s1";
    }
    let table = MetricsTable::compute(&mine, Some(&theirs), &quick()).unwrap();
    let reasons: Vec<String> = table
        .cells
        .iter()
        .map(|cell| cell.comparison.as_ref().unwrap().reason.clone().unwrap())
        .collect();
    assert_eq!(
        reasons[0],
        "comparison: 1 scans are missing there and 0 here"
    );
    assert_eq!(reasons[1], "comparison: 1 scans have another label there");
    assert_eq!(reasons[2], "comparison: no task could be compared");
    assert!(table.cells.iter().all(|cell| cell.auc.is_some()));

    for (place, row) in theirs.rows.iter_mut().enumerate() {
        row.model = Some(format!("m{}", place % 2).into());
    }
    let error = MetricsTable::compute(&mine, Some(&theirs), &quick()).unwrap_err();
    assert_eq!(error.to_string(), "comparison: 2 models, expected one");
}

#[test]
fn thresholds_come_from_validation_rows_only() {
    let mut table = predictions(&["ICH"], 60, 1.0);
    for row in table.rows.iter_mut().skip(30) {
        row.part = Part::Validation;
    }
    let cell = &compute(&table).cells[0];
    assert_eq!(cell.n, 30);
    let (labels, scores): (Vec<bool>, Vec<f64>) = table.rows[30..]
        .iter()
        .map(|row| (row.label, row.score))
        .unzip();
    let expected = core_model::metrics::youden_threshold(&Ranked::new(&labels, &scores).unwrap());
    assert_eq!(cell.operating_point.unwrap().threshold, expected);
    assert!(
        compute(&predictions(&["ICH"], 60, 1.0)).cells[0]
            .operating_point
            .is_none()
    );
}

#[test]
fn training_rows_are_not_evaluated() {
    let mut table = predictions(&["ICH"], 10, 1.0);
    for row in &mut table.rows {
        row.part = Part::Train;
    }
    let error = MetricsTable::compute(&table, None, &quick()).unwrap_err();
    assert!(matches!(error, EvaluateError::Empty));
}
