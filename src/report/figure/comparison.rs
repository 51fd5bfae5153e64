//! Several runs: each optimizer's mean loss as a bar of Taylor optimum and regret.

use super::{Figure, Series, WIDTH, lacking, sources};
use crate::{
    report::draw::{
        axis::Axis,
        legend::{self, Entry, Sample},
        panel::{LABEL, TICK},
        style::{FRAME, GRID, INK, MUTED, NEGATIVE, OPTIMUM, REGRET, fitted},
        svg::{Anchor, Rect, Stroke, Svg, Text},
    },
    study::{
        numbers::number,
        results::Split,
        tables::{Comparator, Scale},
    },
};

/// Draws one bar per series; `comparators` are the headline comparators of their runs, in the same order.
pub fn draw(series: &[Series], comparators: &[Comparator]) -> Figure {
    let splits: Vec<Option<Split>> =
        series.iter().zip(comparators).map(|(s, comparator)| s.tables.split(*comparator)).collect();
    let mut notes: Vec<String> = lacking(series, "units.csv").into_iter().collect();
    let scales: Vec<Scale> = splits.iter().flatten().map(|split| split.scale).collect();
    if scales.windows(2).any(|pair| pair[0] != pair[1]) {
        notes.push("Not all bars are of one scale (see the table): coarser scales have lower optima.".into());
    }
    if comparators.windows(2).any(|pair| pair[0] != pair[1]) {
        notes.push("The runs have different headline comparators, so their optima differ in meaning.".into());
    }
    let svg = if scales.is_empty() {
        Err("no optimizer has rows in units.csv".to_string())
    } else {
        Ok(picture(series, &splits))
    };
    Figure {
        id: "comparison",
        heading: "Loss = Taylor optimum + regret, per run",
        svg,
        caption:
            "Mean loss over the analysed rounds, split into Taylor optimum and regret at the coarsest measured scale \
                  (whole network, else the mean over layers, else over neurons)."
                .into(),
        notes,
        sources: sources(series, "units.csv"),
    }
}

fn picture(series: &[Series], splits: &[Option<Split>]) -> String {
    let entries = [
        Entry::new(Sample::Patch(OPTIMUM.into()), "Taylor optimum"),
        Entry::new(Sample::Patch(REGRET.into()), "regret"),
        Entry::new(Sample::Patch(NEGATIVE.into()), "negative regret"),
        Entry::new(Sample::Line(Stroke::solid(INK, 2.4)), "mean loss"),
    ];
    let negative = splits.iter().flatten().any(|split| split.regret < 0.0);
    let entries: Vec<Entry> =
        entries.into_iter().enumerate().filter(|(i, _)| negative || *i != 2).map(|(_, e)| e).collect();
    let top = legend::height(&entries, WIDTH - 20.0) + 18.0;
    let row = 27.0;
    let label = 190.0;
    let frame = Rect::new(label, top, WIDTH - label - 76.0, row * series.len() as f64);
    let mut svg = Svg::new("comparison", WIDTH, frame.bottom() + 44.0);
    legend::draw(&mut svg, (10.0, 4.0), WIDTH - 20.0, &entries);
    let hatch = svg.hatch(NEGATIVE);
    let largest = splits.iter().flatten().map(|s| s.mean_loss.max(s.taylor_optimum)).fold(0.0, f64::max);
    let axis = Axis::from_zero(largest);
    let pixel = |value: f64| frame.x + axis.place(value).clamp(0.0, 1.0) * frame.width;
    for tick in axis.ticks(6) {
        let x = pixel(tick.value);
        svg.line((x, frame.y), (x, frame.bottom()), Stroke::solid(GRID, 1.0));
        svg.text((x, frame.bottom() + 15.0), &tick.label, Text::new(TICK, Anchor::Middle).colored(MUTED));
    }
    for (i, (s, split)) in series.iter().zip(splits).enumerate() {
        let y = frame.y + row * i as f64 + 5.0;
        let name = fitted(&s.name, LABEL, label - 16.0);
        svg.text((label - 8.0, y + 13.0), &name, Text::new(LABEL, Anchor::End));
        let Some(split) = split else {
            svg.text((frame.x + 6.0, y + 13.0), "not measured", Text::new(LABEL, Anchor::Start).colored(MUTED));
            continue;
        };
        let (zero, optimum, loss) = (pixel(0.0), pixel(split.taylor_optimum), pixel(split.mean_loss));
        svg.rect(Rect::new(zero, y, optimum - zero, row - 10.0), OPTIMUM, None);
        let fill = if split.regret >= 0.0 { REGRET } else { &hatch };
        svg.rect(Rect::new(optimum.min(loss), y, (loss - optimum).abs(), row - 10.0), fill, None);
        svg.line((loss, y - 2.0), (loss, y + row - 8.0), Stroke::solid(INK, 2.4));
        let end = optimum.max(loss) + 6.0;
        svg.text((end, y + 13.0), &number(split.mean_loss), Text::new(TICK, Anchor::Start));
    }
    svg.line((frame.x, frame.y), (frame.x, frame.bottom()), Stroke::solid(FRAME, 1.0));
    let middle = frame.x + frame.width / 2.0;
    svg.text((middle, frame.bottom() + 34.0), "mean loss per round", Text::new(LABEL, Anchor::Middle));
    svg.finish("Mean loss of each run and optimizer as a bar of Taylor optimum and regret")
}
