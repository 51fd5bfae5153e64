//! The figures, one a file: each a function from tables to an SVG with its caption.
//!
//! To add one: write `figure/NAME.rs` with `pub fn draw(...) -> Figure`, and list it in [`of_run`].

pub mod comparison;
pub mod decomposition;
pub mod exploration;
pub mod landscape;
pub mod neuron_map;
pub mod neuron_regret;
pub mod regret;
pub mod signs;
pub mod split;
pub mod study;
pub mod training;
pub mod tuning;

use super::draw::{legend::Entry, style::SeriesStyle, svg::Drawing};
use crate::study::{
    numbers::display_name,
    results::{OptimizerTables, RunTables},
    tables::{Comparator, RegretRow, Scale},
};
use std::collections::BTreeSet;

/// Width of a figure in pixels; about a text column of the page.
pub const WIDTH: f64 = 740.0;

/// A figure, or the reason why there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// File stem and HTML id, e.g. `regret-layers`.
    pub id: &'static str,
    pub heading: &'static str,
    /// `Err` says why the figure could not be drawn.
    pub svg: Result<Drawing, String>,
    pub caption: String,
    /// What a reader must know to not be misled: values outside the frame, missing tables.
    pub notes: Vec<String>,
    /// The tables behind it, as links.
    pub sources: Vec<String>,
}

/// One optimizer's line in the figures.
#[derive(Clone, Debug)]
pub struct Series<'a> {
    pub tables: &'a OptimizerTables,
    pub name: String,
    pub style: SeriesStyle,
    /// Link to the optimizer's folder, with a slash at its end.
    pub folder: String,
}

/// What every figure of one run is drawn from.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    pub series: Vec<Series<'a>>,
    /// Readable text of each layer, index = layer index.
    pub layers: &'a [String],
    pub comparator: Comparator,
}

