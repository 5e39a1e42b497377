//! Points of a projection, by group.

use kuva::plot::ScatterPlot;
use kuva::plot::legend::{LegendEntry, LegendShape};
use kuva::plot::scatter::MarkerShape;
use kuva::render::plots::Plot;

use super::{Axis, base, color, finish, marker, sized};

/// Color of what stands behind.
const PALE: &str = "#C8C8C8";

/// Points in a plane without meaning of the axes.
pub(in crate::report) struct Points {
    pub(in crate::report) title: String,
    pub(in crate::report) groups: Vec<PointGroup>,
}

pub(in crate::report) struct PointGroup {
    pub(in crate::report) name: String,
    pub(in crate::report) style: usize,
    pub(in crate::report) points: Vec<(f64, f64)>,
    /// Drawn pale, behind the others.
    pub(in crate::report) background: bool,
}

impl Points {
    pub(in crate::report) fn svg(&self, id: &str) -> String {
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
            .with_show_grid(false);
        finish(plots, sized(layout, (330.0, 250.0), legend), id)
    }
}
