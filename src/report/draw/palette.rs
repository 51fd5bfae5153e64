//! The colours of the figures and their font.

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
/// Behind strips next to a panel.
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
pub const COLORS: [&str; 7] = [BLUE, VERMILION, GREEN, NEGATIVE, REGRET, "#56b4e9", DEAD];
/// Colours of functions and of their approximations.
pub const BLUE: &str = "#0072b2";
pub const VERMILION: &str = "#d55e00";
pub const GREEN: &str = "#009e73";

/// Every colour of the figures but the steps of ramps, once each: what a page in other colours must map.
pub const ALL: [&str; 16] = [
    INK, MUTED, GRID, FRAME, PAPER, STRIP, BAND, DEAD, OPTIMUM, REGRET, NEGATIVE, UNSOLVED, BLUE, VERMILION, GREEN,
    "#56b4e9",
];

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
