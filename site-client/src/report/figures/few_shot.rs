//! Few-shot curves with bands and the full-data star (Fig. 2).

use core_model::metrics::mean_interval;

use super::super::parts::Figure;
use super::super::plot::{Axis, LineSeries, Lines};
use super::super::run::FewShot;
use super::super::study::{Model, Study, distinct};
use crate::evaluate::MACRO;

/// AUC and AP against shots per class, one panel per disease.
pub(in crate::report) fn few_shot(study: &Study) -> Vec<Figure> {
    let rows: Vec<&FewShot> = study.runs.iter().flat_map(|run| &run.few_shot).collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let caption = format!(
        "Scans per class on the horizontal axis. Lines: mean over draws of the training scans; \
         bands: {} % t intervals of the mean over draws. Stars: the first model with all training \
         data.",
        study.settings.level * 100.0
    );
    let figures = [
        (
            "fig-few-shot-auc",
            "Few-shot learning: ROC AUC",
            "ROC AUC",
            true,
        ),
        (
            "fig-few-shot-ap",
            "Few-shot learning: average precision",
            "average precision",
            false,
        ),
    ]
    .map(|(id, title, y_label, is_auc)| {
        let panels = panels(study, &rows, y_label, is_auc);
        Figure::new(
            id,
            title,
            &caption,
            panels.iter().map(|lines| |id: &str| lines.svg(id)),
        )
    });
    figures.into_iter().flatten().collect()
}

fn panels(study: &Study, rows: &[&FewShot], y_label: &str, is_auc: bool) -> Vec<Lines> {
    let value = |row: &FewShot| if is_auc { row.auc } else { row.ap };
    let shots = {
        let mut shots: Vec<usize> = rows.iter().map(|row| row.shots).collect();
        shots.sort_unstable();
        shots.dedup();
        shots
    };
    let sites = distinct(rows.iter().map(|row| row.site.clone()));
    let tasks = distinct(rows.iter().map(|row| row.task.clone()));
    let mut names: Vec<String> = shots.iter().map(ToString::to_string).collect();
    names.push("all".to_owned());
    let series = |site: &String, style: usize, tasks: &[String]| {
        let mut points = Vec::new();
        let mut band = Vec::new();
        for (place, shots) in shots.iter().enumerate() {
            let repeats = repeat_means(rows, site, tasks, *shots, &value);
            if let Ok((mean, interval)) = mean_interval(&repeats, study.settings.level) {
                points.push((place as f64 + 1.0, mean));
                band.push((interval.low.max(0.0), interval.high.min(1.0)));
            }
        }
        let reference = study
            .reference()
            .map(|model| model.label.clone())
            .unwrap_or_default();
        let task = if tasks.len() == 1 { &tasks[0] } else { MACRO };
        let area = if is_auc { Model::auc } else { Model::ap };
        let star = study
            .in_domain(&reference, site)
            .and_then(|model| area(model, site, task))
            .map(|full| (shots.len() as f64 + 1.0, full.value));
        LineSeries {
            name: site.clone(),
            style,
            points,
            band: Some(band),
            star,
            markers: true,
        }
    };
    let panel = |title: String, tasks: &[String]| Lines {
        title,
        x_label: "scans per class".to_owned(),
        y_label: y_label.to_owned(),
        series: sites
            .iter()
            .enumerate()
            .map(|(style, site)| series(site, style, tasks))
            .filter(|series| !series.points.is_empty())
            .collect(),
        x: Axis::Named(names.clone()),
        y: Axis::Auto,
        reference: None,
    };
    let mean = (tasks.len() > 1).then(|| panel("mean over diseases".to_owned(), &tasks));
    let each = tasks
        .iter()
        .map(|task| panel(task.clone(), std::slice::from_ref(task)));
    mean.into_iter().chain(each).collect()
}

/// One value per draw: the mean over `tasks` of those draws that have them all.
fn repeat_means(
    rows: &[&FewShot],
    site: &str,
    tasks: &[String],
    shots: usize,
    value: &impl Fn(&FewShot) -> f64,
) -> Vec<f64> {
    let here: Vec<&&FewShot> = rows
        .iter()
        .filter(|row| row.site == site && row.shots == shots)
        .collect();
    let mut repeats: Vec<usize> = here.iter().map(|row| row.repeat).collect();
    repeats.sort_unstable();
    repeats.dedup();
    let mean = |repeat: usize| {
        let values: Vec<f64> = tasks
            .iter()
            .filter_map(|task| here.iter().find(|r| r.repeat == repeat && r.task == *task))
            .map(|row| value(row))
            .collect();
        (values.len() == tasks.len()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    repeats.into_iter().filter_map(mean).collect()
}
