//! Colours, dashes, markers and the widths of letters.

use super::svg::{Stroke, Svg, pixels};

/// The font of every figure: embedded in the page and in the PNGs, with fallbacks for a bare SVG file.
pub const FONT: &str = "Inter, 'Helvetica Neue', Arial, sans-serif";
/// Text.
pub const INK: &str = "#1a1a1a";
/// Tick labels and guide lines.
pub const MUTED: &str = "#595959";
/// Grid lines.
pub const GRID: &str = "#e6e6e6";
/// Frames of panels.
pub const FRAME: &str = "#8c8c8c";
/// Behind everything.
pub const PAPER: &str = "#ffffff";
/// Behind strips beside a panel.
pub const STRIP: &str = "#f6f6f6";
/// Bands in legends, where they have no series' colour.
pub const BAND: &str = "#d4d4d4";
/// Neurons that are dead.
pub const DEAD: &str = "#000000";
/// The part of the loss that is the region's; darker than regret, so that they differ without colours too.
pub const OPTIMUM: &str = "#2b83ba";
/// The part of the loss that is the optimizer's.
pub const REGRET: &str = "#e69f00";
/// Regret below zero.
pub const NEGATIVE: &str = "#cc79a7";
/// What a certificate leaves open.
pub const UNSOLVED: &str = "#808080";

/// The palette of Okabe and Ito, which readers with any colour vision can tell apart, yellow left out for
/// its faintness on white.
const COLORS: [&str; 7] = [BLUE, VERMILION, GREEN, NEGATIVE, REGRET, "#56b4e9", DEAD];
/// Colours of functions and of their approximations.
pub const BLUE: &str = "#0072b2";
pub const VERMILION: &str = "#d55e00";
pub const GREEN: &str = "#009e73";

/// Every colour of the figures but the steps of ramps, once each: what a page in other colours must map.
pub const ALL: [&str; 16] = [
    INK, MUTED, GRID, FRAME, PAPER, STRIP, BAND, DEAD, OPTIMUM, REGRET, NEGATIVE, UNSOLVED, BLUE, VERMILION, GREEN,
    "#56b4e9",
];
const DASHES: [&str; 5] = ["", "7 3", "2.5 2.5", "9 3 2 3", "12 4"];
const MARKERS: [Marker; 6] =
    [Marker::Circle, Marker::Square, Marker::Triangle, Marker::Diamond, Marker::Cross, Marker::TriangleDown];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
    TriangleDown,
}

/// How one optimizer looks in every figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeriesStyle {
    pub color: &'static str,
    pub dash: &'static str,
    pub marker: Marker,
}

impl SeriesStyle {
    /// The style of the optimizer at position `index`.
    pub fn of(index: usize) -> SeriesStyle {
        SeriesStyle::mixed(index, index + index / COLORS.len())
    }

    /// A colour by one index and a dash and marker by another.
    pub fn mixed(color: usize, form: usize) -> SeriesStyle {
        SeriesStyle {
            color: COLORS[color % COLORS.len()],
            dash: DASHES[form % DASHES.len()],
            marker: MARKERS[form % MARKERS.len()],
        }
    }

    pub fn stroke(&self, width: f64) -> Stroke<'static> {
        Stroke::solid(self.color, width).dashed(self.dash)
    }

    /// Draws the marker with half-width `r`, filled or open.
    pub fn mark(&self, svg: &mut Svg, (x, y): (f64, f64), r: f64, filled: bool) {
        let p = pixels;
        let commands = match self.marker {
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
        };
        let stroke = Stroke::solid(self.color, 1.2);
        svg.shape(&commands, if filled { self.color } else { PAPER }, stroke);
    }
}

/// Advance widths of the printable ASCII characters in the embedded font, in thousandths of its size.
const WIDTHS: [u16; 95] = [
    281, 278, 403, 631, 638, 812, 639, 222, 362, 362, 500, 659, 280, 460, 276, 357, 625, 464, 605, 636, 642, 608, 624,
    571, 616, 624, 276, 280, 659, 659, 659, 507, 936, 676, 651, 727, 719, 598, 587, 743, 740, 264, 543, 652, 562, 889,
    753, 761, 635, 761, 639, 638, 642, 741, 676, 949, 642, 665, 625, 362, 357, 362, 469, 452, 497, 564, 621, 558, 621,
    582, 361, 609, 591, 237, 237, 544, 237, 869, 585, 597, 609, 609, 372, 523, 364, 581, 557, 812, 540, 557, 541, 362,
    327, 362, 659,
];

/// The width of `text` at `size` pixels, close enough to place labels and legends.
pub fn text_width(text: &str, size: f64) -> f64 {
    let thousandths: f64 = text
        .chars()
        .map(|c| match c {
            ' '..='~' => f64::from(WIDTHS[c as usize - 32]),
            '⁰'..='⁻' | '¹' | '²' | '³' => 430.0,
            '·' => 276.0,
            _ => 650.0,
        })
        .sum();
    thousandths * size / 1000.0
}

/// `text` cut with an ellipsis to at most `width` pixels.
pub fn fitted(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.into();
    }
    let mut kept = String::new();
    for c in text.chars() {
        kept.push(c);
        if text_width(&kept, size) + 0.82 * size > width {
            kept.pop();
            break;
        }
    }
    format!("{}…", kept.trim_end())
}

/// A colour ramp from near white through `middle` to a dark shade of it; `t` in `[0, 1]`.
pub fn ramp(middle: (u8, u8, u8), t: f64) -> String {
    let t = t.clamp(0.0, 1.0);
    let light = (247.0, 247.0, 245.0);
    let middle = (f64::from(middle.0), f64::from(middle.1), f64::from(middle.2));
    let dark = (middle.0 * 0.28, middle.1 * 0.28, middle.2 * 0.28);
    let (from, to, s) = if t < 0.6 { (light, middle, t / 0.6) } else { (middle, dark, (t - 0.6) / 0.4) };
    let mix = |a: f64, b: f64| (a + (b - a) * s).round() as u8;
    format!("#{:02x}{:02x}{:02x}", mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_list_of_colours_has_each_once() {
        let known: BTreeSet<&str> = ALL.into_iter().collect();
        assert_eq!(known.len(), ALL.len());
        assert!(COLORS.iter().all(|color| known.contains(color)));
    }
}
