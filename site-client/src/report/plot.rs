//! The one folder that names the plotting library: panels in, SVG out.
//!
//! Statistics are computed before; the library only draws. Colors are those of Okabe and Ito,
//! which colour-blind readers can tell apart, and every series has its own marker and dash too.

mod dots;
mod lines;
mod matrix;
mod points;

use kuva::backend::svg::SvgBackend;
use kuva::plot::legend::{LegendEntry, LegendPosition};
use kuva::plot::scatter::MarkerShape;
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use kuva::render::render::render_multiple;

pub(super) use dots::{DotSeries, Dots};
pub(super) use lines::{LineSeries, Lines};
pub(super) use matrix::Matrix;
pub(super) use points::{PointGroup, Points};

/// A value with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    pub(super) value: f64,
    pub(super) interval: Option<[f64; 2]>,
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

/// Sets the size of a panel without its legend, and puts the legend below, for which it grows.
fn sized(layout: Layout, (width, height): (f64, f64), legend: Vec<LegendEntry>) -> Layout {
    let layout = layout.with_width(width);
    if legend.is_empty() {
        return layout.with_height(height);
    }
    let longest = legend.iter().map(|entry| entry.label.chars().count()).max();
    let column = LEGEND_SWATCH + CHARACTER * longest.unwrap_or(0) as f64;
    let columns = ((width - MARGINS) / column).max(1.0) as usize;
    let rows = legend.len().div_ceil(columns) as f64;
    layout
        .with_height(height + LEGEND_GAP + LEGEND_LINE * rows)
        .with_legend_entries(legend)
        .with_legend_col_limit(columns)
        .with_legend_position(LegendPosition::OutsideBottomColumns)
        .with_legend_box(false)
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

/// What surrounds the area of the data, left and right, in pixels.
const MARGINS: f64 = 85.0;
/// Width of a character of the small print, on the safe side.
const CHARACTER: f64 = 6.5;
/// A legend's symbol with the space around it.
const LEGEND_SWATCH: f64 = 38.0;
const LEGEND_GAP: f64 = 30.0;
const LEGEND_LINE: f64 = 16.5;

#[cfg(test)]
mod tests {
    use super::own_ids;

    #[test]
    fn ids_carry_the_prefix() {
        let svg = own_ids("<g id=\"x7\"/><g clip-path=\"url(#x7)\"/>", "fig");
        assert_eq!(svg, "<g id=\"fig-0\"/><g clip-path=\"url(#fig-0)\"/>");
    }
}
