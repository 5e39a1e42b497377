//! Pictures to check a cohort by eye: three planes of each scan, and contact sheets of many.

use std::path::Path;

use core_model::ct::{HEAD_WINDOWS, Region, Volume};

use super::IngestError;
use super::cache::write_whole;
use super::font;
use crate::scans::Scan;

/// Axial, coronal and sagittal slices through the middle of the head in the brain window, with the
/// scan's name, spacing and flags.
#[derive(Debug, Clone)]
pub struct Portrait(Picture);

impl Portrait {
    /// Of a 1 mm volume in RAS.
    #[must_use]
    pub fn of(scan: &Scan, at_1mm: &Volume) -> Self {
        let mut picture = Picture::black(3 * TILE, TILE + CAPTION);
        let shape = at_1mm.shape();
        let region = Region::above(at_1mm, 0.0).unwrap_or(Region {
            start: [0; 3],
            shape,
        });
        let [x, y, z] = [0, 1, 2].map(|a| region.start[a] + region.shape[a] / 2);
        // Radiological convention: the patient's right is on the left of the picture.
        let right = |column: usize| shape[0] - 1 - column;
        picture.draw(0, shape[0], shape[1], |column, row| {
            at_1mm.at([right(column), shape[1] - 1 - row, z])
        });
        picture.draw(TILE, shape[0], shape[2], |column, row| {
            at_1mm.at([right(column), y, shape[2] - 1 - row])
        });
        picture.draw(2 * TILE, shape[1], shape[2], |column, row| {
            at_1mm.at([x, shape[1] - 1 - column, shape[2] - 1 - row])
        });
        picture.write(4, TILE + 4, &scan.scan);
        let spacing = format!(
            "{:.3} {:.3} {:.3} MM  {} SLICES  {}",
            scan.spacing_x_mm,
            scan.spacing_y_mm,
            scan.spacing_z_mm,
            scan.slices,
            scan.kernel.as_deref().unwrap_or("")
        );
        picture.write(4, TILE + 16, &spacing);
        picture.write(4, TILE + 28, &scan.flags);
        Self(picture)
    }

    /// Writes `<scan>.png`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), IngestError> {
        self.0.save(path)
    }
}

/// Writes many portraits at half their size on one sheet.
///
/// # Errors
/// A file that cannot be written.
pub fn save_contact_sheet(path: &Path, portraits: &[Portrait]) -> Result<(), IngestError> {
    let (width, height) = (3 * TILE / 2, (TILE + CAPTION) / 2);
    let rows = portraits.len().div_ceil(SHEET_COLUMNS);
    let mut sheet = Picture::black(SHEET_COLUMNS * width, rows * height);
    for (i, Portrait(portrait)) in portraits.iter().enumerate() {
        let (left, top) = (i % SHEET_COLUMNS * width, i / SHEET_COLUMNS * height);
        for y in 0..height {
            for x in 0..width {
                let bright = [(0, 0), (1, 0), (0, 1), (1, 1)]
                    .map(|(dx, dy)| u32::from(portrait.at(2 * x + dx, 2 * y + dy)));
                let mean = (bright.iter().sum::<u32>() / 4) as u8;
                sheet.bright[(top + y) * sheet.width + left + x] = mean;
            }
        }
    }
    sheet.save(path)
}

/// Portraits on one contact sheet.
pub const PER_SHEET: usize = 40;

#[derive(Clone)]
struct Picture {
    width: usize,
    height: usize,
    bright: Vec<u8>,
}

impl Picture {
    fn black(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            bright: vec![0; width * height],
        }
    }

    fn at(&self, x: usize, y: usize) -> u8 {
        self.bright[y * self.width + x]
    }

    fn set(&mut self, x: usize, y: usize, value: f32) {
        self.bright[y * self.width + x] = (255.0 * value) as u8;
    }

    /// Draws a plane in the middle of the tile at `left`, in the brain window.
    fn draw(&mut self, left: usize, width: usize, height: usize, hu: impl Fn(usize, usize) -> f32) {
        // Planes larger than a tile are shrunk into it, the nearest voxel for each pixel.
        let larger = width.max(height).max(TILE);
        let shrunk = |length: usize| length * TILE / larger;
        let (shown_x, shown_y) = (shrunk(width), shrunk(height));
        let (left, top) = (left + (TILE - shown_x) / 2, (TILE - shown_y) / 2);
        for row in 0..shown_y {
            for column in 0..shown_x {
                let hu = hu(column * larger / TILE, row * larger / TILE);
                self.set(left + column, top + row, HEAD_WINDOWS[0].apply(hu));
            }
        }
    }

    fn write(&mut self, left: usize, top: usize, text: &str) {
        let fitting = (self.width - left) / font::ADVANCE;
        for (i, character) in text.chars().take(fitting).enumerate() {
            for (x, y) in font::pixels(character) {
                self.set(left + i * font::ADVANCE + x, top + y, 1.0);
            }
        }
    }

    fn save(&self, path: &Path) -> Result<(), IngestError> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.bright)?;
            writer.finish()
        });
        written.expect("a gray picture in memory encodes");
        write_whole(path, &bytes)
    }
}

/// Shows the size, never a pixel.
impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({}x{})", self.width, self.height)
    }
}

/// Side of one plane.
const TILE: usize = 256;

/// Height of the text below.
const CAPTION: usize = 40;

const SHEET_COLUMNS: usize = 4;
