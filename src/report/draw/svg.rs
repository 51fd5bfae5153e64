//! SVG primitives written to a string, with coordinates rounded to a hundredth of a pixel, and recorded as shapes for
//! pictures of pixels.

use super::{
    mark::{self, Contour, Form, Join, Line, Mark, Paint, Point, hex},
    palette::{FONT, INK, PAPER},
};
use std::{
    fmt::{self, Write},
    ops::Deref,
};

pub use super::geometry::{Anchor, Rect};

/// How a line is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Stroke<'a> {
    pub color: &'a str,
    pub width: f64,
    /// SVG dash pattern; empty for a solid line.
    pub dash: &'a str,
    pub opacity: f64,
}

impl<'a> Stroke<'a> {
    pub fn solid(color: &'a str, width: f64) -> Stroke<'a> {
        Stroke { color, width, dash: "", opacity: 1.0 }
    }

    pub fn dashed(self, dash: &'a str) -> Stroke<'a> {
        Stroke { dash, ..self }
    }

    pub fn faded(self, opacity: f64) -> Stroke<'a> {
        Stroke { opacity, ..self }
    }

    fn attributes(&self) -> String {
        let mut text = format!(r#" stroke="{}" stroke-width="{}""#, self.color, pixels(self.width));
        if !self.dash.is_empty() {
            let _ = write!(text, r#" stroke-dasharray="{}""#, self.dash);
        }
        if self.opacity < 1.0 {
            let _ = write!(text, r#" stroke-opacity="{}""#, pixels(self.opacity));
        }
        text
    }

    fn line(&self, join: Join) -> Option<Line> {
        let dash = self.dash.split_whitespace().filter_map(|length| length.parse().ok()).collect();
        Some(Line { color: hex(self.color)?, opacity: self.opacity, width: self.width, dash, join })
    }
}

/// How a text is set.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    pub size: f64,
    pub anchor: Anchor,
    pub bold: bool,
    pub color: &'a str,
    /// Degrees, around the anchor point.
    pub rotate: f64,
}

impl Text<'static> {
    pub fn new(size: f64, anchor: Anchor) -> Text<'static> {
        Text { size, anchor, bold: false, color: INK, rotate: 0.0 }
    }
}

impl<'a> Text<'a> {
    pub fn bold(self) -> Text<'a> {
        Text { bold: true, ..self }
    }

    pub fn colored<'b>(self, color: &'b str) -> Text<'b> {
        Text { color, size: self.size, anchor: self.anchor, bold: self.bold, rotate: self.rotate }
    }

    pub fn rotated(self, degrees: f64) -> Text<'a> {
        Text { rotate: degrees, ..self }
    }
}

/// A finished figure: reads as its SVG document.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    pub width: f64,
    pub height: f64,
    svg: String,
    /// The same as shapes, from back to front.
    pub marks: Vec<Mark>,
}

impl Deref for Drawing {
    type Target = str;

    fn deref(&self) -> &str {
        &self.svg
    }
}

impl fmt::Display for Drawing {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self)
    }
}

/// How thick the halo of a label is, on both sides of its lines together.
const HALO: f64 = 4.0;

/// An SVG document in the making.
pub struct Svg {
    /// Prefix of every id in the document, so that many of them can stand in one page.
    id: String,
    width: f64,
    height: f64,
    definitions: String,
    body: String,
    ids: usize,
    marks: Vec<Mark>,
    /// Patterns and gradients by their ids.
    paints: Vec<(String, Paint)>,
    clip: Option<Rect>,
    /// The fill of shapes that name none; `None` where they are not seen.
    inherited: Option<Paint>,
}

impl Svg {
    pub fn new(id: &str, width: f64, height: f64) -> Svg {
        Svg {
            id: id.into(),
            width,
            height,
            definitions: String::new(),
            body: String::new(),
            ids: 0,
            marks: Vec::new(),
            paints: Vec::new(),
            clip: None,
            inherited: None,
        }
    }

    /// Sets the height, where it is known only at the end.
    pub fn resize(&mut self, height: f64) {
        self.height = height;
    }

    /// The finished document; `title` is what a screen reader says.
    pub fn finish(self, title: &str) -> Drawing {
        let svg = self.document(title);
        Drawing { width: self.width, height: self.height, svg, marks: self.marks }
    }

