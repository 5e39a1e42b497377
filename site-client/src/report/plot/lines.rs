//! Curves over an axis.

use kuva::plot::legend::{LegendEntry, LegendShape};
use kuva::plot::line::LineStyle;
use kuva::plot::scatter::MarkerShape;
use kuva::plot::{BandPlot, LinePlot, ScatterPlot};
use kuva::render::plots::Plot;

use super::{Axis, GREY, base, color, finish, marker, sized};

/// Curves, with bands and stars where given.
pub(in crate::report) struct Lines {
    pub(in crate::report) title: String,
    pub(in crate::report) x_label: String,
    pub(in crate::report) y_label: String,
    pub(in crate::report) series: Vec<LineSeries>,
    pub(in crate::report) x: Axis,
    pub(in crate::report) y: Axis,
    /// A dashed line of chance or of perfect calibration.
    pub(in crate::report) reference: Option<[(f64, f64); 2]>,
}

#[derive(Default)]
pub(in crate::report) struct LineSeries {
    pub(in crate::report) name: String,
    pub(in crate::report) style: usize,
    pub(in crate::report) points: Vec<(f64, f64)>,
    /// Lower and upper edge at each point.
    pub(in crate::report) band: Option<Vec<(f64, f64)>>,
    /// A single point drawn as a star.
    pub(in crate::report) star: Option<(f64, f64)>,
    pub(in crate::report) markers: bool,
}

impl Lines {
    pub(in crate::report) fn svg(&self, id: &str) -> String {
        let mut plots = Vec::new();
        let mut legend = Vec::new();
        for series in &self.series {
            let x: Vec<f64> = series.points.iter().map(|point| point.0).collect();
            if let Some(band) = &series.band
                && !x.is_empty()
            {
                let (low, high): (Vec<f64>, Vec<f64>) = band.iter().copied().unzip();
                let band = BandPlot::new(x, low, high)
                    .with_color(color(series.style))
                    .with_opacity(0.16);
                plots.push(Plot::Band(band));
            }
        }
        if let Some(reference) = self.reference {
            let line = LinePlot::new()
                .with_data(reference)
                .with_color(GREY)
                .with_stroke_width(1.0)
                .with_dotted();
            plots.push(Plot::Line(line));
        }
        for series in &self.series {
            let mut line = LinePlot::new()
                .with_data(series.points.iter().copied())
                .with_color(color(series.style))
                .with_stroke_width(1.6);
            let style = match series.style % 4 {
                0 => LineStyle::Solid,
                1 => LineStyle::Dashed,
                2 => LineStyle::DashDot,
                _ => LineStyle::Dotted,
            };
            let dasharray = style.dasharray();
            line = line.with_line_style(style);
            plots.push(Plot::Line(line));
            let scatter = |points: Vec<(f64, f64)>, shape, size| {
                let plot = ScatterPlot::new()
                    .with_data(points)
                    .with_color(color(series.style))
                    .with_marker(shape)
                    .with_size(size);
                Plot::Scatter(plot)
            };
            if series.markers {
                plots.push(scatter(series.points.clone(), marker(series.style), 3.2));
            }
            if let Some(star) = series.star {
                plots.push(scatter(vec![star], MarkerShape::Star, 6.5));
            }
            let shape = if series.markers {
                LegendShape::Marker(marker(series.style))
            } else {
                LegendShape::Line
            };
            legend.push(LegendEntry {
                label: series.name.clone(),
                color: color(series.style).to_owned(),
                shape,
                dasharray,
            });
        }
        let named = legend.iter().any(|entry| !entry.label.is_empty());
        let legend = if named { legend } else { Vec::new() };
        let all = || {
            let points = self
                .series
                .iter()
                .flat_map(|s| s.points.iter().copied().chain(s.star));
            let bands = self.series.iter().flat_map(|s| {
                let x = s.points.iter().map(|point| point.0);
                let bands = x.zip(s.band.iter().flatten());
                bands.flat_map(|(x, (low, high))| [(x, *low), (x, *high)])
            });
            points.chain(bands)
        };
        let x_range = self.x.range(all().map(|point| point.0));
        let y_range = self.y.padded(all().map(|point| point.1));
        let mut layout = base(&self.title, x_range, y_range)
            .with_x_label(&self.x_label)
            .with_y_label(&self.y_label)
            .with_x_axis_min(x_range.0)
            .with_x_axis_max(x_range.1)
            .with_y_axis_min(y_range.0)
            .with_y_axis_max(y_range.1);
        layout = match &self.x {
            Axis::Named(names) => layout.with_x_categories(names.clone()),
            Axis::Range(_, _, step) => layout.with_x_tick_step(*step),
            Axis::Auto => layout,
        };
        if let Axis::Range(_, _, step) = self.y {
            layout = layout.with_y_tick_step(step);
        }
        finish(plots, sized(layout, (330.0, 222.0), legend), id)
    }
}
