//! Tables from the trials' predictions: means, and paired differences with intervals.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use core_model::metrics::{Ranked, percentile_interval};
use site_client::evaluate::{Prediction, Predictions};
use site_client::train::data::stream;

/// Resamples of seeds, subsets and patients.
const RESAMPLES: u64 = 400;

/// One trial's test scores at one group of sites.
struct Trial {
    arm: String,
    label: String,
    subset: u64,
    validation: f64,
    rows: Vec<Prediction>,
}

pub(crate) fn print(out: &Path) -> anyhow::Result<()> {
    let trials = read(out)?;
    let tuned = best_of_sweep(&trials);
    let paper = |arm: &str| pick(&trials, arm, "paper");
    println!("| arm | protocol | trials | internal | external |\n|---|---|---|---|---|");
    for (name, label) in [
        ("scratch", "paper"),
        ("mae-100", "paper"),
        ("dino-100", "paper"),
        ("mae-10", "paper"),
        ("mae-30", "paper"),
        ("dino-10", "paper"),
        ("dino-30", "paper"),
        ("scratch", "linear_probe"),
        ("mae-100", "linear_probe"),
        ("dino-100", "linear_probe"),
        ("scratch", "attentive_probe"),
        ("mae-100", "attentive_probe"),
        ("dino-100", "attentive_probe"),
    ] {
        line(name, label, &pick(&trials, name, label));
    }
    for arm in ["scratch", "mae-100", "dino-100"] {
        let best: Vec<&Trial> = tuned
            .iter()
            .filter(|trial| trial.arm.starts_with(arm))
            .copied()
            .collect();
        line(arm, "tuned", &best);
    }
    for site in ["longisland", "rsna", "cq500"] {
        let label = format!("insite-{site}");
        let trials = pick(&trials, "scratch", &label);
        if !trials.is_empty() {
            // Seed 3 names the patients that the model from langone is tested on too.
            let same = format!("{site}-3-");
            let mean = mean_auc(&trials, |row| row.patient.starts_with(&same), None);
            println!(
                "| scratch | trained and tested at {site} | {} | | {mean:.3} |",
                trials.len()
            );
        }
        let scored = paper("scratch");
        let mean = mean_auc(&scored, |row| row.site.as_deref() == Some(site), None);
        println!(
            "| scratch | trained at langone, tested at {site} | {} | | {mean:.3} |",
            scored.len()
        );
    }
    println!(
        "\n| comparison | internal difference (95 %) | external difference (95 %) |\n|---|---|---|"
    );
    let scratch_tuned: Vec<&Trial> = tuned
        .iter()
        .filter(|trial| trial.arm == "scratch")
        .copied()
        .collect();
    for arm in ["mae-100", "dino-100"] {
        difference(
            &format!("{arm} − scratch, paper"),
            &paper(arm),
            &paper("scratch"),
        );
        difference(
            &format!("{arm}, paper − scratch, tuned"),
            &paper(arm),
            &scratch_tuned,
        );
        let best: Vec<&Trial> = tuned
            .iter()
            .filter(|trial| trial.arm.starts_with(arm))
            .copied()
            .collect();
        difference(
            &format!("{arm} − scratch, both tuned"),
            &best,
            &scratch_tuned,
        );
        for probe in ["linear_probe", "attentive_probe"] {
            let name = format!("{arm}: fine-tuning − {probe}");
            difference(&name, &paper(arm), &pick(&trials, arm, probe));
            let name = format!("{arm} − random features, {probe}");
            difference(
                &name,
                &pick(&trials, arm, probe),
                &pick(&trials, "scratch", probe),
            );
        }
    }
    for objective in ["mae", "dino"] {
        let whole = paper(&format!("{objective}-100"));
        for part in ["10", "30"] {
            let name = format!("{objective}: 100 % − {part} % of the patients");
            difference(&name, &whole, &paper(&format!("{objective}-{part}")));
        }
    }
    difference(
        "mae-100 − dino-100, paper",
        &paper("mae-100"),
        &paper("dino-100"),
    );
    println!("\n| few shots | K | scratch | mae | dino |\n|---|---|---|---|---|");
    for task in ["SDH", "IPH"] {
        for k in [8, 32] {
            let label = format!("shots-{task}-{k}");
            let cell = |arm| {
                let trials = pick(&trials, arm, &label);
                let areas: Vec<f64> = trials
                    .iter()
                    .map(|trial| mean_auc(&[trial], |_| true, None))
                    .collect();
                let (mean, deviation) = moments(&areas);
                format!("{mean:.3} ± {deviation:.3}")
            };
            println!(
                "| {task} | {k} | {} | {} | {} |",
                cell("scratch"),
                cell("mae-100"),
                cell("dino-100")
            );
        }
    }
    Ok(())
}

fn read(out: &Path) -> anyhow::Result<Vec<Trial>> {
    let mut paths: Vec<_> = fs::read_dir(out.join("trials"))?
        .map(|e| e.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    let mut trials = Vec::new();
    for path in paths
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "csv"))
    {
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let parts: Vec<&str> = stem.split('.').collect();
        let [arm, label, subset] = parts[..] else {
            continue;
        };
        let Ok(validation) = fs::read_to_string(path.with_extension("val")) else {
            continue;
        };
        trials.push(Trial {
            arm: arm.into(),
            label: label.into(),
            subset: subset.trim_start_matches('n').parse()?,
            validation: validation.parse()?,
            rows: Predictions::read(path)?.rows,
        });
    }
    Ok(trials)
}