    fn document(&self, title: &str) -> String {
        let Svg { id, definitions, body, .. } = self;
        let (width, height) = (pixels(self.width), pixels(self.height));
        let definitions =
            if definitions.is_empty() { String::new() } else { format!("<defs>\n{definitions}</defs>\n") };
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"
 role="img" aria-labelledby="{id}-title" font-family="{FONT}">
<title id="{id}-title">{}</title>
{definitions}<rect width="{width}" height="{height}" fill="{PAPER}"/>
{body}</svg>
"##,
            escape(title)
        )
    }

    fn record(&mut self, form: Form) {
        self.marks.push(Mark { form, clip: self.clip });
    }

    fn record_area(&mut self, contours: Vec<Contour>, fill: Option<Paint>, line: Option<Line>) {
        if fill.is_some() || line.is_some() {
            self.record(Form::Area { contours, fill, line });
        }
    }

    /// What `fill` refers to: a colour, or what [`Svg::hatch`] and [`Svg::gradient`] return.
    fn paint(&self, fill: &str, opacity: f64) -> Option<Paint> {
        let defined = || {
            let id = fill.strip_prefix("url(#")?.strip_suffix(')')?;
            Some(self.paints.iter().find(|(known, _)| known == id)?.1.clone())
        };
        hex(fill).map(|color| Paint::Solid(color, opacity)).or_else(defined)
    }

    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: Stroke) {
        self.record_area(vec![contour(&[from, to], false)], None, stroke.line(Join::Miter));
        let _ = writeln!(
            self.body,
            r#"<line x1="{}" y1="{}" x2="{}" y2="{}"{}/>"#,
            pixels(from.0),
            pixels(from.1),
            pixels(to.0),
            pixels(to.1),
            stroke.attributes()
        );
    }

    /// A line through the points; nothing with fewer than two.
    pub fn polyline(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        if points.len() < 2 {
            return;
        }
        self.record_area(vec![contour(points, false)], None, stroke.line(Join::Round));
        let _ = writeln!(
            self.body,
            r#"<path d="{}" fill="none" stroke-linejoin="round"{}/>"#,
            outline(points),
            stroke.attributes()
        );
    }

    pub fn polygon(&mut self, points: &[(f64, f64)], fill: &str, opacity: f64) {
        if points.len() < 3 {
            return;
        }
        self.record_area(vec![contour(points, true)], self.paint(fill, opacity), None);
        let _ =
            writeln!(self.body, r#"<path d="{}Z" fill="{fill}" fill-opacity="{}"/>"#, outline(points), pixels(opacity));
    }

    /// A path of raw SVG commands, filled.
    pub fn area(&mut self, commands: &str, fill: &str) {
        self.record_area(mark::contours(commands), self.paint(fill, 1.0), None);
        let _ = writeln!(self.body, r#"<path d="{commands}" fill="{fill}"/>"#);
    }

    /// A path of raw SVG commands, stroked and filled.
    pub fn shape(&mut self, commands: &str, fill: &str, stroke: Stroke) {
        self.record_area(mark::contours(commands), self.paint(fill, 1.0), stroke.line(Join::Miter));
        let _ = writeln!(self.body, r#"<path d="{commands}" fill="{fill}"{}/>"#, stroke.attributes());
    }

    pub fn rect(&mut self, rect: Rect, fill: &str, stroke: Option<Stroke>) {
        let line = stroke.and_then(|stroke| stroke.line(Join::Miter));
        self.record_area(vec![contour(&Contour::rect(rect).points, true)], self.paint(fill, 1.0), line);
        let _ = writeln!(
            self.body,
            r#"<rect x="{}" y="{}" width="{}" height="{}" fill="{fill}"{}/>"#,
            pixels(rect.x),
            pixels(rect.y),
            pixels(rect.width),
            pixels(rect.height),
            stroke.map(|stroke| stroke.attributes()).unwrap_or_default()
        );
    }

    pub fn text(&mut self, at: (f64, f64), text: &str, style: Text) {
        self.record_text(at, text, style, None);
        self.write_text(at, text, style);
    }

    fn record_text(&mut self, at: (f64, f64), text: &str, style: Text, halo: Option<f64>) {
        if let Some(color) = hex(style.color) {
            let Text { size, anchor, bold, rotate, .. } = style;
            let (at, text) = (finite(at), text.to_owned());
            self.record(Form::Text { at, text, size, anchor, bold, color, rotate, halo });
        }
    }

    fn write_text(&mut self, at: (f64, f64), text: &str, style: Text) {
        let (x, y) = (pixels(at.0), pixels(at.1));
        let anchor = match style.anchor {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        };
        let weight = if style.bold { r#" font-weight="600""# } else { "" };
        let turn = if style.rotate == 0.0 {
            String::new()
        } else {
            format!(r#" transform="rotate({} {x} {y})""#, pixels(style.rotate))
        };
        let _ = writeln!(
            self.body,
            r#"<text x="{x}" y="{y}" font-size="{}" fill="{}"{anchor}{weight}{turn}>{}</text>"#,
            pixels(style.size),
            style.color,
            escape(text)
        );
    }

    /// A text on a white halo, for labels that lie on lines.
    pub fn label(&mut self, at: (f64, f64), text: &str, style: Text) {
        let (x, y) = (pixels(at.0), pixels(at.1));
        let size = pixels(style.size);
        let anchor = match style.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = writeln!(
            self.body,
            r##"<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}"
 fill="{PAPER}" stroke="{PAPER}" stroke-width="{HALO}" stroke-linejoin="round">{}</text>"##,
            escape(text)
        );
        self.record_text(at, text, style, Some(HALO));
        self.write_text(at, text, style);
    }

    /// Draws `content` clipped to `rect`, which lies in the clip around it if there is one.
    pub fn clipped(&mut self, rect: Rect, content: impl FnOnce(&mut Svg)) {
        let around = self.clip.replace(rect);
        let id = self.fresh_id();
        let _ = writeln!(
            self.definitions,
            r#"<clipPath id="{id}"><rect x="{}" y="{}" width="{}" height="{}"/></clipPath>"#,
            pixels(rect.x),
            pixels(rect.y),
            pixels(rect.width),
            pixels(rect.height)
        );
        let _ = writeln!(self.body, r#"<g clip-path="url(#{id})">"#);
        content(self);
        self.body.push_str("</g>\n");
        self.clip = around;
    }

    /// Draws `content` with a text that appears under the pointer.
    pub fn titled(&mut self, title: &str, content: impl FnOnce(&mut Svg)) {
        let _ = write!(self.body, "<g><title>{}</title>", escape(title));
        content(self);
        self.body.push_str("</g>\n");
    }

    /// Draws `content` as the series `label`, which a page can switch off.
    pub fn series(&mut self, label: &str, content: impl FnOnce(&mut Svg)) {
        self.marked("series", label, content);
    }

    /// Draws `content` as the legend entry of the series `label`.
    pub fn legend_entry(&mut self, label: &str, content: impl FnOnce(&mut Svg)) {
        self.marked("legend-entry", label, content);
    }

    fn marked(&mut self, class: &str, label: &str, content: impl FnOnce(&mut Svg)) {
        let _ = writeln!(self.body, r#"<g class="{class}" data-series="{}">"#, escape(label));
        content(self);
        self.body.push_str("</g>\n");
    }

    /// Draws `content` unseen: areas that only answer to the pointer.
    pub fn unseen(&mut self, content: impl FnOnce(&mut Svg)) {
        let around = self.inherited.take();
        self.body.push_str("<g class=\"hits\" fill=\"none\" pointer-events=\"all\">\n");
        content(self);
        self.body.push_str("</g>\n");
        self.inherited = around;
    }

    /// Draws `content` so that the pointer looks through it.
    pub fn untouchable(&mut self, content: impl FnOnce(&mut Svg)) {
        self.body.push_str("<g pointer-events=\"none\">\n");
        content(self);
        self.body.push_str("</g>\n");
    }

    /// A circle within [`Svg::unseen`] with its text.
    pub fn hit(&mut self, (x, y): (f64, f64), title: &str) {
        let (x, y) = (pixels(x), pixels(y));
        let _ = writeln!(self.body, r#"<circle cx="{x}" cy="{y}" r="6"><title>{}</title></circle>"#, escape(title));
    }

    /// A rectangle within [`Svg::unseen`] with its text.
    pub fn hit_rect(&mut self, rect: Rect, title: &str) {
        let _ = writeln!(
            self.body,
            r#"<rect x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>"#,
            pixels(rect.x),
            pixels(rect.y),
            pixels(rect.width),
            pixels(rect.height),
            escape(title)
        );
    }

    /// A path of raw SVG commands with its text, filled like the group around it.
    pub fn cell(&mut self, commands: &str, title: &str) {
        if let Some(fill) = self.inherited.clone() {
            self.record_area(mark::contours(commands), Some(fill), None);
        }
        let _ = writeln!(self.body, r#"<path d="{commands}"><title>{}</title></path>"#, escape(title));
    }

    /// Draws `content` with `fill` wherever it names none.
    pub fn filled(&mut self, fill: &str, content: impl FnOnce(&mut Svg)) {
        let fill_within = self.paint(fill, 1.0);
        let around = std::mem::replace(&mut self.inherited, fill_within);
        let _ = writeln!(self.body, r#"<g fill="{fill}">"#);
        content(self);
        self.body.push_str("</g>\n");
        self.inherited = around;
    }

    /// A diagonal hatch in `color`; returns the fill that refers to it.
    pub fn hatch(&mut self, color: &str) -> String {
        let id = self.fresh_id();
        let _ = writeln!(
            self.definitions,
            r#"<pattern id="{id}" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect width="5" height="5" fill="{color}" fill-opacity="0.25"/>
<line x1="0" y1="0" x2="0" y2="5" stroke="{color}" stroke-width="2.4"/>
</pattern>"#
        );
        self.define(id, hex(color).map(Paint::Hatch))
    }

    /// A vertical gradient through `colors`, bottom to top; returns the fill that refers to it.
    pub fn gradient(&mut self, colors: &[String]) -> String {
        let id = self.fresh_id();
        let _ = write!(self.definitions, r#"<linearGradient id="{id}" x1="0" y1="1" x2="0" y2="0">"#);
        for (i, color) in colors.iter().enumerate() {
            let offset = pixels(i as f64 / (colors.len() - 1).max(1) as f64);
            let _ = write!(self.definitions, r#"<stop offset="{offset}" stop-color="{color}"/>"#);
        }
        self.definitions.push_str("</linearGradient>\n");
        let colors: Vec<_> = colors.iter().filter_map(|color| hex(color)).collect();
        self.define(id, (!colors.is_empty()).then_some(Paint::Gradient(colors)))
    }

    /// Remembers a paint; returns the fill that refers to it.
    fn define(&mut self, id: String, paint: Option<Paint>) -> String {
        let fill = format!("url(#{id})");
        self.paints.extend(paint.map(|paint| (id, paint)));
        fill
    }

    fn fresh_id(&mut self) -> String {
        self.ids += 1;
        format!("{}-{}", self.id, self.ids)
    }
}

/// The point, with 0 for what is not finite, as [`pixels`] writes it.
fn finite((x, y): Point) -> Point {
    let finite = |value: f64| if value.is_finite() { value } else { 0.0 };
    (finite(x), finite(y))
}

fn contour(points: &[Point], closed: bool) -> Contour {
    Contour { points: points.iter().map(|point| finite(*point)).collect(), closed }
}

/// `M x y L x y ...` through the points.
fn outline(points: &[(f64, f64)]) -> String {
    let mut text = String::with_capacity(12 * points.len());
    for (i, (x, y)) in points.iter().enumerate() {
        text.push(if i == 0 { 'M' } else { 'L' });
        let _ = write!(text, "{} {}", pixels(*x), pixels(*y));
    }
    text
}

/// A coordinate with at most two decimals. NaN would break the document: it becomes 0.
pub fn pixels(value: f64) -> String {
    if !value.is_finite() {
        return "0".into();
    }
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

/// Text made safe for XML, characters that XML does not allow dropped.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() && !matches!(c, '\n' | '\t') => {}
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_short() {
        assert_eq!(pixels(1.0), "1");
        assert_eq!(pixels(1.239), "1.24");
        assert_eq!(pixels(-0.001), "0");
        assert_eq!(pixels(f64::NAN), "0");
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("a<b & \"c\"\u{7}"), "a&lt;b &amp; &quot;c&quot;");
    }
}
