//! The loss of each optimizer after all rounds, split into certified optimum, uncertified part and regret.

use super::{Context, Figure, Series, lacking, sources};
use crate::{
    report::{
        certified::{self, at_most, in_words, share_in_words},
        draw::{
            letters::{fitted, text_width},
            palette::{FRAME, GRID, INK, MUTED, NEGATIVE, OPTIMUM, REGRET, UNSOLVED},
            prelude::*,
        },
    },
    study::{
        enclosure::Enclosure,
        numbers::{count, number},
        tables::{Comparator, FAR_COMPARATOR, RunStatus, Scale, UnitRow},
    },
};

/// Width of the figure: narrow, so that its letters stay large on a small screen.
const WIDTH: f64 = 460.0;
/// Left of the bars, for the name of the scale.
const LEFT: f64 = 78.0;
/// Right end of the bars.
const RIGHT: f64 = WIDTH - 16.0;
/// A certified error above this share of the loss is said in words.
const SAID: f64 = 0.01;
/// More layers than this are left to the tables.
const MOST_LAYERS: usize = 12;

/// A mean loss split in two, and how much of the optimum is not certified.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    pub loss: f64,
    pub optimum: f64,
    pub gap: f64,
}

impl Part {
    fn of(unit: &UnitRow) -> Option<Part> {
        Part::new(unit.mean_loss, unit.taylor_optimum, unit.gap)
    }

    /// `None` without finite values; an unknown gap is all of the optimum.
    pub fn new(loss: f64, optimum: f64, gap: f64) -> Option<Part> {
        let gap = if gap.is_finite() { gap.max(0.0) } else { optimum };
        (loss.is_finite() && optimum.is_finite()).then_some(Part { loss, optimum, gap })
    }

    /// The least that the optimum can be; losses are not negative.
    pub fn least(&self) -> f64 {
        (self.optimum - self.gap).max(0.0)
    }

    pub fn regret(&self) -> f64 {
        self.loss - self.optimum
    }

    /// The most that the regret can be.
    pub fn most_regret(&self) -> f64 {
        self.loss - self.least()
    }

    /// Whether the uncertified part is large enough to be said.
    pub fn is_open(&self) -> bool {
        self.optimum - self.least() > SAID * self.loss
    }

    /// Whether the certificate says no more than that losses are not negative.
    pub fn nothing_certified(&self) -> bool {
        self.optimum > 0.0 && self.least() <= 1e-9 * self.optimum
    }

    /// `optimum 0.0272 to 0.0497`, rounded outwards as everywhere on the page.
    pub fn optimum_in_words(&self) -> String {
        match self.nothing_certified() {
            true => format!("optimum at most {}", at_most(self.optimum)),
            false => format!("optimum {}", in_words(Enclosure::certified(self.optimum, self.gap))),
        }
    }

    /// `regret 0.0224 to 0.0450 (30% to 63%)`.
    pub fn regret_in_words(&self) -> String {
        let regret = certified::regret(self.loss, self.optimum, self.gap);
        format!("regret {} ({})", in_words(regret), share_in_words(regret, self.loss))
    }

    /// Everything in one line, for the text under the pointer.
    pub fn in_words(&self) -> String {
        format!(
            "loss {}; {} (gap {}); {}",
            number(self.loss),
            self.optimum_in_words(),
            number(self.gap),
            self.regret_in_words()
        )
    }
}

/// The fills of what is not plain.
pub struct Hatches {
    pub negative: String,
    pub open: String,
}

impl Hatches {
    pub fn new(svg: &mut Svg) -> Hatches {
        Hatches { negative: svg.hatch(NEGATIVE), open: svg.hatch(UNSOLVED) }
    }
}

/// What a stretch of a bar stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Certified optimum below the loss.
    Optimum,
    /// Optimum or regret: the certificate does not say.
    Open,
    Regret,
    /// Certified optimum above the loss.
    Negative,
}

