//! The report of synthetic runs: complete, self-contained, and the same bytes again.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail tests by panicking"
)]

#[path = "report/browser.rs"]
mod browser;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use site_client::evaluate::{Part, Prediction, Predictions, Settings};
use site_client::report::{
    self, CohortRow, Embeddings, FewShot, HistoryPoint, ReportError, Run, RunInfo,
};

const TASKS: [&str; 2] = ["ICH", "Edema <b>&"];
const SITES: [&str; 2] = ["north", "south"];

/// A model of given skill, tested on 60 scans of 40 patients at each site.
fn run(name: &str, info: RunInfo, skill: f64) -> Run {
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let mut predictions = Predictions::default();
    for site in SITES {
        for task in TASKS {
            for scan in 0..60 {
                let label = random.random_bool(0.3);
                let score = (0.5 * random.random::<f64>() + skill * f64::from(label)).min(1.0);
                let patient = format!("{site}-p{}", scan % 40);
                let scan_name = format!("{site}-s{scan}");
                let mut row = Prediction::new(patient, scan_name, task, label, score);
                row.site = Some(site.into());
                row.manufacturer = Some(if scan % 2 == 0 { "GE" } else { "Siemens" }.into());
                row.thickness = Some(if scan % 3 == 0 { 0.6 } else { 5.0 });
                row.part = if scan < 10 {
                    Part::Validation
                } else {
                    Part::Test
                };
                predictions.rows.push(row);
            }
        }
    }
    let loss = |step: u64| HistoryPoint {
        step,
        loss: Some(1.0 / (1.0 + step as f64)),
        ..HistoryPoint::default()
    };
    let mut run = Run {
        config: format!("[run]\nname = {name:?}\n"),
        predictions,
        history: (0..20).map(loss).collect(),
        info: RunInfo {
            name: name.to_owned(),
            ..info
        },
        ..Run::default()
    };
    run.name_predictions();
    run
}

fn info(model: &str, trained_at: &str, fraction: f64) -> RunInfo {
    RunInfo {
        model: Some(model.to_owned()),
        protocol: Some("finetune".to_owned()),
        trained_at: Some(trained_at.to_owned()),
        objective: Some("dino".to_owned()),
        pretraining_fraction: Some(fraction),
        ..RunInfo::default()
    }
}

/// Runs that together have the data of every figure.
fn study() -> Vec<Run> {
    let mut first = run("fm-north", info("FM-CT", "north", 1.0), 0.4);
    for shots in [8, 16, 32] {
        for repeat in 0..3 {
            for task in TASKS {
                let auc = 0.6 + 0.004 * shots as f64 + 0.01 * repeat as f64;
                let (site, task) = ("north".to_owned(), task.to_owned());
                let row = FewShot {
                    site,
                    task,
                    shots,
                    repeat,
                    auc,
                    ap: auc - 0.2,
                    model: None,
                };
                first.few_shot.push(row);
            }
        }
    }
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let mut embeddings = Embeddings {
        width: 4,
        ..Embeddings::default()
    };
    for scan in 0..40 {
        let shift = (scan % 2) as f32 * 3.0;
        embeddings
            .values
            .extend((0..4).map(|_| random.random::<f32>() + shift));
        let manufacturer = if scan % 2 == 0 { "GE" } else { "Siemens" };
        embeddings.manufacturer.push(Some(manufacturer.to_owned()));
        embeddings
            .thickness
            .push(Some(if scan % 3 == 0 { 0.6 } else { 5.0 }));
        embeddings.site.push(None);
        let label = Some(scan % 5 == 0);
        embeddings
            .labels
            .entry("ICH".to_owned())
            .or_default()
            .push(label);
        first.cohort.push(CohortRow {
            patient: format!("p{scan}"),
            scan: format!("s{scan}"),
            site: Some("north".to_owned()),
            sex: Some(if scan % 2 == 0 { "F" } else { "M" }.to_owned()),
            age: Some(40.0 + scan as f64),
            part: None,
            labels: BTreeMap::from([("ICH".to_owned(), label)]),
        });
    }
    first.embeddings = Some(embeddings);
    (first.info.channels, first.info.patch) = (Some(3), Some(12));
    let protocol = Some("linear_probe".to_owned());
    vec![
        first,
        run("fm-south", info("FM-CT", "south", 1.0), 0.35),
        run(
            "scratch-north",
            RunInfo {
                objective: None,
                ..info("scratch", "north", 1.0)
            },
            0.1,
        ),
        run("fm-tenth", info("FM-CT", "north", 0.1), 0.2),
        run(
            "one-channel",
            RunInfo {
                channels: Some(1),
                ..info("FM-CT", "north", 1.0)
            },
            0.3,
        ),
        run(
            "large-patches",
            RunInfo {
                channels: Some(3),
                patch: Some(16),
                ..info("FM-CT", "north", 1.0)
            },
            0.3,
        ),
        run(
            "probe",
            RunInfo {
                protocol,
                ..info("FM-CT", "north", 1.0)
            },
            0.3,
        ),
    ]
}

