//! Internal against external validation (Fig. 1f–g).

use super::super::parts::Figure;
use super::super::plot::{DotSeries, Dots, Matrix};
use super::super::study::{Study, distinct};
use crate::evaluate::MACRO;

/// The matrix trained-at × tested-at of each model, and the first model per disease and site.
pub(in crate::report) fn external(study: &Study) -> Vec<Figure> {
    let trained = distinct(
        study
            .main_models()
            .filter_map(|model| model.trained_at.clone()),
    );
    let sites = study.sites();
    if trained.is_empty() || sites.len() < 2 {
        return Vec::new();
    }
    let figures = [
        Figure::new(
            "fig-matrix",
            "Trained at, tested at",
            "Mean ROC AUC over diseases. On the diagonal the model is tested on held-out patients \
             of its own site, off the diagonal on patients of a site it never saw.",
            matrices(study, &trained, &sites)
                .iter()
                .map(|matrix| |id: &str| matrix.svg(id)),
        ),
        Figure::new(
            "fig-external",
            "In-domain fine-tuning against external validation",
            "The first model, tested at one site per panel: trained on that site's labels, and \
             trained elsewhere and applied as it is.",
            dots(study, &trained, &sites)
                .iter()
                .map(|dots| |id: &str| dots.svg(id)),
        ),
    ];
    figures.into_iter().flatten().collect()
}

fn matrices(study: &Study, trained: &[String], sites: &[String]) -> Vec<Matrix> {
    let matrix = |label: String| {
        let value = |trained: &String, site: &String| {
            let mut models = study.main_models().filter(|model| model.label == label);
            let model = models.find(|model| model.trained_at.as_ref() == Some(trained))?;
            model.auc(site, MACRO).map(|auc| auc.value)
        };
        // A row is a model, so it is whole or not there.
        let row = |trained: &String| {
            sites
                .iter()
                .map(|site| value(trained, site))
                .collect::<Option<Vec<_>>>()
        };
        let whole = trained
            .iter()
            .filter_map(|trained| Some((trained.clone(), row(trained)?)));
        let (rows, values): (Vec<String>, Vec<Vec<f64>>) = whole.unzip();
        Matrix {
            title: label.clone(),
            x_label: "tested at".to_owned(),
            y_label: "trained at".to_owned(),
            rows,
            columns: sites.to_vec(),
            values,
            shades: (0.0, 1.0),
        }
    };
    let mut matrices: Vec<Matrix> = study.labels().into_iter().map(matrix).collect();
    matrices.retain(|matrix| !matrix.values.is_empty());
    let shades = shades(matrices.iter().flat_map(|matrix| &matrix.values).flatten());
    for matrix in &mut matrices {
        matrix.shades = shades;
    }
    matrices
}

/// From the least AUC to the largest, and far enough that small differences stay pale.
fn shades<'a>(values: impl Iterator<Item = &'a f64>) -> (f64, f64) {
    let ends = (f64::INFINITY, f64::NEG_INFINITY);
    let (low, high) = values.fold(ends, |(low, high), &x| (low.min(x), high.max(x)));
    let room = ((LEAST_SPAN - (high - low)) / 2.0).max(0.0);
    (low - room, high + room)
}

/// Differences of AUC below this are not shown in full contrast.
const LEAST_SPAN: f64 = 0.2;

fn dots(study: &Study, trained: &[String], sites: &[String]) -> Vec<Dots> {
    let Some(reference) = study.reference().map(|model| model.label.clone()) else {
        return Vec::new();
    };
    let panel = |site: &String| {
        let mut rows = study.tasks();
        rows.push(MACRO.to_owned());
        let series: Vec<DotSeries> = trained
            .iter()
            .enumerate()
            .filter_map(|(style, trained)| {
                let model = study.main_models().find(|model| {
                    model.label == reference && model.trained_at.as_ref() == Some(trained)
                })?;
                let estimates: Vec<_> = rows.iter().map(|task| model.auc(site, task)).collect();
                let kind = if trained == site {
                    "in-domain"
                } else {
                    "external"
                };
                let name = format!("trained at {trained} ({kind})");
                let any = estimates.iter().any(Option::is_some);
                any.then_some(DotSeries {
                    name,
                    style,
                    estimates,
                })
            })
            .collect();
        let title = format!("tested at {site}");
        Dots {
            title,
            x_label: "ROC AUC".to_owned(),
            rows,
            series,
            chance: Some(0.5),
            marks: Vec::new(),
        }
    };
    sites
        .iter()
        .map(panel)
        .filter(|dots| dots.series.len() > 1)
        .collect()
}