/// The stretches of a bar from the left, without empty ones.
fn stretches(part: &Part) -> Vec<(f64, f64, Kind)> {
    let (least, optimum, loss) = (part.least(), part.optimum.max(0.0), part.loss);
    [
        (0.0, least.min(loss), Kind::Optimum),
        (loss, least, Kind::Negative),
        (least, optimum, Kind::Open),
        (optimum, loss, Kind::Regret),
    ]
    .into_iter()
    .filter(|(from, to, _)| to > from)
    .collect()
}

/// Draws one bar; `pixel` is the place of a value.
fn bar(svg: &mut Svg, part: &Part, pixel: &dyn Fn(f64) -> f64, (y, height): (f64, f64), hatches: &Hatches) {
    for (from, to, kind) in stretches(part) {
        let rect = Rect::new(pixel(from), y, pixel(to) - pixel(from), height);
        let fill = match kind {
            Kind::Optimum => OPTIMUM,
            Kind::Open => &hatches.open,
            Kind::Regret => REGRET,
            Kind::Negative => &hatches.negative,
        };
        svg.rect(rect, fill, None);
    }
    let (loss, over) = (pixel(part.loss), (0.12 * height).min(2.0));
    if pixel(0.999 * part.loss) >= RIGHT {
        // The bar goes on beyond the frame.
        let (x, half, tip) = (pixels(RIGHT), pixels(0.5 * height), pixels(0.3 * height));
        svg.area(&format!("M{x} {}l{tip} {half}l-{tip} {half}Z", pixels(y)), INK);
        return;
    }
    svg.line((loss, y - over), (loss, y + height + over), Stroke::solid(INK, if height > 10.0 { 2.2 } else { 1.4 }));
}

/// One optimizer's bars.
struct Row<'a> {
    series: &'a Series<'a>,
    comparator: Comparator,
    /// Scale and split of the main bar.
    main: Option<(Scale, Part)>,
    /// Whether the weights of the main bar are far.
    far: bool,
    /// The other comparator at the same scale.
    second: Option<(Comparator, Part, bool)>,
}

impl<'a> Row<'a> {
    fn of(series: &'a Series<'a>, comparator: Comparator) -> Row<'a> {
        let main = series.tables.split(comparator).and_then(|split| {
            let part = Part::new(split.mean_loss, split.taylor_optimum, split.gap)?;
            Some((split.scale, part))
        });
        let other = match comparator {
            Comparator::Ball => Comparator::Unconstrained,
            Comparator::Unconstrained => Comparator::Ball,
        };
        let far = |scale: Scale, comparator: Comparator| series.tables.units_at(scale, comparator).any(UnitRow::is_far);
        let second = main.and_then(|(scale, _)| {
            let split = series.tables.split(other).filter(|split| split.scale == scale)?;
            Some((other, Part::new(split.mean_loss, split.taylor_optimum, split.gap)?, far(scale, other)))
        });
        Row { series, comparator, main, far: main.is_some_and(|(scale, _)| far(scale, comparator)), second }
    }

    fn parts(&self) -> impl Iterator<Item = Part> {
        self.main.map(|main| main.1).into_iter().chain(self.second.map(|second| second.1))
    }
}

/// `N = 230`, the longest prefix of a scale; empty without a table of prefixes.
fn rounds(series: &Series, scale: Scale, comparator: Comparator) -> String {
    let rows = series.tables.regret.iter().filter(|row| row.scale == scale && row.comparator == comparator);
    rows.map(|row| row.rounds).max().map_or(String::new(), |rounds| format!(", N = {}", count(rounds as u64)))
}

/// A layer's bars, one per optimizer.
struct Layer {
    name: String,
    title: String,
    parts: Vec<Option<Part>>,
}

