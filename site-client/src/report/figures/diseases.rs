//! Per disease: model against model (Fig. 1e–f, Suppl. Figs. 5–9).

use super::super::parts::Figure;
use super::super::plot::{DotSeries, Dots, Estimate};
use super::super::study::{Model, Study, distinct, protocol_name};
use crate::evaluate::MACRO;

/// AUC and AP of every main model at each site it was trained at.
pub(in crate::report) fn diseases(study: &Study) -> Vec<Figure> {
    let labels = study.labels();
    let stars = match labels.get(1..) {
        Some([other]) => format!(
            " Stars: {} against {other}, permutation test adjusted over diseases (Holm): \
             * p < 0.05, ** p < 0.01, *** p < 0.001.",
            labels[0]
        ),
        Some([_, ..]) => format!(
            " Stars: {} against each other model, in the order of the legend, – where not \
             significant; permutation test adjusted over diseases (Holm): * p < 0.05, \
             ** p < 0.01, *** p < 0.001.",
            labels[0]
        ),
        _ => String::new(),
    };
    let caption = |area: &str| {
        format!(
            "{area} on held-out test scans of the site whose labels trained the model, with \
             {} % intervals (percentile bootstrap). Dotted line: chance.{stars}",
            study.settings.level * 100.0
        )
    };
    let auc = panels(study, "ROC AUC", Model::auc, true);
    let ap = panels(study, "Average precision", Model::ap, false);
    let ap_caption = format!(
        "Average precision depends on prevalence: compare models within a site only. {} % \
         intervals (percentile bootstrap).",
        study.settings.level * 100.0
    );
    let figures = [
        Figure::new(
            "fig-auc",
            "ROC AUC per disease",
            &caption("ROC AUC"),
            auc.iter().map(draw),
        ),
        Figure::new(
            "fig-ap",
            "Average precision per disease",
            &ap_caption,
            ap.iter().map(draw),
        ),
    ];
    figures.into_iter().flatten().collect()
}

/// Fine-tuning against probes of one model (Suppl. Fig. 6): mean over diseases at each site.
pub(in crate::report) fn protocols(study: &Study) -> Option<Figure> {
    let known = |model: &&Model| model.protocol.is_some();
    let protocols = distinct(
        study
            .main_models()
            .filter(known)
            .filter_map(|model| model.protocol.clone()),
    );
    if protocols.len() < 2 {
        return None;
    }
    let names = distinct(
        study
            .main_models()
            .filter_map(|model| model.info.model.clone()),
    );
    let panels: Vec<Dots> = names
        .iter()
        .map(|name| {
            let of = |protocol: &str, site: &str| {
                let mut models = study.main_models().filter(|model| {
                    model.info.model.as_ref() == Some(name)
                        && model.protocol.as_deref() == Some(protocol)
                });
                models
                    .find(|m| {
                        m.trained_at
                            .as_deref()
                            .is_none_or(|trained| trained == site)
                    })
                    .and_then(|model| model.auc(site, MACRO))
            };
            let rows = study.sites();
            let series = protocols
                .iter()
                .enumerate()
                .map(|(style, protocol)| DotSeries {
                    name: protocol_name(protocol).to_owned(),
                    style,
                    estimates: rows.iter().map(|site| of(protocol, site)).collect(),
                });
            let series = series.collect();
            let x_label = "macro ROC AUC".to_owned();
            Dots {
                title: name.clone(),
                x_label,
                rows,
                series,
                chance: Some(0.5),
                marks: Vec::new(),
            }
        })
        .filter(|dots| {
            dots.series
                .iter()
                .filter(|s| s.estimates.iter().any(Option::is_some))
                .count()
                > 1
        })
        .collect();
    Figure::new(
        "fig-protocols",
        "Fine-tuning against probes",
        "Mean ROC AUC over diseases on test scans of the training site, by how the task was \
         learned: all weights, a linear layer on the CLS token, or an attention layer on all tokens.",
        panels.iter().map(draw),
    )
}

fn panels(
    study: &Study,
    x_label: &str,
    value: fn(&Model, &str, &str) -> Option<Estimate>,
    marked: bool,
) -> Vec<Dots> {
    let labels = study.labels();
    let panel = |site: &String| {
        let mut rows = study.tasks();
        rows.push(MACRO.to_owned());
        let series: Vec<DotSeries> = labels
            .iter()
            .enumerate()
            .filter_map(|(style, label)| {
                let model = study.in_domain(label, site)?;
                let estimates: Vec<_> = rows.iter().map(|task| value(model, site, task)).collect();
                let any = estimates.iter().any(Option::is_some);
                any.then(|| DotSeries {
                    name: label.clone(),
                    style,
                    estimates,
                })
            })
            .collect();
        let marks = if marked {
            marks(study, site, &rows, &series)
        } else {
            Vec::new()
        };
        let keep: Vec<usize> = (0..rows.len())
            .filter(|&row| series.iter().any(|series| series.estimates[row].is_some()))
            .collect();
        only_rows(
            Dots {
                title: site.clone(),
                x_label: x_label.to_owned(),
                rows,
                series,
                chance: marked.then_some(0.5),
                marks,
            },
            &keep,
        )
    };
    let panels = study.sites();
    panels
        .iter()
        .map(panel)
        .filter(|dots| !dots.series.is_empty())
        .collect()
}

/// Stars of the first model against each other, by row.
fn marks(study: &Study, site: &str, rows: &[String], series: &[DotSeries]) -> Vec<(usize, String)> {
    let labels = study.labels();
    if series.first().map(|series| &series.name) != labels.first() {
        return Vec::new();
    }
    let others: Vec<_> = series
        .iter()
        .skip(1)
        .map(|series| study.marks(&series.name, site))
        .collect();
    let text = |task: &String| {
        let marks: Vec<&str> = others
            .iter()
            .map(|marks| {
                marks
                    .get(task)
                    .map(|mark| &**mark)
                    .filter(|mark| !mark.is_empty())
            })
            .map(|mark| mark.unwrap_or("–"))
            .collect();
        let any = marks.iter().any(|mark| *mark != "–");
        any.then(|| marks.join(" "))
    };
    rows.iter()
        .enumerate()
        .filter_map(|(row, task)| Some((row, text(task)?)))
        .collect()
}

fn only_rows(dots: Dots, keep: &[usize]) -> Dots {
    let marks = dots.marks.iter().filter_map(|(row, mark)| {
        keep.iter()
            .position(|kept| kept == row)
            .map(|row| (row, mark.clone()))
    });
    Dots {
        marks: marks.collect(),
        rows: keep.iter().map(|&row| dots.rows[row].clone()).collect(),
        series: dots
            .series
            .into_iter()
            .map(|series| DotSeries {
                estimates: keep.iter().map(|&row| series.estimates[row]).collect(),
                ..series
            })
            .collect(),
        ..dots
    }
}

fn draw(dots: &Dots) -> impl FnOnce(&str) -> String {
    move |id| dots.svg(id)
}
