//! Training curves of the runs.

use super::super::parts::Figure;
use super::super::plot::{Axis, LineSeries, Lines};
use super::super::run::HistoryPoint;
use super::super::study::Study;

/// Loss against steps, one panel per run that recorded it.
pub(in crate::report) fn training(study: &Study) -> Option<Figure> {
    let panels: Vec<Lines> = study
        .runs
        .iter()
        .filter_map(|run| {
            let curve = |name: &str, style, value: fn(&HistoryPoint) -> Option<f64>| {
                let points: Vec<(f64, f64)> = run
                    .history
                    .iter()
                    .filter_map(|point| Some((point.step as f64, value(point)?)))
                    .filter(|(_, value)| value.is_finite())
                    .collect();
                (points.len() > 1).then(|| LineSeries {
                    name: name.to_owned(),
                    style,
                    points,
                    ..LineSeries::default()
                })
            };
            let series: Vec<LineSeries> = [
                curve("training", 0, |point| point.loss),
                curve("validation", 1, |point| point.val_loss),
            ]
            .into_iter()
            .flatten()
            .collect();
            (!series.is_empty()).then(|| Lines {
                title: run.info.name.clone(),
                x_label: "optimizer steps".to_owned(),
                y_label: "loss".to_owned(),
                series,
                x: Axis::Auto,
                y: Axis::Auto,
                reference: None,
            })
        })
        .collect();
    Figure::new(
        "fig-training",
        "Training curves",
        "Loss of each run as recorded.",
        panels.iter().map(|lines| |id: &str| lines.svg(id)),
    )
}
