//! The one file that names the plotting library: panels in, SVG out.
//!
//! Statistics are computed before; the library only draws. Colors are those of Okabe and Ito,
//! which colour-blind readers can tell apart, and every series has its own marker and dash too.

use std::sync::Arc;

use kuva::backend::svg::SvgBackend;
use kuva::plot::heatmap::ColorMap;
use kuva::plot::legend::{LegendEntry, LegendPosition, LegendShape};
use kuva::plot::scatter::MarkerShape;
use kuva::plot::{BandPlot, Heatmap, LinePlot, ScatterPlot};
use kuva::render::annotations::{ReferenceLine, ShadedRegion, TextAnnotation};
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use kuva::render::render::render_multiple;

/// A value with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    pub(super) value: f64,
    pub(super) interval: Option<[f64; 2]>,
}

/// Estimates of several series in named rows: the forest of a journal's supplement.
pub(super) struct Dots {
    pub(super) title: String,
    pub(super) x_label: String,
    pub(super) rows: Vec<String>,
    pub(super) series: Vec<DotSeries>,
    /// The value of a model that knows nothing, drawn as a dotted line.
    pub(super) chance: Option<f64>,
    /// Text at the right end of a row.
    pub(super) marks: Vec<(usize, String)>,
}

pub(super) struct DotSeries {
    pub(super) name: String,
    /// Place in the palette; the same series has the same place in every figure.
    pub(super) style: usize,
    /// One per row.
    pub(super) estimates: Vec<Option<Estimate>>,
}

/// Curves, with bands and stars where given.
pub(super) struct Lines {
    pub(super) title: String,
    pub(super) x_label: String,
    pub(super) y_label: String,
    pub(super) series: Vec<LineSeries>,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// A dashed line of chance or of perfect calibration.
    pub(super) reference: Option<[(f64, f64); 2]>,
}

#[derive(Default)]
pub(super) struct LineSeries {
    pub(super) name: String,
    pub(super) style: usize,
    pub(super) points: Vec<(f64, f64)>,
    /// Lower and upper edge at each point.
    pub(super) band: Option<Vec<(f64, f64)>>,
    /// A single point drawn as a star.
    pub(super) star: Option<(f64, f64)>,
    pub(super) markers: bool,
}

/// An axis; named ticks stand at 1, 2, 3 and so on.
#[derive(Clone)]
pub(super) enum Axis {
    /// From data, rounded outward.
    Auto,
    /// Given ends and tick distance.
    Range(f64, f64, f64),
    /// Named positions.
    Named(Vec<String>),
}

/// Numbers in cells, dark is high.
pub(super) struct Matrix {
    pub(super) title: String,
    pub(super) x_label: String,
    pub(super) y_label: String,
    pub(super) rows: Vec<String>,
    pub(super) columns: Vec<String>,
    /// By row.
    pub(super) values: Vec<Vec<f64>>,
}

/// Points in a plane without meaning of the axes.
pub(super) struct Points {
    pub(super) title: String,
    pub(super) groups: Vec<PointGroup>,
}

pub(super) struct PointGroup {
    pub(super) name: String,
    pub(super) style: usize,
    pub(super) points: Vec<(f64, f64)>,
    /// Drawn pale, behind the others.
    pub(super) background: bool,
}

impl Dots {
    /// Draws the panel; `id` makes the SVG's internal names unique in a page.
    pub(super) fn svg(&self, id: &str) -> String {
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
            .with_x_tick_step(step(high - low))
            .with_width(460.0)
            .with_height(96.0 + rows as f64 * row_height + legend_height(&legend));
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
            let place = (low + (high - low) * 0.965, (rows - row) as f64 - mark_drop);
            let mark = TextAnnotation::new(text, place.0, place.1).with_font_size(11);
            layout = layout.with_annotation(mark);
        }
        finish(plots, with_legend(layout, legend), id)
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
        let low = ((low - 0.01) * 10.0).floor() / 10.0;
        let (room, most) = if self.marks.is_empty() {
            (0.01, 1.0)
        } else {
            (0.05, 1.1)
        };
        let high = ((high + room) * 10.0).ceil() / 10.0;
        (low.max(0.0), high.min(most))
    }
}