/// The first figure of a run.
pub fn draw(context: &Context) -> Figure {
    let rows: Vec<Row> = context.series.iter().map(|series| Row::of(series, context.comparator)).collect();
    let at = |series: &Series, layer: usize| {
        let mut units = series.tables.units_at(Scale::Layer, context.comparator);
        units.find(|unit| unit.layer == Some(layer)).and_then(Part::of)
    };
    let mut layers: Vec<Layer> = context
        .layers_at(Scale::Layer)
        .into_iter()
        .map(|layer| Layer {
            name: format!("layer {layer}"),
            title: context.layer_title(layer),
            parts: context.series.iter().map(|series| at(series, layer)).collect(),
        })
        .collect();
    let mut notes: Vec<String> = lacking(&context.series, "units.csv").into_iter().collect();
    if layers.len() > MOST_LAYERS {
        notes.push(format!("The {} layers are in the tables alone.", count(layers.len() as u64)));
        layers.clear();
    }
    let svg = picture("split", &rows, &layers, &mut notes);
    let caption = format!(
        "The mean loss of the analysed rounds in two parts. The Taylor optimum is what the regions that training \
         visited cost at their best fixed weights ({} comparator). The regret is what the optimizer paid on top of \
         that.{} The hatched part is not certified: it may be optimum or regret.",
        context.comparator,
        if layers.is_empty() { "" } else { " Below: the same for each layer alone, in the order of the optimizers." }
    );
    Figure {
        id: "split",
        heading: "Loss = Taylor optimum + regret, after all rounds",
        svg,
        caption,
        notes,
        sources: sources(&context.series, "units.csv"),
    }
}

/// The same bars for the optimizers of several runs; `comparators` are the headlines of their runs.
pub fn compared(series: &[Series], comparators: &[Comparator]) -> Figure {
    let rows: Vec<Row> = series.iter().zip(comparators).map(|(series, c)| Row::of(series, *c)).collect();
    let mut notes: Vec<String> = lacking(series, "units.csv").into_iter().collect();
    let scales: Vec<Scale> = rows.iter().filter_map(|row| row.main).map(|(scale, _)| scale).collect();
    if scales.windows(2).any(|pair| pair[0] != pair[1]) {
        notes.push("Not all bars are of one scale: coarser scales have lower optima.".into());
    }
    if comparators.windows(2).any(|pair| pair[0] != pair[1]) {
        notes.push("The runs have different headline comparators, so their optima differ in meaning.".into());
    }
    let svg = picture("comparison", &rows, &[], &mut notes);
    Figure {
        id: "comparison",
        heading: "Loss = Taylor optimum + regret, per run",
        svg,
        caption: "The mean loss of the analysed rounds, split into Taylor optimum and regret at the coarsest \
                  measured scale: the whole network, else the mean over layers, else over neurons. The hatched part \
                  is not certified: it may be optimum or regret."
            .into(),
        notes,
        sources: sources(series, "units.csv"),
    }
}

fn scale_name(scale: Scale) -> &'static str {
    match scale {
        Scale::Network => "network",
        Scale::Layer => "mean layer",
        Scale::Neuron => "mean neuron",
    }
}

const BAR: f64 = 22.0;
const SECOND: f64 = 7.0;
const THIN: f64 = 7.0;
const LINE: f64 = 16.0;

/// All splits that a picture shows.
fn parts<'a>(rows: &'a [Row], layers: &'a [Layer]) -> impl Iterator<Item = Part> + 'a {
    rows.iter().flat_map(Row::parts).chain(layers.iter().flat_map(|layer| layer.parts.iter().flatten().copied()))
}

/// The axis of the bars, with what lies beyond it in the notes.
fn axis(rows: &[Row], layers: &[Layer], notes: &mut Vec<String>) -> Axis {
    let end = |part: Part| part.loss.max(part.optimum);
    let highest = parts(rows, layers).map(end).fold(0.0, f64::max);
    // A diverged optimizer must not flatten the others.
    let sound = rows.iter().filter(|row| row.series.tables.summary.status != RunStatus::Failed).flat_map(Row::parts);
    let sound = sound.map(end).fold(0.0, f64::max);
    let axis = Axis::from_zero(if sound > 0.0 { sound } else { highest });
    if highest > axis.max {
        notes.push(format!("Bars with an arrow go on beyond the frame, up to {}.", number(highest)));
    }
    axis
}