impl<'a> Context<'a> {
    /// The context of one run whose report lies in the run directory.
    pub fn of(run: &'a RunTables) -> Context<'a> {
        let series = run
            .optimizers
            .iter()
            .enumerate()
            .map(|(i, tables)| Series {
                tables,
                name: display_name(&tables.summary.label),
                style: SeriesStyle::of(i),
                folder: format!("{}/", tables.summary.label),
            })
            .collect();
        Context { series, layers: &run.summary.layers, comparator: run.headline() }
    }

    /// `layer 2: dense 50 → 30`.
    pub fn layer_name(&self, layer: usize) -> String {
        match self.layers.get(layer) {
            Some(text) => format!("layer {layer}: {}", text.replace("->", "→")),
            None => format!("layer {layer}"),
        }
    }

    /// The layer in few words, for the title of a panel: without padding, what is said of biases, and the shapes of images.
    pub fn layer_title(&self, layer: usize) -> String {
        let name = self.layer_name(layer);
        let words = name.match_indices(": ").nth(1).map_or(&name[..], |(end, _)| &name[..end]);
        let words = words.split(", padding").next().unwrap_or(words);
        words.split(", no bias").next().unwrap_or(words).to_owned()
    }

    /// The layers that have regret rows at `scale` for any optimizer.
    pub fn layers_at(&self, scale: Scale) -> Vec<usize> {
        let rows = self.series.iter().flat_map(|series| self.rows(series, scale));
        rows.filter_map(|row| row.layer).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The regret rows of one optimizer at `scale`, for the comparator of the figures.
    pub fn rows<'b>(&self, series: &'b Series<'_>, scale: Scale) -> impl Iterator<Item = &'b RegretRow> + use<'b> {
        let comparator = self.comparator;
        series.tables.regret.iter().filter(move |row| row.scale == scale && row.comparator == comparator)
    }

    /// Links to `file` of each optimizer that has rows in it.
    pub fn sources(&self, file: &'static str) -> Vec<String> {
        sources(&self.series, file)
    }

    /// A note that names the optimizers without `file`.
    pub fn lacking(&self, file: &'static str) -> Option<String> {
        lacking(&self.series, file)
    }
}

/// Links to `file` of each series that has rows in it.
pub fn sources(series: &[Series], file: &'static str) -> Vec<String> {
    let with = series.iter().filter(|series| !series.tables.missing.contains(&file));
    with.map(|series| format!("{}{file}", series.folder)).collect()
}

/// A note that names the series without `file`.
pub fn lacking(series: &[Series], file: &'static str) -> Option<String> {
    let names: Vec<&str> = series
        .iter()
        .filter(|series| series.tables.missing.contains(&file))
        .map(|series| series.name.as_str())
        .collect();
    (!names.is_empty()).then(|| format!("No rows in {file} for {}.", names.join(", ")))
}

/// One legend entry per series.
pub fn series_entries(series: &[Series]) -> Vec<Entry> {
    series.iter().map(|series| Entry::series(series.style, series.name.clone())).collect()
}

/// All figures of one run, in the order of the page.
pub fn of_run(run: &RunTables) -> Vec<Figure> {
    let context = Context::of(run);
    vec![
        split::draw(&context),
        training::draw(&context.series),
        decomposition::draw(&context),
        regret::layers(&context),
        neuron_regret::draw(&context),
        neuron_map::draw(&context),
        exploration::draw(&context),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{
        draw::palette::ALL,
        sample::{self, Kind},
    };

    fn figures(kind: Kind) -> Vec<Figure> {
        let dir = tempfile::tempdir().unwrap();
        sample::write(dir.path(), kind);
        of_run(&RunTables::read(dir.path()).unwrap())
    }

    /// The values of all attributes that are colours, but for the steps of ramps.
    fn colors(svg: &str) -> Vec<&str> {
        let plain = svg.lines().filter(|line| !line.starts_with("<g fill=") && !line.starts_with("<linearGradient"));
        plain.flat_map(|line| line.match_indices("=\"#").map(move |(at, _)| &line[at + 2..at + 9])).collect()
    }

    #[test]
    fn every_colour_is_in_the_list_that_a_page_maps() {
        for kind in [Kind::Autoencoder, Kind::Uncertified, Kind::NegativeRegret, Kind::Dead, Kind::Classifier] {
            for figure in figures(kind) {
                let svg = figure.svg.unwrap();
                assert!(colors(&svg).len() > 10);
                for color in colors(&svg) {
                    assert!(ALL.contains(&color), "{}: {color}", figure.id);
                }
            }
        }
    }

    #[test]
    fn every_series_can_be_switched_off_and_answers_to_the_pointer() {
        for kind in [Kind::Autoencoder, Kind::Uncertified, Kind::OneRound] {
            for figure in figures(kind) {
                let Ok(svg) = figure.svg else { continue };
                for name in ["SGD", "RMSProp", "Adam"] {
                    let group = format!("<g class=\"series\" data-series=\"{name}\">");
                    assert!(svg.contains(&group), "{}: {name}", figure.id);
                    assert!(svg.contains(&format!("{name}, ")) || svg.contains(&format!("{name} ")), "{}", figure.id);
                }
                let titles = svg.matches("<title>").count();
                assert!(titles > 3 && titles < 4000, "{}: {titles} titles", figure.id);
                assert!(svg.len() < 700_000, "{}: {} bytes", figure.id, svg.len());
            }
        }
    }

    #[test]
    fn legends_switch_the_series_that_they_name() {
        for figure in figures(Kind::Autoencoder) {
            let svg = figure.svg.unwrap();
            let named = svg.matches("<g class=\"legend-entry\" data-series=\"RMSProp\">").count();
            // Figures whose columns or bars carry the names need no entry.
            let expected = !matches!(figure.id, "split" | "decomposition" | "neurons");
            assert_eq!(named, usize::from(expected), "{}", figure.id);
        }
    }

    #[test]
    fn what_nothing_certifies_is_said_and_hatched() {
        let all = figures(Kind::Uncertified);
        let split = all.iter().find(|figure| figure.id == "split").unwrap();
        let svg = split.svg.as_ref().unwrap();
        // Once as the halo and once as the text, for each optimizer.
        assert_eq!(svg.matches(">nothing certified<").count(), 6);
        let hatch = svg.split("not certified: optimum or regret").next().unwrap().rsplit("fill=\"url(").next().unwrap();
        let hatch = hatch.split(')').next().unwrap();
        assert!(svg.matches(&format!("fill=\"url({hatch})\"")).count() > 6 * 3, "every layer's bar is hatched");
        let curves = all.iter().find(|figure| figure.id == "decomposition").unwrap();
        assert!(curves.notes.iter().any(|note| note.contains("nothing is certified")), "{:?}", curves.notes);
    }
}