impl Lines {
    pub(super) fn svg(&self, id: &str) -> String {
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
            line = match series.style % 4 {
                0 => line,
                1 => line.with_dashed(),
                2 => line.with_dashdot(),
                _ => line.with_dotted(),
            };
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
                dasharray: None,
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
            .with_y_axis_max(y_range.1)
            .with_width(330.0)
            .with_height(270.0 + legend_height(&legend));
        layout = match &self.x {
            Axis::Named(names) => layout.with_x_categories(names.clone()),
            Axis::Range(_, _, step) => layout.with_x_tick_step(*step),
            Axis::Auto => layout,
        };
        if let Axis::Range(_, _, step) = self.y {
            layout = layout.with_y_tick_step(step);
        }
        finish(plots, with_legend(layout, legend), id)
    }
}

impl Axis {
    /// The range with some room where it comes from data.
    fn padded(&self, values: impl Iterator<Item = f64>) -> (f64, f64) {
        let (low, high) = self.range(values);
        let room = if matches!(self, Self::Auto) {
            0.05 * (high - low)
        } else {
            0.0
        };
        (low - room, high + room)
    }

    fn range(&self, values: impl Iterator<Item = f64>) -> (f64, f64) {
        match self {
            Self::Range(low, high, _) => (*low, *high),
            Self::Named(names) => (0.5, names.len() as f64 + 0.5),
            Self::Auto => {
                let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
                    (l.min(v), h.max(v))
                });
                if low > high {
                    (0.0, 1.0)
                } else {
                    (low, high.max(low + 1e-9))
                }
            }
        }
    }
}

impl Matrix {
    pub(super) fn svg(&self, id: &str) -> String {
        // The library counts rows from below.
        let values: Vec<Vec<f64>> = self.values.iter().rev().cloned().collect();
        let rows = self.rows.iter().rev().cloned().collect();
        let heatmap = Heatmap::new()
            .with_data(values)
            .with_color_map(ColorMap::Custom(Arc::new(pale_blues)))
            .with_values();
        let plots = vec![Plot::Heatmap(heatmap)];
        let layout = style(Layout::auto_from_plots(&plots), &self.title)
            .with_x_label(&self.x_label)
            .with_y_label(&self.y_label)
            .with_x_categories(self.columns.clone())
            .with_y_categories(rows)
            .with_width(210.0 + 84.0 * self.columns.len() as f64)
            .with_height(130.0 + 52.0 * self.rows.len() as f64);
        finish(plots, layout, id)
    }
}

/// Light enough for black numbers at both ends.
fn pale_blues(fraction: f64) -> String {
    let mix = |low: f64, high: f64| (low + (high - low) * fraction.clamp(0.0, 1.0)).round();
    format!(
        "rgb({},{},{})",
        mix(247.0, 107.0),
        mix(251.0, 174.0),
        mix(255.0, 214.0)
    )
}

impl Points {
    pub(super) fn svg(&self, id: &str) -> String {
        let mut plots = Vec::new();
        let mut legend = Vec::new();
        for group in &self.groups {
            let plot = ScatterPlot::new()
                .with_data(group.points.iter().copied())
                .with_color(if group.background {
                    PALE
                } else {
                    color(group.style)
                })
                .with_marker(if group.background {
                    MarkerShape::Circle
                } else {
                    marker(group.style)
                })
                .with_marker_opacity(if group.background { 0.6 } else { 0.75 })
                .with_size(2.2);
            plots.push(Plot::Scatter(plot));
            legend.push(LegendEntry {
                label: group.name.clone(),
                color: if group.background {
                    PALE
                } else {
                    color(group.style)
                }
                .to_owned(),
                shape: LegendShape::Marker(marker(group.style)),
                dasharray: None,
            });
        }
        let all = || self.groups.iter().flat_map(|group| group.points.iter());
        let x = Axis::Auto.padded(all().map(|point| point.0));
        let y = Axis::Auto.padded(all().map(|point| point.1));
        let layout = base(&self.title, x, y)
            .with_x_axis_min(x.0)
            .with_x_axis_max(x.1)
            .with_y_axis_min(y.0)
            .with_y_axis_max(y.1)
            .with_x_label("t-SNE 1")
            .with_y_label("t-SNE 2")
            .with_show_grid(false)
            .with_width(330.0)
            .with_height(300.0 + legend_height(&legend));
        finish(plots, with_legend(layout, legend), id)
    }
}

