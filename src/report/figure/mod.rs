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

use super::draw::{legend::Entry, style::SeriesStyle};
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
    pub svg: Result<String, String>,
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

    /// The layer in few words, for the title of a panel: without padding and the shapes of images.
    pub fn layer_title(&self, layer: usize) -> String {
        let name = self.layer_name(layer);
        let words = name.match_indices(": ").nth(1).map_or(&name[..], |(end, _)| &name[..end]);
        words.split(", padding").next().unwrap_or(words).to_owned()
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