fn settings() -> Settings {
    Settings {
        bootstraps: 40,
        permutations: 40,
        ..Settings::default()
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for part in ["", "figures", "tables"] {
        for entry in fs::read_dir(folder.join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn a_study_has_every_figure_and_the_same_bytes_again() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let written = report::write(study(), first.path(), &settings()).unwrap();
    report::write(study(), second.path(), &settings()).unwrap();
    let files = files(first.path());
    assert!(
        files == self::files(second.path()),
        "a file differs between two runs"
    );
    for id in [
        "auc",
        "ap",
        "matrix",
        "external",
        "few-shot-auc",
        "few-shot-ap",
        "scaling",
        "scaling-diseases",
        "protocols",
        "channels",
        "patch",
        "roc",
        "pr",
        "calibration",
        "thickness",
        "manufacturer",
        "tsne",
        "prevalence",
        "training",
    ] {
        for ending in ["svg", "png"] {
            assert!(
                files.contains_key(&format!("figures/fig-{id}-1.{ending}")),
                "{id}.{ending}"
            );
        }
    }
    for id in [
        "summary",
        "cells",
        "comparisons",
        "runs",
        "published",
        "cohort",
    ] {
        assert!(
            files.contains_key(&format!("tables/table-{id}.csv")),
            "{id}"
        );
    }
    assert_eq!(
        files.keys().filter(|name| name.ends_with(".png")).count(),
        written.pictures
    );
}

#[test]
fn settings_that_one_objective_varies_are_shown_beside_a_model_of_another() {
    let mae = |name, patch| {
        let info = RunInfo {
            objective: Some("mae".to_owned()),
            patch: Some(patch),
            channels: Some(3),
            ..info("MAE", "north", 1.0)
        };
        run(name, info, 0.3)
    };
    let mut first = run("dino", info("FM-CT", "north", 1.0), 0.4);
    (first.info.channels, first.info.patch) = (Some(3), Some(12));
    let folder = tempfile::tempdir().unwrap();
    let runs = vec![first, mae("mae", 12), mae("mae-large-patches", 16)];
    report::write(runs, folder.path(), &settings()).unwrap();
    let names: Vec<String> = files(folder.path()).into_keys().collect();
    let shown = |id: &str| names.iter().any(|name| name.contains(id));
    assert!(shown("fig-patch"), "{names:?}");
    assert!(!shown("fig-channels"), "nothing varies: {names:?}");
}

#[test]
fn the_page_asks_no_other_host_and_escapes_names() {
    let folder = tempfile::tempdir().unwrap();
    let written = report::write(study(), folder.path(), &settings()).unwrap();
    let page = fs::read_to_string(written.page).unwrap();
    let outside = page.replace("http://www.w3.org/", "");
    for forbidden in ["http://", "https://", "<script", "@import", "<b>", "url(//"] {
        assert!(!outside.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("Nothing on this page is for clinical use"));
    // Ids are unique, or one panel would clip another.
    let ids: Vec<&str> = page
        .split(" id=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
}

#[test]
fn one_bare_table_of_predictions_makes_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let rows = (0..40).map(|scan| {
        let name = format!("s{scan}");
        Prediction::new(
            name.clone(),
            name,
            "ICH",
            scan % 2 == 0,
            f64::from(scan % 7),
        )
    });
    let predictions = Predictions {
        rows: rows.collect(),
    };
    let info = RunInfo {
        name: "bare".to_owned(),
        ..RunInfo::default()
    };
    let run = Run {
        info,
        predictions,
        ..Run::default()
    };
    let written = report::write(vec![run], folder.path(), &settings()).unwrap();
    assert!(written.pictures >= 4);
}

#[test]
fn no_runs_are_refused_and_a_run_without_predictions_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let none = report::write(Vec::new(), folder.path(), &settings()).unwrap_err();
    assert!(matches!(none, ReportError::NoRuns));
    // A pre-training run has no predictions: its curve is the report.
    let mut pretraining = run("pretraining", RunInfo::default(), 0.0);
    pretraining.predictions.rows.clear();
    let written = report::write(vec![pretraining], folder.path(), &settings()).unwrap();
    assert_eq!(written.pictures, 1);
}
