//! Performance against the share of pre-training scans (Fig. 3, Suppl. Fig. 10).

use super::super::parts::Figure;
use super::super::plot::{Axis, LineSeries, Lines};
use super::super::study::{Model, Study, distinct};
use crate::evaluate::MACRO;

/// Mean over diseases at each site, then each disease at the first site.
pub(in crate::report) fn scaling(study: &Study) -> Vec<Figure> {
    let models: Vec<&Model> = study
        .alike()
        .filter(|model| model.info.pretraining_fraction.is_some() && !model.ablated)
        .collect();
    let mut fractions: Vec<f64> = models
        .iter()
        .filter_map(|model| model.info.pretraining_fraction)
        .collect();
    fractions.sort_by(f64::total_cmp);
    fractions.dedup();
    if fractions.len() < 2 {
        return Vec::new();
    }
    let sites = study.sites();
    let caption = format!(
        "ROC AUC on test scans against the share of scans used for pre-training, by pre-training \
         objective. Bands: {} % intervals (percentile bootstrap of the test scans).",
        study.settings.level * 100.0
    );
    let means: Vec<Lines> = sites
        .iter()
        .map(|site| panel(&models, &fractions, site, MACRO, site))
        .collect();
    let tasks: Vec<Lines> = sites
        .first()
        .into_iter()
        .flat_map(|site| {
            let panel = |task: &String| panel(&models, &fractions, site, task, task);
            study.tasks().iter().map(panel).collect::<Vec<_>>()
        })
        .collect();
    let figures = [
        Figure::new(
            "fig-scaling",
            "Pre-training data: mean over diseases",
            &caption,
            means
                .iter()
                .filter(drawn)
                .map(|lines| |id: &str| lines.svg(id)),
        ),
        Figure::new(
            "fig-scaling-diseases",
            &format!(
                "Pre-training data: per disease, {}",
                sites.first().map_or("", |s| s)
            ),
            &caption,
            tasks
                .iter()
                .filter(drawn)
                .map(|lines| |id: &str| lines.svg(id)),
        ),
    ];
    figures.into_iter().flatten().collect()
}

fn drawn(lines: &&Lines) -> bool {
    lines.series.iter().any(|series| series.points.len() > 1)
}

fn panel(models: &[&Model], fractions: &[f64], site: &str, task: &str, title: &str) -> Lines {
    let objective = |model: &Model| {
        model
            .info
            .objective
            .clone()
            .unwrap_or_else(|| model.label.clone())
    };
    let objectives = distinct(models.iter().map(|model| objective(model)));
    let series = objectives.iter().enumerate().map(|(style, name)| {
        let mut points = Vec::new();
        let mut band = Vec::new();
        for (place, fraction) in fractions.iter().enumerate() {
            let model = models.iter().find(|model| {
                objective(model) == *name
                    && model.info.pretraining_fraction == Some(*fraction)
                    && model
                        .trained_at
                        .as_deref()
                        .is_none_or(|trained| trained == site)
            });
            if let Some(auc) = model.and_then(|model| model.auc(site, task)) {
                points.push((place as f64 + 1.0, auc.value));
                let [low, high] = auc.interval.unwrap_or([auc.value; 2]);
                band.push((low, high));
            }
        }
        let name = match &**name {
            "dino" => "DINO".to_owned(),
            "mae" => "MAE".to_owned(),
            other => other.to_owned(),
        };
        LineSeries {
            name,
            style,
            points,
            band: Some(band),
            star: None,
            markers: true,
        }
    });
    Lines {
        title: title.to_owned(),
        x_label: "share of pre-training scans".to_owned(),
        y_label: "ROC AUC".to_owned(),
        series: series.collect(),
        x: Axis::Named(
            fractions
                .iter()
                .map(|f| format!("{} %", f * 100.0))
                .collect(),
        ),
        y: Axis::Auto,
        reference: None,
    }
}
