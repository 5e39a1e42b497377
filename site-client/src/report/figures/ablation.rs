//! Channels and patch size (Suppl. Figs. 3–4), for runs that vary them.

use super::super::parts::Figure;
use super::super::plot::{DotSeries, Dots};
use super::super::study::{Model, Study};
use crate::evaluate::MACRO;

/// One figure per varied setting; models are alike otherwise.
pub(in crate::report) fn ablation(study: &Study) -> Vec<Figure> {
    let channels = |model: &Model| model.info.channels;
    let patch = |model: &Model| model.info.patch;
    let figures = [
        figure(
            study,
            channels,
            "fig-channels",
            "Input channels",
            |count| match count {
                1 => "1 channel".to_owned(),
                count => format!("{count} channels"),
            },
        ),
        figure(study, patch, "fig-patch", "Patch size", |size| {
            format!("patch {size}³ voxels")
        }),
    ];
    figures.into_iter().flatten().collect()
}

fn figure(
    study: &Study,
    setting: fn(&Model) -> Option<usize>,
    id: &str,
    title: &str,
    name: fn(usize) -> String,
) -> Option<Figure> {
    let mut values: Vec<usize> = study.models.iter().filter_map(setting).collect();
    values.sort_unstable();
    values.dedup();
    if values.len() < 2 {
        return None;
    }
    let full = |model: &&Model| {
        model
            .info
            .pretraining_fraction
            .is_none_or(|share| share >= 1.0)
    };
    let panels: Vec<Dots> = study
        .sites()
        .iter()
        .map(|site| {
            let mut rows = study.tasks();
            rows.push(MACRO.to_owned());
            let series = values.iter().enumerate().filter_map(|(style, &value)| {
                let model = study.models.iter().filter(full).find(|model| {
                    setting(model) == Some(value)
                        && model
                            .trained_at
                            .as_deref()
                            .is_none_or(|trained| trained == site)
                })?;
                let estimates: Vec<_> = rows.iter().map(|task| model.auc(site, task)).collect();
                Some(DotSeries {
                    name: name(value),
                    style,
                    estimates,
                })
            });
            let series = series.collect();
            let x_label = "ROC AUC".to_owned();
            Dots {
                title: site.clone(),
                x_label,
                rows,
                series,
                chance: Some(0.5),
                marks: Vec::new(),
            }
        })
        .filter(|dots| dots.series.len() > 1)
        .collect();
    Figure::new(
        id,
        title,
        "ROC AUC on test scans of models that differ in this setting.",
        panels.iter().map(|dots| |id: &str| dots.svg(id)),
    )
}