/// The legend of the fills that are to be seen.
fn legend(rows: &[Row], layers: &[Layer], axis: &Axis, hatches: &Hatches) -> Vec<Entry> {
    // What is thinner than a pixel needs no legend.
    let visible = |kind: Kind| {
        let mut all = parts(rows, layers).flat_map(|part| stretches(&part));
        all.any(|(from, to, of)| of == kind && to.min(axis.max) - from > 0.003 * axis.max)
    };
    let mut entries = vec![Entry::new(Sample::Patch(OPTIMUM.into()), "Taylor optimum")];
    if visible(Kind::Open) {
        entries.push(Entry::new(Sample::Patch(hatches.open.clone()), "not certified: optimum or regret"));
    }
    entries.push(Entry::new(Sample::Patch(REGRET.into()), "regret"));
    if visible(Kind::Negative) {
        entries.push(Entry::new(Sample::Patch(hatches.negative.clone()), "negative regret: loss below the optimum"));
    }
    entries.push(Entry::new(Sample::Line(Stroke::solid(INK, 2.2)), "mean loss"));
    entries
}

/// Where things stand from top to bottom.
struct Places {
    top: f64,
    /// The end of the optimizers' rows.
    main_end: f64,
    bottom: f64,
    /// Heights of the optimizers' rows.
    heights: Vec<f64>,
    /// The stretches that have bars, where grid and frame are drawn: lines through the texts would disturb.
    bars: Vec<(f64, f64)>,
}

impl Places {
    fn new(top: f64, rows: &[Row], layers: &[Layer]) -> Places {
        let heights: Vec<f64> = rows.iter().map(row_height).collect();
        let main_end = top + heights.iter().sum::<f64>();
        let bottom =
            main_end + if layers.is_empty() { 0.0 } else { 4.0 + layers.iter().map(layer_height).sum::<f64>() };
        let mut bars: Vec<(f64, f64)> = Vec::new();
        let mut start = top;
        for (row, height) in rows.iter().zip(&heights) {
            if row.main.is_some() {
                bars.push((start + 18.0, start + 22.0 + BAR));
            }
            if row.second.is_some() {
                let y = start + height - 14.0 - LINE - SECOND;
                bars.push((y - 2.0, y + SECOND + 2.0));
            }
            start += height;
        }
        bars.push((if layers.is_empty() { bottom - 5.0 } else { main_end }, bottom));
        Places { top, main_end, bottom, heights, bars }
    }
}

fn picture(id: &str, rows: &[Row], layers: &[Layer], notes: &mut Vec<String>) -> Result<Drawing, String> {
    if parts(rows, layers).next().is_none() {
        return Err("no optimizer has rows in units.csv".into());
    }
    let mut svg = Svg::new(id, WIDTH, 0.0);
    let hatches = Hatches::new(&mut svg);
    let axis = axis(rows, layers, notes);
    let entries = legend(rows, layers, &axis, &hatches);
    let top = legend::height(&entries, WIDTH - 16.0) + 10.0;
    legend::draw(&mut svg, (8.0, 4.0), WIDTH - 16.0, &entries);
    let pixel = move |value: f64| LEFT + axis.place(value).clamp(0.0, 1.0) * (RIGHT - LEFT);

    // The grid lies below the bars, so their places are needed first.
    let places = Places::new(top, rows, layers);
    draw_grid(&mut svg, &axis, &pixel, &places);
    let mut y = places.top;
    for (row, height) in rows.iter().zip(&places.heights) {
        svg.series(&row.series.name, |svg| draw_row(svg, row, y, &pixel, &hatches));
        y += height;
    }
    if !layers.is_empty() {
        svg.line((LEFT, places.main_end), (RIGHT, places.main_end), Stroke::solid(GRID, 1.0));
        y += 4.0;
    }
    for layer in layers {
        draw_layer(&mut svg, layer, rows, y, &pixel, &hatches);
        y += layer_height(layer);
    }
    for (from, to) in &places.bars {
        svg.line((LEFT, *from), (LEFT, *to), Stroke::solid(FRAME, 1.0));
    }
    let middle = 0.5 * (LEFT + RIGHT);
    svg.text((middle, places.bottom + 33.0), "mean loss per round", Text::new(LABEL, Anchor::Middle));
    if rows.iter().any(|row| row.far || row.second.is_some_and(|second| second.2)) {
        notes.push(format!(
            "Far: the best weights that were found lie more than {FAR_COMPARATOR} times as far from the initial \
             weights as training went. They say little about what training could have reached."
        ));
    }
    svg.resize(places.bottom + 42.0);
    Ok(svg.finish("Mean loss of each optimizer as a bar of certified Taylor optimum, uncertified part and regret"))
}

