//! Slices in the brain window with colored maps over them, a legend, and letters R and L.

use std::fmt::Write as _;
use std::path::Path;

use core_model::ct::{HEAD_WINDOWS, Region, Volume, Window};
use resvg::tiny_skia::{Pixmap, PremultipliedColorU8};

use super::super::{ReportError, png};
use super::map::GridMap;

/// A column of overlays.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) map: GridMap,
}

/// Rows of slices: the scan, then each model's map over it, on one scale for all models.
pub(super) fn overlays(
    path: &Path,
    cropped: &Volume,
    columns: &[Column],
    slices: usize,
    unit: &str,
) -> Result<(), ReportError> {
    let heights = heights(cropped, slices);
    let all = || columns.iter().flat_map(|column| column.map.values());
    let range = range(all().copied());
    let mut sheet = Sheet::new(columns.len() + 1, heights.len());
    sheet.heading(0, "scan");
    for (place, column) in columns.iter().enumerate() {
        sheet.heading(place + 1, &column.name);
    }
    for (row, height) in heights.iter().enumerate() {
        sheet.row_label(row, &format!("z = {height} mm"));
    }
    sheet.legend(&format!("mean attention distance [{unit}]"), range);
    let mut picture = sheet.pixmap()?;
    for (row, &height) in heights.iter().enumerate() {
        draw_tile(&mut picture, (0, row), cropped, height, None);
        for (place, column) in columns.iter().enumerate() {
            let overlay = Some((&column.map, range));
            draw_tile(&mut picture, (place + 1, row), cropped, height, overlay);
        }
    }
    save(path, &picture)
}

/// The middle slice once per head.
pub(super) fn heads(
    path: &Path,
    title: &str,
    cropped: &Volume,
    maps: &[GridMap],
) -> Result<(), ReportError> {
    let Some(&height) = heights(cropped, 1).first() else {
        return Ok(());
    };
    let across = maps.len().clamp(1, HEADS_ACROSS);
    let down = maps.len().div_ceil(across);
    let range = range(maps.iter().flat_map(GridMap::values).copied());
    let mut sheet = Sheet::new(across, down);
    sheet.heading(0, title);
    for row in 0..down {
        let last = (row * across + across).min(maps.len());
        sheet.row_label(row, &format!("heads {}–{last}", row * across + 1));
    }
    sheet.legend("attention weight of a patch", range);
    let mut picture = sheet.pixmap()?;
    for (head, map) in maps.iter().enumerate() {
        let place = (head % across, head / across);
        draw_tile(&mut picture, place, cropped, height, Some((map, range)));
    }
    save(path, &picture)
}

/// Slices evenly spread over the middle 70 % of the head.
fn heights(cropped: &Volume, slices: usize) -> Vec<usize> {
    let shape = cropped.shape();
    let head = Region::above(cropped, 0.0).unwrap_or(Region {
        start: [0; 3],
        shape,
    });
    let (low, span) = (head.start[2] as f64, head.shape[2] as f64);
    let place = |slice: usize| {
        let fraction = (slice as f64 + 0.5) / slices as f64;
        // From the top down, as films hang.
        ((low + span * (0.85 - 0.7 * fraction)) as usize).min(shape[2] - 1)
    };
    (0..slices).map(place).collect()
}

fn range(values: impl Iterator<Item = f32>) -> (f32, f32) {
    let (low, high) = values.fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| {
        (l.min(v), h.max(v))
    });
    if low < high {
        (low, high)
    } else {
        (low.min(0.0), low.max(0.0) + 1.0)
    }
}

/// One axial slice, the patient's right on the left of the picture, anterior up.
fn draw_tile(
    picture: &mut Pixmap,
    (column, row): (usize, usize),
    volume: &Volume,
    height: usize,
    overlay: Option<(&GridMap, (f32, f32))>,
) {
    let shape = volume.shape();
    let longest = shape[0].max(shape[1]) as f64;
    let step = longest / TILE as f64;
    let (left, top) = (LABELS + column * (TILE + GAP), HEADING + row * (TILE + GAP));
    let width = picture.width() as usize;
    for v in 0..TILE {
        for u in 0..TILE {
            // Centered in a square tile.
            let x = shape[0] as f64 / 2.0 - (u as f64 + 0.5 - TILE as f64 / 2.0) * step - 0.5;
            let y = shape[1] as f64 / 2.0 - (v as f64 + 0.5 - TILE as f64 / 2.0) * step - 0.5;
            let (i, j) = (x.round(), y.round());
            let inside = i >= 0.0 && j >= 0.0 && i < shape[0] as f64 && j < shape[1] as f64;
            let color = if inside {
                let hu = volume.at([i as usize, j as usize, height]);
                let gray = BRAIN.apply(hu);
                match overlay {
                    Some((map, range)) if hu > HEAD_ABOVE_HU => {
                        let value = map.at([x, y, height as f64]);
                        blend(gray, (value - range.0) / (range.1 - range.0))
                    }
                    _ => [gray; 3],
                }
            } else {
                [0.0; 3]
            };
            let [r, g, b] = color.map(|c| (c * 255.0).round() as u8);
            let pixel = PremultipliedColorU8::from_rgba(r, g, b, 255);
            if let (Some(pixel), Some(place)) = (
                pixel,
                picture.pixels_mut().get_mut((top + v) * width + left + u),
            ) {
                *place = pixel;
            }
        }
    }
}