fn pick<'a>(trials: &'a [Trial], arm: &str, label: &str) -> Vec<&'a Trial> {
    let of_arm = |trial: &&Trial| {
        trial.label == label
            && (trial.arm == arm
                || trial
                    .arm
                    .strip_prefix(arm)
                    .is_some_and(|r| r.starts_with("-s")))
    };
    trials.iter().filter(of_arm).collect()
}

/// For each arm and subset, the trial of the sweep with the best validation AUC.
fn best_of_sweep(trials: &[Trial]) -> Vec<&Trial> {
    let mut best: BTreeMap<(&str, u64), &Trial> = BTreeMap::new();
    for trial in trials
        .iter()
        .filter(|trial| trial.label.starts_with("sweep"))
    {
        let kept = best.entry((&trial.arm, trial.subset)).or_insert(trial);
        if trial.validation > kept.validation {
            *kept = trial;
        }
    }
    best.into_values().collect()
}

fn line(arm: &str, label: &str, trials: &[&Trial]) {
    if trials.is_empty() {
        return;
    }
    let [internal, external] = [true, false].map(|inside| mean_auc(trials, sites(inside), None));
    println!(
        "| {arm} | {label} | {} | {internal:.3} | {external:.3} |",
        trials.len()
    );
}

fn sites(internal: bool) -> impl Fn(&Prediction) -> bool + Copy {
    move |row: &Prediction| (row.site.as_deref() == Some("langone")) == internal
}

/// Mean over trials of the macro AUC; `resample` weights patients.
fn mean_auc(trials: &[&Trial], wanted: impl Fn(&Prediction) -> bool, resample: Option<u64>) -> f64 {
    let areas: Vec<f64> = trials
        .iter()
        .map(|trial| macro_auc(&trial.rows, &wanted, resample))
        .collect();
    moments(&areas).0
}

/// Mean over tasks and sites.
fn macro_auc(
    rows: &[Prediction],
    wanted: impl Fn(&Prediction) -> bool,
    resample: Option<u64>,
) -> f64 {
    let mut cells: BTreeMap<(&Arc<str>, Option<&str>), Vec<&Prediction>> = BTreeMap::new();
    for row in rows.iter().filter(|row| wanted(row)) {
        cells
            .entry((&row.task, row.site.as_deref()))
            .or_default()
            .push(row);
    }
    let area = |rows: &Vec<&Prediction>| {
        let labels: Vec<bool> = rows.iter().map(|row| row.label).collect();
        let scores: Vec<f64> = rows.iter().map(|row| row.score).collect();
        let ranked = Ranked::new(&labels, &scores).ok()?;
        let weight = |row: usize| match resample {
            None => 1,
            // Poisson bootstrap: each patient counts 0, 1, 2… times, the same in every trial.
            Some(seed) => poisson(stream(seed, &rows[row].patient, &[])),
        };
        ranked.weighted_areas(weight).map(|areas| areas.roc_auc)
    };
    let areas: Vec<f64> = cells.values().filter_map(area).collect();
    moments(&areas).0
}

/// A draw from Poisson(1) by a uniform 64-bit number.
fn poisson(draw: u64) -> u32 {
    let uniform = draw as f64 / u64::MAX as f64;
    let (mut below, mut term) = (0.0, (-1.0f64).exp());
    for count in 0.. {
        below += term;
        if uniform < below || count > 12 {
            return count;
        }
        term /= f64::from(count + 1);
    }
    0
}

/// Mean paired difference with an interval over seeds, subsets and patients together.
fn difference(name: &str, one: &[&Trial], two: &[&Trial]) {
    if one.is_empty() || two.is_empty() {
        return;
    }
    let cell = |inside: bool| {
        let pairs: Vec<(&Trial, &Trial)> = one
            .iter()
            .flat_map(|a| two.iter().map(move |b| (*a, *b)))
            .filter(|(a, b)| {
                a.subset == b.subset
                    && (!a.arm.contains("-s") || !b.arm.contains("-s") || seed(a) == seed(b))
            })
            .collect();
        let mean = |resample: Option<u64>| {
            let drawn: Vec<f64> = (0..pairs.len())
                .map(|place| {
                    let place = match resample {
                        None => place,
                        Some(seed) => {
                            (stream(seed, "pair", &[place as u64]) % pairs.len() as u64) as usize
                        }
                    };
                    let (a, b) = pairs[place];
                    macro_auc(&a.rows, sites(inside), resample)
                        - macro_auc(&b.rows, sites(inside), resample)
                })
                .collect();
            moments(&drawn).0
        };
        let mut resampled: Vec<f64> = (0..RESAMPLES).map(|seed| mean(Some(seed))).collect();
        resampled.sort_by(f64::total_cmp);
        let interval = percentile_interval(&resampled, 0.95).expect("replicates and a level");
        format!(
            "{:+.3} ({:+.3} to {:+.3})",
            mean(None),
            interval.low,
            interval.high
        )
    };
    println!("| {name} | {} | {} |", cell(true), cell(false));
}

fn seed(trial: &Trial) -> &str {
    trial.arm.rsplit("-s").next().unwrap_or_default()
}

fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}
