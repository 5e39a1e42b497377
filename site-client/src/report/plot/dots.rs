//! Estimates in named rows with their intervals.

use kuva::plot::ScatterPlot;
use kuva::plot::legend::{LegendEntry, LegendShape};
use kuva::render::annotations::{ReferenceLine, ShadedRegion, TextAnnotation};
use kuva::render::plots::Plot;

use super::{CHARACTER, Estimate, GREY, MARGINS, base, color, finish, marker, sized};

/// Estimates of several series in named rows: the forest of a journal's supplement.
pub(in crate::report) struct Dots {
    pub(in crate::report) title: String,
    pub(in crate::report) x_label: String,
    pub(in crate::report) rows: Vec<String>,
    pub(in crate::report) series: Vec<DotSeries>,
    /// The value of a model that knows nothing, drawn as a dotted line.
    pub(in crate::report) chance: Option<f64>,
    /// Text at the right end of a row.
    pub(in crate::report) marks: Vec<(usize, String)>,
}

pub(in crate::report) struct DotSeries {
    pub(in crate::report) name: String,
    /// Place in the palette; the same series has the same place in every figure.
    pub(in crate::report) style: usize,
    /// One per row.
    pub(in crate::report) estimates: Vec<Option<Estimate>>,
}

impl Dots {
    /// Draws the panel; `id` makes the SVG's internal names unique in a page.
    pub(in crate::report) fn svg(&self, id: &str) -> String {
        let rows = self.rows.len();
        let lane = 0.72 / self.series.len().max(1) as f64;
        let (low, high) = self.range();
        let mut plots = Vec::new();
        let mut legend = Vec::new();
        for (place, series) in self.series.iter().enumerate() {
            let offset = (place as f64 - (self.series.len() - 1) as f64 / 2.0) * lane;
            let (mut points, mut errors) = (Vec::new(), Vec::new());
            for (row, estimate) in series.estimates.iter().enumerate() {
                let Some(Estimate { value, interval }) = *estimate else {
                    continue;
                };
                let [from, to] = interval.unwrap_or([value; 2]);
                points.push((value, (rows - row) as f64 - offset));
                errors.push((
                    (value - from.max(low)).max(0.0),
                    (to.min(high) - value).max(0.0),
                ));
            }
            if points.is_empty() {
                continue;
            }
            let plot = ScatterPlot::new()
                .with_data(points)
                .with_x_err_asymmetric(errors)
                .with_color(color(series.style))
                .with_marker(marker(series.style))
                .with_size(3.6);
            plots.push(Plot::Scatter(plot));
            legend.push(entry(series, LegendShape::Marker(marker(series.style))));
        }
        let labels: Vec<String> = self.rows.iter().rev().cloned().collect();
        let row_height = (7.0 + 9.0 * self.series.len() as f64).max(21.0);
        let mut layout = base(&self.title, (low, high), (0.5, rows as f64 + 0.5))
            .with_x_label(&self.x_label)
            .with_y_categories(labels)
            .with_x_axis_min(low)
            .with_x_axis_max(high)
            .with_y_axis_min(0.5)
            .with_y_axis_max(rows as f64 + 0.5)
            .with_x_tick_step(step(high - low));
        for row in (0..rows).step_by(2) {
            let center = (rows - row) as f64;
            let region = ShadedRegion::horizontal(center - 0.5, center + 0.5)
                .with_color("#000000")
                .with_opacity(0.04);
            layout = layout.with_shaded_region(region);
        }
        if let Some(chance) = self.chance
            && (low..high).contains(&chance)
        {
            let line = ReferenceLine::vertical(chance)
                .with_color(GREY)
                .with_dasharray("2 3");
            layout = layout.with_reference_line(line);
        }
        // The library sets text six units above its point; this brings it to the row's center.
        let mark_drop = 10.0 / row_height;
        for (row, text) in &self.marks {
            let center = high - (high - low) * share_of_mark(text) / 2.0;
            let mark = TextAnnotation::new(text, center, (rows - row) as f64 - mark_drop)
                .with_font_size(11);
            layout = layout.with_annotation(mark);
        }
        let height = AROUND_ROWS + rows as f64 * row_height;
        finish(plots, sized(layout, (WIDTH, height), legend), id)
    }

    /// Tenths around all intervals, with room for marks.
    fn range(&self) -> (f64, f64) {
        let values = self
            .series
            .iter()
            .flat_map(|s| s.estimates.iter().flatten());
        let ends = values.flat_map(|e| e.interval.unwrap_or([e.value; 2]));
        let (low, high) = ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
            (l.min(v), h.max(v))
        });
        if low > high {
            return (0.0, 1.0);
        }
        let low = (((low - 0.01) * 10.0).floor() / 10.0).max(0.0);
        let marks = self.marks.iter().map(|(_, text)| share_of_mark(text));
        let share = marks.fold(0.0, f64::max);
        if share == 0.0 {
            return (low, (((high + 0.01) * 10.0).ceil() / 10.0).min(1.0));
        }
        let high = low + (high - low) / (1.0 - share);
        (low, (high * 10.0).ceil() / 10.0)
    }
}

/// The share of the width that a text at the end of a row takes.
fn share_of_mark(text: &str) -> f64 {
    let pixels = CHARACTER * (text.chars().count() + 2) as f64;
    (pixels / (WIDTH - MARGINS)).min(0.5)
}

const WIDTH: f64 = 460.0;

/// Height of title and axis together.
const AROUND_ROWS: f64 = 96.0;

fn entry(series: &DotSeries, shape: LegendShape) -> LegendEntry {
    let color = color(series.style).to_owned();
    LegendEntry {
        label: series.name.clone(),
        color,
        shape,
        dasharray: None,
    }
}

fn step(span: f64) -> f64 {
    if span > 0.6 {
        0.2
    } else if span > 0.25 {
        0.1
    } else {
        0.05
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dots() -> Dots {
        let estimate = |value: f64| {
            Some(Estimate {
                value,
                interval: Some([value - 0.05, value + 0.04]),
            })
        };
        Dots {
            title: "Test".to_owned(),
            x_label: "AUC".to_owned(),
            rows: vec!["ICH".to_owned(), "A & B <c>".to_owned()],
            series: vec![
                DotSeries {
                    name: "one".to_owned(),
                    style: 0,
                    estimates: vec![estimate(0.9), None],
                },
                DotSeries {
                    name: "two".to_owned(),
                    style: 1,
                    estimates: vec![estimate(0.7), estimate(0.8)],
                },
            ],
            chance: Some(0.5),
            marks: vec![(0, "***".to_owned())],
        }
    }

    #[test]
    fn pictures_are_the_same_bytes_again_and_scale() {
        let first = dots().svg("a");
        assert_eq!(first, dots().svg("a"));
        assert!(first.contains("viewBox=\"0 0 "), "{}", &first[..200]);
    }

    #[test]
    fn names_from_files_cannot_become_markup() {
        let svg = dots().svg("a");
        assert!(svg.contains("A &amp; B &lt;c&gt;") && !svg.contains("<c>"));
    }
}