/// Okabe and Ito's colors, the dark ones first.
fn color(style: usize) -> &'static str {
    const COLORS: [&str; 7] = [
        "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
    ];
    COLORS[style % COLORS.len()]
}

fn marker(style: usize) -> MarkerShape {
    const MARKERS: [MarkerShape; 7] = [
        MarkerShape::Circle,
        MarkerShape::Square,
        MarkerShape::Triangle,
        MarkerShape::Diamond,
        MarkerShape::TriangleDown,
        MarkerShape::Pentagon,
        MarkerShape::Hexagon,
    ];
    MARKERS[style % MARKERS.len()]
}

fn entry(series: &DotSeries, shape: LegendShape) -> LegendEntry {
    let color = color(series.style).to_owned();
    LegendEntry {
        label: series.name.clone(),
        color,
        shape,
        dasharray: None,
    }
}

fn base(title: &str, x: (f64, f64), y: (f64, f64)) -> Layout {
    style(Layout::new(x, y), title).with_clamp_axis()
}

fn style(layout: Layout, title: &str) -> Layout {
    layout
        .with_title(title)
        .with_title_size(13)
        .with_label_size(12)
        .with_tick_size(11)
        .with_body_size(11)
        .with_grid_line_width(0.6)
        .with_x_tick_format(TickFormat::Auto)
}

fn with_legend(layout: Layout, legend: Vec<LegendEntry>) -> Layout {
    if legend.is_empty() {
        return layout;
    }
    layout
        .with_legend_entries(legend)
        .with_legend_position(LegendPosition::OutsideBottomColumns)
        .with_legend_box(false)
}

/// The library extends the canvas for a legend below; this is kept for panels of equal plot area.
fn legend_height(_legend: &[LegendEntry]) -> f64 {
    0.0
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

/// Renders, makes the picture scale with its page, and gives internal names the figure's prefix.
fn finish(plots: Vec<Plot>, layout: Layout, id: &str) -> String {
    let svg = SvgBackend::new().render_scene(&render_multiple(plots, layout));
    own_ids(&scalable(&svg), id)
}

/// Adds the view box that lets a page shrink the picture.
fn scalable(svg: &str) -> String {
    let attribute = |name: &str| {
        let start = svg.find(&format!(" {name}=\""))? + name.len() + 3;
        svg[start..].split('"').next()
    };
    match (attribute("width"), attribute("height")) {
        (Some(width), Some(height)) => svg.replacen(
            "<svg ",
            &format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" "),
            1,
        ),
        _ => svg.to_owned(),
    }
}

/// Renames internal ids in order of appearance: the library counts them over the whole process.
fn own_ids(svg: &str, prefix: &str) -> String {
    let mut renamed = svg.to_owned();
    let ids: Vec<&str> = svg
        .split(" id=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    for (place, id) in ids.iter().enumerate() {
        let new = format!("{prefix}-{place}");
        renamed = renamed
            .replace(&format!(" id=\"{id}\""), &format!(" id=\"{new}\""))
            .replace(&format!("url(#{id})"), &format!("url(#{new})"));
    }
    renamed
}

const GREY: &str = "#777777";
const PALE: &str = "#C8C8C8";

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

    #[test]
    fn ids_carry_the_prefix() {
        let svg = own_ids("<g id=\"x7\"/><g clip-path=\"url(#x7)\"/>", "fig");
        assert_eq!(svg, "<g id=\"fig-0\"/><g clip-path=\"url(#fig-0)\"/>");
    }
}
