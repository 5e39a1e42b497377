//! A table of numbers, shaded.

use std::sync::Arc;

use kuva::plot::Heatmap;
use kuva::plot::heatmap::ColorMap;
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;

use super::{finish, style};

/// Numbers in cells, dark is high.
pub(in crate::report) struct Matrix {
    pub(in crate::report) title: String,
    pub(in crate::report) x_label: String,
    pub(in crate::report) y_label: String,
    pub(in crate::report) rows: Vec<String>,
    pub(in crate::report) columns: Vec<String>,
    /// By row.
    pub(in crate::report) values: Vec<Vec<f64>>,
    /// What is lightest and darkest: the same in matrices that stand side by side.
    pub(in crate::report) shades: (f64, f64),
}

impl Matrix {
    pub(in crate::report) fn svg(&self, id: &str) -> String {
        // The library counts rows from below.
        let values: Vec<Vec<f64>> = self.values.iter().rev().cloned().collect();
        let rows = self.rows.iter().rev().cloned().collect();
        let all = || values.iter().flatten().copied();
        let low = all().fold(f64::INFINITY, f64::min);
        let span = all().fold(f64::NEG_INFINITY, f64::max) - low;
        let (lightest, darkest) = self.shades;
        // The library tells how far a value is between the least and the largest of this matrix.
        let shade = move |fraction: f64| {
            let above = if span > 0.0 { fraction * span } else { 0.0 };
            pale_blues((low + above - lightest) / (darkest - lightest))
        };
        let heatmap = Heatmap::new()
            .with_data(values)
            .with_color_map(ColorMap::Custom(Arc::new(shade)))
            .with_values();
        let plots = vec![Plot::Heatmap(heatmap)];
        let mut layout = style(Layout::auto_from_plots(&plots), &self.title)
            .with_x_label(&self.x_label)
            .with_y_label(&self.y_label)
            .with_x_categories(self.columns.clone())
            .with_y_categories(rows)
            .with_width(130.0 + 84.0 * self.columns.len() as f64)
            .with_height(130.0 + 52.0 * self.rows.len() as f64);
        // Each cell holds its number.
        layout.show_colorbar = false;
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
