//! Results by slice thickness and by manufacturer (Suppl. Figs. 12–14).

use super::super::parts::Figure;
use super::super::plot::{DotSeries, Dots, Estimate};
use super::super::study::{Study, distinct};
use crate::evaluate::{GroupBy, MACRO, MetricsTable, Settings};

/// The first model per disease, split by a column of the predictions.
pub(in crate::report) fn groups(study: &Study) -> Vec<Figure> {
    let kinds = [
        (GroupBy::Thickness, "fig-thickness", "By slice thickness"),
        (
            GroupBy::Manufacturer,
            "fig-manufacturer",
            "By manufacturer of the scanner",
        ),
        (GroupBy::Sex, "fig-sex", "By sex"),
        (GroupBy::Age, "fig-age", "By age in years"),
    ];
    kinds
        .into_iter()
        .filter_map(|(by, id, title)| figure(study, by, id, title))
        .collect()
}

fn figure(study: &Study, by: GroupBy, id: &str, title: &str) -> Option<Figure> {
    let reference = study.reference()?;
    let settings = Settings {
        by: Some(by),
        ..study.settings.clone()
    };
    let panels: Vec<Dots> = study
        .sites()
        .iter()
        .filter_map(|site| {
            let model = study.in_domain(&reference.label, site)?;
            let mut here = model.predictions.clone();
            here.rows.retain(|row| row.site.as_deref() == Some(site));
            let table = MetricsTable::compute(&here, None, &settings).ok()?;
            let groups = distinct(table.cells.iter().filter_map(|cell| cell.group.clone()));
            let mut rows = distinct(table.cells.iter().map(|cell| cell.task.clone()));
            rows.retain(|task| task != MACRO);
            rows.push(MACRO.to_owned());
            let estimate = |group: &String, task: &String| {
                let mut cells = table.cells.iter();
                let cell = cells.find(|c| c.group.as_ref() == Some(group) && c.task == *task)?;
                Some(Estimate {
                    value: cell.auc?,
                    interval: cell.auc_ci,
                })
            };
            let scans = |group: &String| {
                let cells = table.cells.iter();
                cells
                    .filter(|c| c.group.as_ref() == Some(group))
                    .map(|c| c.n)
                    .max()
                    .unwrap_or(0)
            };
            let series = groups.iter().enumerate().map(|(style, group)| DotSeries {
                name: format!("{group} (n = {})", scans(group)),
                style,
                estimates: rows.iter().map(|task| estimate(group, task)).collect(),
            });
            let series: Vec<_> = series
                .filter(|s| s.estimates.iter().any(Option::is_some))
                .collect();
            let x_label = "ROC AUC".to_owned();
            (series.len() > 1).then(|| Dots {
                title: site.clone(),
                x_label,
                rows,
                series,
                chance: Some(0.5),
                marks: Vec::new(),
            })
        })
        .collect();
    Figure::new(
        id,
        title,
        &format!(
            "{}, test scans of each site. Groups differ in prevalence and severity too: a \
             difference between groups is not by itself an effect of the column.",
            reference.label
        ),
        panels.iter().map(|dots| |id: &str| dots.svg(id)),
    )
}
