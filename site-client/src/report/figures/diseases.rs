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

/// Fine-tuning against probes of one model: mean over diseases at each site (Suppl. Fig. 6), then
/// each disease (Suppl. Figs. 8 and 9).
pub(in crate::report) fn protocols(study: &Study) -> Vec<Figure> {
    let main = || study.main_models();
    let protocols = distinct(main().filter_map(|model| model.protocol.clone()));
    let names = distinct(main().map(|model| model.name.clone()));
    let sites = study.sites();
    let mut tasks = study.tasks();
    tasks.push(MACRO.to_owned());
    let of = |name: &str, protocol: &str, site: &str, task: &str| {
        let model = main().find(|model| {
            let here = model.trained_at.as_deref().is_none_or(|at| at == site);
            model.name == name && here && model.protocol.as_deref() == Some(protocol)
        });
        model.and_then(|model| model.auc(site, task))
    };
    let by_site = names.iter().filter_map(|name| {
        let value = |protocol: &str, site: &str| of(name, protocol, site, MACRO);
        protocol_panel(name.clone(), "macro ROC AUC", &protocols, &sites, value)
    });
    let of_each = names
        .iter()
        .flat_map(|name| sites.iter().map(move |site| (name, site)));
    let by_disease = of_each.filter_map(|(name, site)| {
        let value = |protocol: &str, task: &str| of(name, protocol, site, task);
        let title = format!("{name}, {site}");
        protocol_panel(title, "ROC AUC", &protocols, &tasks, value)
    });
    let (by_site, by_disease) = (by_site.collect::<Vec<_>>(), by_disease.collect::<Vec<_>>());
    let figures = [
        Figure::new(
            "fig-protocols",
            "Fine-tuning against probes",
            "Mean ROC AUC over diseases on test scans of the training site, by how the task was \
             learned: all weights, a linear layer on the CLS token, or an attention layer on all \
             tokens.",
            by_site.iter().map(draw),
        ),
        Figure::new(
            "fig-protocols-diseases",
            "Fine-tuning against probes, per disease",
            "ROC AUC on test scans of the training site, by how the task was learned. The last row \
             is the mean over diseases.",
            by_disease.iter().map(draw),
        ),
    ];
    figures.into_iter().flatten().collect()
}

/// One series a protocol; nothing when fewer than two have a value to compare.
fn protocol_panel(
    title: String,
    x_label: &str,
    protocols: &[String],
    rows: &[String],
    value: impl Fn(&str, &str) -> Option<Estimate>,
) -> Option<Dots> {
    let series = protocols.iter().enumerate().map(|(style, protocol)| {
        let estimates = rows.iter().map(|row| value(protocol, row)).collect();
        DotSeries {
            name: protocol_name(protocol).to_owned(),
            style,
            estimates,
        }
    });
    let shown = |series: &DotSeries| series.estimates.iter().any(Option::is_some);
    let series: Vec<DotSeries> = series.filter(shown).collect();
    if series.len() < 2 {
        return None;
    }
    Some(without_empty_rows(Dots {
        title,
        x_label: x_label.to_owned(),
        rows: rows.to_vec(),
        series,
        chance: Some(0.5),
        marks: Vec::new(),
    }))
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
        without_empty_rows(Dots {
            title: site.clone(),
            x_label: x_label.to_owned(),
            rows,
            series,
            chance: marked.then_some(0.5),
            marks,
        })
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

fn without_empty_rows(dots: Dots) -> Dots {
    let filled = |row: &usize| dots.series.iter().any(|s| s.estimates[*row].is_some());
    let keep: Vec<usize> = (0..dots.rows.len()).filter(filled).collect();
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
