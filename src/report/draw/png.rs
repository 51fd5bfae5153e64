//! SVG to PNG with the embedded font, so that the result does not depend on the machine's fonts.

use resvg::{tiny_skia, usvg};
use std::sync::Arc;

/// The embedded fonts (subsets of Inter; licence in `assets/fonts`).
pub const REGULAR: &[u8] = include_bytes!("../../../assets/fonts/Inter-Regular.otf");
pub const SEMIBOLD: &[u8] = include_bytes!("../../../assets/fonts/Inter-SemiBold.otf");

/// Why a figure could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum PngError {
    #[error("the figure is not valid SVG: {0}")]
    Svg(#[from] usvg::Error),
    #[error("the figure is too large to render: {width} x {height} pixels")]
    Size { width: u32, height: u32 },
    #[error("the picture could not be encoded: {0}")]
    Encode(String),
}

/// Renders SVG figures; loads the fonts once.
pub struct Renderer {
    options: usvg::Options<'static>,
}

impl Default for Renderer {
    fn default() -> Renderer {
        let mut options = usvg::Options { font_family: "Inter".into(), ..usvg::Options::default() };
        let fonts = Arc::make_mut(&mut options.fontdb);
        fonts.load_font_data(REGULAR.to_vec());
        fonts.load_font_data(SEMIBOLD.to_vec());
        Renderer { options }
    }
}

impl Renderer {
    /// The figure as PNG, `scale` pixels for one pixel of the SVG.
    pub fn png(&self, svg: &str, scale: f32) -> Result<Vec<u8>, PngError> {
        let tree = usvg::Tree::from_str(svg, &self.options)?;
        let (width, height) = (tree.size().width() * scale, tree.size().height() * scale);
        let (width, height) = (width.ceil() as u32, height.ceil() as u32);
        let mut pixels = tiny_skia::Pixmap::new(width, height).ok_or(PngError::Size { width, height })?;
        resvg::render(&tree, tiny_skia::Transform::from_scale(scale, scale), &mut pixels.as_mut());
        pixels.encode_png().map_err(|e| PngError::Encode(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::draw::letters::text_width;

    #[test]
    fn estimated_text_widths_match_the_font() {
        let renderer = Renderer::default();
        for text in ["average regret, loss per round", "RMSProp (lr 0.003)", "1,234 rounds N", "10⁻³"] {
            let svg = format!(
                r#"<svg xmlns="http://www.w3.org/2000/svg" width="900" height="100">
<text x="0" y="50" font-size="40" font-family="Inter">{text}</text></svg>"#
            );
            let tree = usvg::Tree::from_str(&svg, &renderer.options).unwrap();
            let measured = f64::from(tree.root().layer_bounding_box().width());
            let estimated = text_width(text, 40.0);
            assert!((measured / estimated - 1.0).abs() < 0.06, "{text}: {measured} against {estimated}");
        }
    }

    #[test]
    fn broken_svg_is_an_error() {
        assert!(matches!(Renderer::default().png("<svg", 1.0), Err(PngError::Svg(_))));
    }
}
