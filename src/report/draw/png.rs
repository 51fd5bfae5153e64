//! Figures as PNG files, with the embedded font, so that the result does not depend on the machine's fonts.

use super::{
    canvas::{Canvas, path},
    font::{Font, REGULAR, SEMIBOLD},
    mark::{Form, Join, Line, Mark, Paint, hex},
    palette::PAPER,
    svg::{Anchor, Drawing},
};
use tiny_skia::Transform;

/// Why a figure could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum PngError {
    #[error("the figure is too large to render: {width} x {height} pixels")]
    Size { width: f64, height: f64 },
    #[error("the picture could not be encoded: {0}")]
    Encode(#[from] png::EncodingError),
}

/// Larger pictures are refused.
const MOST_PIXELS: f64 = 1e8;

/// Renders figures; reads the fonts once.
pub struct Renderer {
    regular: Font,
    semibold: Font,
}

impl Default for Renderer {
    fn default() -> Renderer {
        Renderer { regular: Font::new(REGULAR), semibold: Font::new(SEMIBOLD) }
    }
}

impl Renderer {
    /// The figure as PNG, `scale` pixels for one pixel of the SVG.
    pub fn png(&self, drawing: &Drawing, scale: f64) -> Result<Vec<u8>, PngError> {
        let (width, height) = ((drawing.width * scale).ceil(), (drawing.height * scale).ceil());
        if !(width >= 1.0 && height >= 1.0 && width * height <= MOST_PIXELS) {
            return Err(PngError::Size { width, height });
        }
        let canvas = Canvas::new(width as u32, height as u32, scale);
        let mut canvas = canvas.ok_or(PngError::Size { width, height })?;
        drawing.marks.iter().for_each(|mark| self.draw(&mut canvas, mark));
        encode(&canvas)
    }

    fn draw(&self, canvas: &mut Canvas, mark: &Mark) {
        match &mark.form {
            Form::Area { contours, fill, line } => {
                let Some(path) = path(contours) else { return };
                if let Some(fill) = fill {
                    canvas.fill(&path, fill, mark.clip);
                }
                if let Some(line) = line {
                    canvas.stroke(&path, line, mark.clip);
                }
            }
            Form::Text { at, text, size, anchor, bold, color, rotate, halo } => {
                let font = if *bold { &self.semibold } else { &self.regular };
                let share = match anchor {
                    Anchor::Start => 0.0,
                    Anchor::Middle => 0.5,
                    Anchor::End => 1.0,
                };
                // The anchor comes to the origin, then the line of text is turned around it.
                let place = Transform::from_translate((-share * font.width(text, *size)) as f32, 0.0)
                    .post_rotate(*rotate as f32)
                    .post_translate(at.0 as f32, at.1 as f32);
                let outline = font.outline(text, *size).and_then(|letters| letters.transform(place));
                let Some(letters) = outline else { return };
                if let (Some(width), Some(color)) = (*halo, hex(PAPER)) {
                    let line = Line { color, opacity: 1.0, width, dash: Vec::new(), join: Join::Round };
                    canvas.stroke(&letters, &line, mark.clip);
                }
                canvas.fill(&letters, &Paint::Solid(*color, 1.0), mark.clip);
            }
        }
    }
}

fn encode(canvas: &Canvas) -> Result<Vec<u8>, PngError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, canvas.width(), canvas.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // Flat areas and few colours: filters, which help photographs, would make the file larger.
    encoder.set_filter(png::Filter::NoFilter);
    encoder.write_header()?.write_image_data(&canvas.pixels())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::draw::svg::{Rect, Stroke, Svg, Text};

    #[test]
    fn every_kind_of_mark_is_drawn_where_it_is() {
        let mut svg = Svg::new("t", 60.0, 40.0);
        let hatch = svg.hatch("#0000ff");
        svg.rect(Rect::new(0.0, 0.0, 10.0, 10.0), "#ff0000", None);
        svg.rect(Rect::new(10.0, 0.0, 10.0, 10.0), &hatch, None);
        svg.line((20.0, 5.0), (40.0, 5.0), Stroke::solid("#00ff00", 10.0).dashed("10 10"));
        svg.clipped(Rect::new(40.0, 0.0, 10.0, 40.0), |svg| {
            svg.polyline(&[(30.0, 5.0), (60.0, 5.0)], Stroke::solid("#00ff00", 10.0));
        });
        svg.unseen(|svg| svg.cell("M0 20h60v20h-60Z", "nothing to see"));
        svg.filled("#ff00ff", |svg| svg.cell("M0 30h10v10h-10Z", "something"));
        svg.text((30.0, 38.0), "I", Text::new(20.0, Anchor::Middle).bold());
        let bytes = Renderer::default().png(&svg.finish("a test"), 1.0).unwrap();

        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (60, 40));
        let at = |x: usize, y: usize| <[u8; 3]>::try_from(&pixels[3 * (60 * y + x)..][..3]).unwrap();
        assert_eq!(at(5, 5), [255, 0, 0]);
        let blues: Vec<u8> = (10..20).map(|x| at(x, 5)[0]).collect();
        assert!(blues.iter().any(|red| *red < 40) && blues.iter().any(|red| *red > 180), "{blues:?}");
        assert_eq!((at(25, 5), at(35, 5)), ([0, 255, 0], [255; 3]), "a dash and a gap");
        assert_eq!((at(45, 5), at(55, 5)), ([0, 255, 0], [255; 3]), "within the clip and outside");
        assert_eq!((at(5, 25), at(5, 35)), ([255; 3], [255, 0, 255]));
        assert!(at(30, 30)[0] < 60 && at(22, 30) == [255; 3], "a letter in the middle");
    }

    #[test]
    fn pictures_without_end_are_refused() {
        let drawing = Svg::new("t", 1e9, 1e9).finish("");
        assert!(matches!(Renderer::default().png(&drawing, 2.0), Err(PngError::Size { .. })));
        assert!(Canvas::new(u32::MAX, 1, 1.0).is_none() && Canvas::new(0, 1, 1.0).is_none());
    }
}