/// Half scan, half color.
fn blend(gray: f32, fraction: f32) -> [f32; 3] {
    viridis(fraction).map(|color| 0.55 * gray + 0.45 * color)
}

/// Five anchors of viridis, readable by color-blind readers and in gray.
fn viridis(fraction: f32) -> [f32; 3] {
    const ANCHORS: [[f32; 3]; 5] = [
        [0.267, 0.005, 0.329],
        [0.230, 0.322, 0.546],
        [0.129, 0.569, 0.549],
        [0.369, 0.788, 0.384],
        [0.993, 0.906, 0.144],
    ];
    let place = fraction.clamp(0.0, 1.0) * (ANCHORS.len() - 1) as f32;
    let below = (place as usize).min(ANCHORS.len() - 2);
    let rest = place - below as f32;
    [0, 1, 2].map(|c| ANCHORS[below][c] * (1.0 - rest) + ANCHORS[below + 1][c] * rest)
}

/// The text around tiles, drawn as SVG before the tiles are filled in.
struct Sheet {
    width: usize,
    height: usize,
    marks: String,
}

impl Sheet {
    fn new(columns: usize, rows: usize) -> Self {
        let width = LABELS + columns * (TILE + GAP) + GAP;
        let height = HEADING + rows * (TILE + GAP) + LEGEND;
        Self {
            width: width.max(LEGEND_WIDTH + 2 * LABELS),
            height,
            marks: String::new(),
        }
    }

    fn heading(&mut self, column: usize, text: &str) {
        self.text(LABELS + column * (TILE + GAP), HEADING - 24, 13, text);
        self.text(LABELS + column * (TILE + GAP), HEADING - 7, 11, "R");
        self.text(
            LABELS + column * (TILE + GAP) + TILE - 9,
            HEADING - 7,
            11,
            "L",
        );
    }

    fn row_label(&mut self, row: usize, text: &str) {
        self.text(6, HEADING + row * (TILE + GAP) + TILE / 2, 11, text);
    }

    fn legend(&mut self, title: &str, (low, high): (f32, f32)) {
        let (left, top) = (LABELS, self.height - LEGEND + 26);
        self.text(left, top - 8, 11, title);
        for step in 0..LEGEND_WIDTH {
            let color = viridis(step as f32 / (LEGEND_WIDTH - 1) as f32);
            let [r, g, b] = color.map(|c| (c * 255.0).round() as u8);
            let x = left + step;
            // A String takes all that is written to it.
            let _ = write!(
                self.marks,
                "<rect x=\"{x}\" y=\"{top}\" width=\"1.5\" height=\"12\" fill=\"rgb({r},{g},{b})\"/>"
            );
        }
        let decimals = if high - low < 0.5 { 4 } else { 1 };
        self.text(left, top + 26, 11, &format!("{low:.decimals$}"));
        self.text(
            left + LEGEND_WIDTH - 30,
            top + 26,
            11,
            &format!("{high:.decimals$}"),
        );
        self.text(
            left,
            top + 46,
            11,
            "Research use only: not for clinical use.",
        );
    }

    fn text(&mut self, x: usize, y: usize, size: usize, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = write!(
            self.marks,
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" font-family=\"DejaVu Sans\">{text}</text>"
        );
    }

    fn pixmap(&self) -> Result<Pixmap, ReportError> {
        let Self {
            width,
            height,
            marks,
        } = self;
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\">\
             <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>{marks}</svg>"
        );
        png::pixmap(&svg, 1.0)
    }
}

fn save(path: &Path, picture: &Pixmap) -> Result<(), ReportError> {
    let bytes = picture
        .encode_png()
        .map_err(|error| ReportError::Svg(error.to_string()))?;
    std::fs::write(path, bytes).map_err(|source| ReportError::Io {
        path: path.to_owned(),
        source,
    })
}

/// The brain window, 0 to 80 HU.
const BRAIN: Window = HEAD_WINDOWS[0];
/// Air and the scanner's table foam stay uncolored.
const HEAD_ABOVE_HU: f32 = -200.0;
const TILE: usize = 200;
const GAP: usize = 6;
const LABELS: usize = 86;
const HEADING: usize = 44;
const LEGEND: usize = 84;
const LEGEND_WIDTH: usize = 220;
const HEADS_ACROSS: usize = 6;
