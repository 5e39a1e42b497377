//! Channels and patch size (Suppl. Figs. 3–4), for runs that vary them.

use std::collections::BTreeSet;

use super::super::parts::Figure;
use super::super::plot::{DotSeries, Dots};
use super::super::study::{Model, Study};
use crate::evaluate::MACRO;

/// One figure per varied setting; models are like the one of interest otherwise, but for the
/// objective: the published study varies the settings of MAE, and shows DINO.
pub(in crate::report) fn ablation(study: &Study) -> Vec<Figure> {
    let channels = |model: &Model| model.info.channels;
    let patch = |model: &Model| model.info.patch;
    let figures = [
        figure(
            study,
            "fig-channels",
            "Input channels",
            channels,
            patch,
            |count| match count {
                1 => "1 channel".to_owned(),
                count => format!("{count} channels"),
            },
        ),
        figure(study, "fig-patch", "Patch size", patch, channels, |size| {
            format!("patch {size}³ voxels")
        }),
    ];
    figures.into_iter().flatten().collect()
}

fn figure(
    study: &Study,
    id: &str,
    title: &str,
    setting: fn(&Model) -> Option<usize>,
    other: fn(&Model) -> Option<usize>,
    name: fn(usize) -> String,
) -> Option<Figure> {
    let reference = study.reference()?;
    let alike = |model: &&Model| {
        let (mine, theirs) = (&model.info, &reference.info);
        mine.pretraining_fraction == theirs.pretraining_fraction
            && (other(model).is_none() || other(model) == other(reference))
    };
    let of = |objective: &Option<String>| {
        let objective = objective.clone();
        let models = study.alike().filter(alike);
        models.filter(move |model| model.info.objective == objective)
    };
    let varied = |objective: &&Option<String>| {
        let values: BTreeSet<usize> = of(objective).filter_map(setting).collect();
        values.len() > 1
    };
    let others = study.alike().map(|model| &model.info.objective);
    let objective = std::iter::once(&reference.info.objective)
        .chain(others)
        .find(varied)?;
    let models = || of(objective);
    let values: BTreeSet<usize> = models().filter_map(setting).collect();
    let panels: Vec<Dots> = study
        .sites()
        .iter()
        .map(|site| {
            let mut rows = study.tasks();
            rows.push(MACRO.to_owned());
            let series = values.iter().enumerate().filter_map(|(style, &value)| {
                let model = models().find(|model| {
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
