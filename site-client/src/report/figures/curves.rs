//! ROC, precision–recall and calibration curves per disease.

use core_model::metrics::{Ranked, calibration_curve, clopper_pearson};

use super::super::parts::Figure;
use super::super::plot::{Axis, LineSeries, Lines};
use super::super::study::{Model, Study};
use crate::evaluate::{CALIBRATION_BINS, Part};

/// The first site's curves of all main models, one panel per disease.
pub(in crate::report) fn curves(study: &Study) -> Vec<Figure> {
    let Some(site) = study.sites().into_iter().next() else {
        return Vec::new();
    };
    let kinds: [(&str, &str, &str, Kind); 3] = [
        ("fig-roc", "ROC curves", "Dotted line: chance.", ROC),
        (
            "fig-pr",
            "Precision–recall curves",
            "Precision is the positive predictive value at the prevalence of the test scans.",
            PRECISION_RECALL,
        ),
        (
            "fig-calibration",
            "Calibration",
            "Observed fraction of diseased scans against mean predicted probability in ten equal \
             bins, with Clopper–Pearson intervals. Dotted line: perfect calibration.",
            CALIBRATION,
        ),
    ];
    let figure = |(id, title, caption, kind): (&str, &str, &str, Kind)| {
        let panels: Vec<Lines> = study
            .tasks()
            .iter()
            .map(|task| panel(study, &site, task, &kind))
            .filter(|lines| !lines.series.is_empty())
            .collect();
        let title = format!("{title}, {site}");
        Figure::new(
            id,
            &title,
            caption,
            panels.iter().map(|lines| |id: &str| lines.svg(id)),
        )
    };
    kinds.into_iter().filter_map(figure).collect()
}

/// What one kind of curve draws.
struct Kind {
    x_label: &'static str,
    y_label: &'static str,
    reference: Option<[(f64, f64); 2]>,
    markers: bool,
    points: fn(&[bool], &[f64], f64) -> Option<Curve>,
}

/// Points and, where there is one, their band.
type Curve = (Vec<(f64, f64)>, Option<Vec<(f64, f64)>>);

const DIAGONAL: Option<[(f64, f64); 2]> = Some([(0.0, 0.0), (1.0, 1.0)]);

const ROC: Kind = Kind {
    x_label: "1 − specificity",
    y_label: "sensitivity",
    reference: DIAGONAL,
    markers: false,
    points: |labels, scores, _| {
        let curve = Ranked::new(labels, scores).ok()?.roc_curve();
        let points = curve
            .iter()
            .map(|p| (p.false_positive_rate, p.true_positive_rate));
        Some((thinned(points.collect()), None))
    },
};

const PRECISION_RECALL: Kind = Kind {
    x_label: "recall (sensitivity)",
    y_label: "precision",
    reference: None,
    markers: false,
    points: |labels, scores, _| {
        let curve = Ranked::new(labels, scores).ok()?.pr_curve();
        Some((
            thinned(curve.iter().map(|p| (p.recall, p.precision)).collect()),
            None,
        ))
    },
};

const CALIBRATION: Kind = Kind {
    x_label: "predicted probability",
    y_label: "observed fraction",
    reference: DIAGONAL,
    markers: true,
    points: |labels, scores, level| {
        let bins = calibration_curve(labels, scores, CALIBRATION_BINS).ok()?;
        let band = bins
            .iter()
            .map(|bin| clopper_pearson(bin.positives, bin.count, level).map(|i| (i.low, i.high)));
        let band = band.collect::<Result<Vec<_>, _>>().ok();
        Some((
            bins.iter()
                .map(|bin| (bin.mean_score, bin.observed()))
                .collect(),
            band,
        ))
    },
};

fn panel(study: &Study, site: &str, task: &str, kind: &Kind) -> Lines {
    let series = study
        .labels()
        .into_iter()
        .enumerate()
        .filter_map(|(style, label)| {
            let model = study.in_domain(&label, site)?;
            // A curve is drawn where the area is defined.
            model.auc(site, task)?;
            let (labels, scores) = test_scores(model, site, task);
            let (points, band) = (kind.points)(&labels, &scores, study.settings.level)?;
            Some(LineSeries {
                name: label,
                style,
                points,
                band,
                star: None,
                markers: kind.markers,
            })
        });
    Lines {
        title: task.to_owned(),
        x_label: kind.x_label.to_owned(),
        y_label: kind.y_label.to_owned(),
        series: series.collect(),
        x: Axis::Range(0.0, 1.0, 0.2),
        y: Axis::Range(0.0, 1.0, 0.2),
        reference: kind.reference,
    }
}

fn test_scores(model: &Model, site: &str, task: &str) -> (Vec<bool>, Vec<f64>) {
    let rows = model.predictions.rows.iter().filter(|row| {
        row.part == Part::Test && &*row.task == task && row.site.as_deref() == Some(site)
    });
    rows.map(|row| (row.label, row.score)).unzip()
}

/// At most 400 points: a picture shows no more.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    const MOST: usize = 400;
    if points.len() <= MOST {
        return points;
    }
    let last = points.len() - 1;
    (0..MOST)
        .map(|place| points[place * last / (MOST - 1)])
        .collect()
}
