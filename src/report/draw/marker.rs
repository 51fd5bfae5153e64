//! Marks of data points.

use super::svg::{Stroke, Svg, pixels};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
    TriangleDown,
}

impl Marker {
    /// Draws the mark around `center` with half-width `r`, its edge in `color`.
    pub fn draw(self, svg: &mut Svg, center: (f64, f64), r: f64, fill: &str, color: &str) {
        svg.shape(&self.outline(center, r), fill, Stroke::solid(color, 1.2));
    }

    /// The SVG commands of its outline.
    fn outline(self, (x, y): (f64, f64), r: f64) -> String {
        let p = pixels;
        match self {
            Marker::Circle => {
                format!("M{} {}a{2} {2} 0 1 0 {3} 0a{2} {2} 0 1 0 -{3} 0Z", p(x - r), p(y), p(r), p(2.0 * r))
            }
            Marker::Square => format!("M{} {}h{2}v{2}h-{2}Z", p(x - 0.9 * r), p(y - 0.9 * r), p(1.8 * r)),
            Marker::Triangle => {
                format!(
                    "M{} {}L{} {}L{} {}Z",
                    p(x - 1.1 * r),
                    p(y + 0.9 * r),
                    p(x + 1.1 * r),
                    p(y + 0.9 * r),
                    p(x),
                    p(y - 1.1 * r)
                )
            }
            Marker::TriangleDown => {
                format!(
                    "M{} {}L{} {}L{} {}Z",
                    p(x - 1.1 * r),
                    p(y - 0.9 * r),
                    p(x + 1.1 * r),
                    p(y - 0.9 * r),
                    p(x),
                    p(y + 1.1 * r)
                )
            }
            Marker::Diamond => {
                let r = 1.25 * r;
                format!("M{} {}L{} {}L{} {}L{} {}Z", p(x - r), p(y), p(x), p(y - r), p(x + r), p(y), p(x), p(y + r))
            }
            Marker::Cross => {
                format!(
                    "M{} {}L{} {}M{} {}L{} {}",
                    p(x - r),
                    p(y - r),
                    p(x + r),
                    p(y + r),
                    p(x - r),
                    p(y + r),
                    p(x + r),
                    p(y - r)
                )
            }
        }
    }
}
