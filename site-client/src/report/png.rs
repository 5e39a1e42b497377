//! SVG to PNG with a font of our own, so that pictures are the same bytes on every machine.

use std::io::Read;
use std::sync::{Arc, OnceLock};

use flate2::read::GzDecoder;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{Options, Tree};

use super::ReportError;

/// Draws an SVG at `scale` pixels per unit, as PNG.
///
/// # Errors
/// An SVG that cannot be parsed, or a picture of no size.
pub(super) fn render(svg: &str, scale: f32) -> Result<Vec<u8>, ReportError> {
    pixmap(svg, scale)?
        .encode_png()
        .map_err(|error| ReportError::Svg(error.to_string()))
}

/// Draws an SVG at `scale` pixels per unit.
///
/// # Errors
/// As [`render`].
pub(super) fn pixmap(svg: &str, scale: f32) -> Result<Pixmap, ReportError> {
    let options = Options {
        font_family: FAMILY.to_owned(),
        fontdb: fonts(),
        ..Options::default()
    };
    let tree =
        Tree::from_str(svg, &options).map_err(|error| ReportError::Svg(error.to_string()))?;
    let size = tree.size().to_int_size().scale_by(scale);
    let pixmap = size.and_then(|size| Pixmap::new(size.width(), size.height()));
    let Some(mut pixmap) = pixmap else {
        return Err(ReportError::Svg("picture of no size".to_owned()));
    };
    resvg::render(
        &tree,
        Transform::from_scale(scale, scale),
        &mut pixmap.as_mut(),
    );
    Ok(pixmap)
}

/// DejaVu Sans, regular and bold, unpacked once. Nothing of the system is loaded.
fn fonts() -> Arc<Database> {
    static FONTS: OnceLock<Arc<Database>> = OnceLock::new();
    let load = || {
        let mut fonts = Database::new();
        for packed in [REGULAR, BOLD] {
            let mut bytes = Vec::new();
            // The bytes are ours; a damaged one would be seen as missing text by the tests.
            if GzDecoder::new(packed).read_to_end(&mut bytes).is_ok() {
                fonts.load_font_data(bytes);
            }
        }
        fonts.set_sans_serif_family(FAMILY);
        Arc::new(fonts)
    };
    Arc::clone(FONTS.get_or_init(load))
}

const FAMILY: &str = "DejaVu Sans";
const REGULAR: &[u8] = include_bytes!("../../assets/fonts/DejaVuSans.ttf.gz");
const BOLD: &[u8] = include_bytes!("../../assets/fonts/DejaVuSans-Bold.ttf.gz");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_leaves_pixels() {
        let picture = |text: &str| {
            let svg = format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"60\" height=\"20\">\
                 <text x=\"2\" y=\"15\" font-family=\"sans-serif\">{text}</text></svg>"
            );
            render(&svg, 2.0).unwrap()
        };
        assert_eq!(picture("AUC"), picture("AUC"));
        assert_ne!(picture("AUC"), picture(""));
    }

    #[test]
    fn what_is_no_svg_is_refused() {
        assert!(render("<html/>", 1.0).is_err());
    }
}
