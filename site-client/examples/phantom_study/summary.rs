//! The study in Markdown: means, and paired differences with intervals.

mod scores;

use std::path::Path;

use super::cohorts::EXTERNAL;
use super::jobs::{SHOT_TASKS, SHOTS, Sweep};
use scores::{Group, Row, Scores, difference};

/// Prints the tables of what is there; a row without trials is left out.
pub(crate) fn print(out: &Path) -> anyhow::Result<()> {
    let scores = Scores::read(out)?;
    means(&scores);
    in_site(&scores);
    differences(&scores);
    few_shots(&scores);
    chosen(&scores);
    Ok(())
}

fn means(scores: &Scores) {
    println!("| start | protocol | trainings | internal | external |\n|---|---|---|---|---|");
    for way in ["paper", "tuned", "published", "linear", "attentive"] {
        for start in [
            "scratch", "mae-100", "dino-100", "mae-30", "mae-10", "dino-30", "dino-10",
        ] {
            let row = scores.row(start, way);
            if !row.is_empty() {
                let [internal, external] = Group::SITES.map(|group| row.mean(group));
                let count = row.len();
                println!("| {start} | {way} | {count} | {internal:.3} | {external:.3} |");
            }
        }
    }
}

/// What a model trained elsewhere loses, beside what the images themselves cost.
fn in_site(scores: &Scores) {
    println!(
        "\n| test site | trained at langone | trained at the site | difference (95 %) |\n|---|---|---|---|"
    );
    let elsewhere = scores.row("scratch", "paper");
    for site in EXTERNAL {
        let own = scores.row("scratch", &format!("insite-{site}"));
        if own.is_empty() || elsewhere.is_empty() {
            continue;
        }
        let group = Group::Site(site);
        println!(
            "| {site} | {:.3} | {:.3} | {} |",
            elsewhere.mean(group),
            own.mean(group),
            difference(&own, &elsewhere, group)
        );
    }
}

fn differences(scores: &Scores) {
    println!("\n| comparison | internal (95 %) | external (95 %) |\n|---|---|---|");
    let row = |start: &str, way: &str| scores.row(start, way);
    let line = |name: String, one: &Row<'_>, two: &Row<'_>| {
        if !one.is_empty() && !two.is_empty() {
            let [internal, external] = Group::SITES.map(|group| difference(one, two, group));
            println!("| {name} | {internal} | {external} |");
        }
    };
    let scratch = |way: &str| row("scratch", way);
    line(
        "scratch: tuned − paper-like".into(),
        &scratch("tuned"),
        &scratch("paper"),
    );
    line(
        "scratch: tuned by the paper's sweep − tuned".into(),
        &scratch("published"),
        &scratch("tuned"),
    );
    for start in ["mae-100", "dino-100"] {
        let (paper, tuned) = (row(start, "paper"), row(start, "tuned"));
        line(
            format!("{start} − scratch, both paper-like"),
            &paper,
            &scratch("paper"),
        );
        line(
            format!("{start} paper-like − scratch tuned"),
            &paper,
            &scratch("tuned"),
        );
        line(
            format!("{start} paper-like − scratch tuned by the paper's sweep"),
            &paper,
            &scratch("published"),
        );
        line(
            format!("{start} tuned − scratch tuned by the paper's sweep"),
            &tuned,
            &scratch("published"),
        );
        line(
            format!("{start} − scratch, both tuned"),
            &tuned,
            &scratch("tuned"),
        );
        for probe in ["linear", "attentive"] {
            let probed = row(start, probe);
            line(
                format!("{start}: fine-tuned paper-like − {probe} probe"),
                &paper,
                &probed,
            );
            line(
                format!("{start}: fine-tuned tuned − {probe} probe"),
                &tuned,
                &probed,
            );
            line(
                format!("{start} − random features, {probe} probe"),
                &probed,
                &scratch(probe),
            );
        }
    }
    for way in ["paper", "tuned", "linear", "attentive"] {
        line(
            format!("dino-100 − mae-100, {way}"),
            &row("dino-100", way),
            &row("mae-100", way),
        );
    }
    for objective in ["mae", "dino"] {
        let whole = row(&format!("{objective}-100"), "paper");
        for percent in [30, 10] {
            let part = row(&format!("{objective}-{percent}"), "paper");
            line(
                format!("{objective}: 100 % − {percent} % of the pool"),
                &whole,
                &part,
            );
        }
    }
}

fn few_shots(scores: &Scores) {
    println!(
        "\n| few shots | K | scratch | MAE | DINO | MAE − scratch (95 %) | DINO − scratch (95 %) |\n|---|---|---|---|---|---|---|"
    );
    for way in ["fine-tuned", "SimpleShot"] {
        for task in SHOT_TASKS {
            for k in SHOTS {
                let row = |start: &str| match way {
                    "SimpleShot" => scores.run(start, "simpleshot", task, k),
                    _ => scores.row(start, &format!("shots-{task}-{k}")),
                };
                let rows = ["scratch", "mae-100", "dino-100"].map(row);
                if rows.iter().any(Row::is_empty) {
                    continue;
                }
                let [scratch, mae, dino] = &rows;
                let group = Group::Internal;
                let [a, b, c] = [scratch, mae, dino].map(|row| row.mean(group));
                println!(
                    "| {task}, {way} | {k} | {a:.3} | {b:.3} | {c:.3} | {} | {} |",
                    difference(mae, scratch, group),
                    difference(dino, scratch, group)
                );
            }
        }
    }
}

/// How often each combination of a sweep was the best.
fn chosen(scores: &Scores) {
    println!("\n| sweep's choice by validation | combinations, times chosen |\n|---|---|");
    for (start, sweep) in [
        ("scratch", Sweep::Own),
        ("mae-100", Sweep::Own),
        ("dino-100", Sweep::Own),
        ("scratch", Sweep::Published),
    ] {
        let counts = scores.chosen(start, sweep);
        if !counts.is_empty() {
            let counts: Vec<String> = counts
                .iter()
                .map(|(index, count)| format!("{index}: {count}"))
                .collect();
            println!("| {start}, {} | {} |", sweep.prefix(), counts.join(", "));
        }
    }
}