/// The grid next to the bars, with as many numbers as have room below.
fn draw_grid(svg: &mut Svg, axis: &Axis, pixel: &dyn Fn(f64) -> f64, places: &Places) {
    let ticks = (3..=7)
        .rev()
        .map(|most| axis.ticks(most))
        .find(|ticks| ticks.iter().map(|t| text_width(&t.label, TICK) + 16.0).sum::<f64>() < RIGHT - LEFT)
        .unwrap_or_default();
    for tick in &ticks {
        let x = pixel(tick.value);
        for (from, to) in &places.bars {
            svg.line((x, *from), (x, *to), Stroke::solid(GRID, 1.0));
        }
        svg.text((x, places.bottom + 15.0), &tick.label, Text::new(TICK, Anchor::Middle).colored(MUTED));
    }
}

fn layer_height(layer: &Layer) -> f64 {
    (layer.parts.len() as f64 * (THIN + 2.0)).max(13.0) + 8.0
}

/// The thin bars of a layer.
fn draw_layer(svg: &mut Svg, layer: &Layer, rows: &[Row], y: f64, pixel: &dyn Fn(f64) -> f64, hatches: &Hatches) {
    let style = Text::new(TICK, Anchor::Start).colored(MUTED);
    svg.text((8.0, y + 0.5 * (layer_height(layer) - 8.0) + 5.0), &fitted(&layer.name, TICK, 52.0), style);
    for (i, (part, row)) in layer.parts.iter().zip(rows).enumerate() {
        let Some(part) = part else { continue };
        let y = y + 1.0 + i as f64 * (THIN + 2.0);
        let series = row.series;
        let rounds = rounds(series, Scale::Layer, row.comparator);
        let title = format!("{}, {}, {}{rounds}: {}", series.name, layer.title, row.comparator, part.in_words());
        svg.series(&series.name, |svg| {
            svg.titled(&title, |svg| {
                series.style.mark(svg, (LEFT - 8.0, y + 0.5 * THIN), 2.6, true);
                bar(svg, part, pixel, (y, THIN), hatches);
            });
        });
    }
}

/// The texts below a bar: optimum and regret, on one line where they fit.
fn texts(row: &Row, part: &Part) -> (String, String, bool) {
    let far = if row.far { " (far)" } else { "" };
    let (optimum, regret) = (format!("{}{far}", part.optimum_in_words()), part.regret_in_words());
    let fits = text_width(&optimum, LABEL) + text_width(&regret, LABEL) + 20.0 < WIDTH - 20.0;
    (optimum, regret, fits)
}

fn row_height(row: &Row) -> f64 {
    let below = match &row.main {
        Some((_, part)) if texts(row, part).2 => LINE,
        Some(_) => 2.0 * LINE,
        None => 0.0,
    };
    let second = if row.second.is_some() { SECOND + LINE + 3.0 } else { 0.0 };
    20.0 + BAR + below + second + 14.0
}

fn draw_row(svg: &mut Svg, row: &Row, y: f64, pixel: &dyn Fn(f64) -> f64, hatches: &Hatches) {
    row.series.style.mark(svg, (14.0, y + 9.0), 4.0, true);
    let name = Text::new(LABEL + 1.0, Anchor::Start).bold();
    svg.text((24.0, y + 14.0), &fitted(&row.series.name, LABEL + 1.0, 250.0), name);
    let Some((scale, part)) = row.main else {
        svg.text((LEFT, y + 20.0 + 15.0), "not measured", Text::new(LABEL, Anchor::Start).colored(MUTED));
        return;
    };
    let loss = format!("loss {}", number(part.loss));
    svg.text((RIGHT, y + 14.0), &loss, Text::new(LABEL + 1.0, Anchor::End).bold());
    let mut y = y + 20.0;
    svg.text((8.0, y + 15.0), scale_name(scale), Text::new(TICK, Anchor::Start).colored(MUTED));
    let rounds_of = |comparator: Comparator| rounds(row.series, scale, comparator);
    let what = format!("{}, {}", row.series.name, scale_name(scale));
    let title = format!("{what}, {}{}: {}", row.comparator, rounds_of(row.comparator), part.in_words());
    svg.titled(&title, |svg| bar(svg, &part, pixel, (y, BAR), hatches));
    if part.nothing_certified() {
        svg.label((pixel(0.0) + 8.0, y + 15.5), "nothing certified", Text::new(LABEL, Anchor::Start));
    }
    y += BAR + 1.0;
    let (optimum, regret, one) = texts(row, &part);
    svg.text((RIGHT, y + 12.0 + if one { 0.0 } else { LINE }), &regret, Text::new(LABEL, Anchor::End));
    // Below the bar's start, unless the regret needs the room.
    let fits = LEFT + text_width(&optimum, LABEL) + text_width(&regret, LABEL) + 20.0 < RIGHT;
    let from = if one && !fits { 8.0 } else { LEFT };
    svg.text((from, y + 12.0), &optimum, Text::new(LABEL, Anchor::Start));
    y += if one { LINE } else { 2.0 * LINE };
    if let Some((comparator, part, far)) = &row.second {
        y += 2.0;
        let far = if *far { ", far" } else { "" };
        let regret = format!("regret {}", in_words(certified::regret(part.loss, part.optimum, part.gap)));
        let words = format!("{comparator}{far}: {}; {regret}", part.optimum_in_words());
        let title = format!("{what}, {comparator}{far}{}: {}", rounds_of(*comparator), part.in_words());
        svg.titled(&title, |svg| bar(svg, part, pixel, (y, SECOND), hatches));
        let style = Text::new(TICK, Anchor::End).colored(MUTED);
        svg.text((RIGHT, y + SECOND + 12.0), &fitted(&words, TICK, WIDTH - 20.0), style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(loss: f64, optimum: f64, gap: f64) -> Vec<(f64, f64, Kind)> {
        stretches(&Part::new(loss, optimum, gap).unwrap())
    }

    #[test]
    fn an_optimum_of_which_nothing_is_certified_is_hatched_entirely() {
        let part = Part::new(0.08, 0.06, 0.06).unwrap();
        assert!(part.nothing_certified());
        assert_eq!(stretches(&part), [(0.0, 0.06, Kind::Open), (0.06, 0.08, Kind::Regret)]);
        assert_eq!(part.optimum_in_words(), "optimum at most 0.0600");
        assert_eq!(part.regret_in_words(), "regret 0.0200 to 0.0800 (25% to 100%)");
        let unknown = Part::new(0.08, 0.06, f64::NAN).unwrap();
        assert!(unknown.nothing_certified(), "a gap of NaN certifies nothing");
    }

    #[test]
    fn only_the_certified_part_is_solid() {
        let expected = [(0.0, 0.5, Kind::Optimum), (0.5, 0.75, Kind::Open), (0.75, 1.0, Kind::Regret)];
        assert_eq!(kinds(1.0, 0.75, 0.25), expected);
        assert_eq!(kinds(1.0, 0.75, 0.0), [(0.0, 0.75, Kind::Optimum), (0.75, 1.0, Kind::Regret)]);
    }

    #[test]
    fn negative_regret_is_drawn_where_it_is_certain() {
        assert_eq!(kinds(1.0, 1.5, 0.0), [(0.0, 1.0, Kind::Optimum), (1.0, 1.5, Kind::Negative)]);
        let partly = [(0.0, 1.0, Kind::Optimum), (1.0, 1.25, Kind::Negative), (1.25, 1.5, Kind::Open)];
        assert_eq!(kinds(1.0, 1.5, 0.25), partly);
        assert_eq!(kinds(1.0, 1.5, 0.75), [(0.0, 0.75, Kind::Optimum), (0.75, 1.5, Kind::Open)]);
    }
}
