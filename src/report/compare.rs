//! The comparison of several runs on one page.

use super::{
    embed::Embedded,
    figure::{Figure, Series, comparison, training},
    page::{Fact, FigureView, Head, about, analysed, facts, tidy},
    table::{self, Table},
};
use crate::report::draw::style::SeriesStyle;
use crate::study::{numbers::display_name, results::RunTables, tables::Comparator};
use askama::Template;
use std::{collections::BTreeSet, path::Path};

/// One run in the head of the page.
struct RunView {
    name: String,
    /// Link to the run's own report.
    link: String,
    facts: Vec<Fact>,
}

#[derive(Template)]
#[template(path = "compare.html")]
struct ComparePage<'a> {
    head: Head,
    runs: Vec<RunView>,
    figures: Vec<FigureView<'a>>,
    finals: Table,
    splits: Table,
    warning: String,
    /// What casts doubt on traces.
    doubts: Vec<Fact>,
}

/// The figures and the page in `folder` that compare `runs`; `links` leads to their folders.
pub fn compose(runs: &[RunTables], links: &[String], folder: &Path) -> Result<(Vec<Figure>, String), askama::Error> {
    let names = names(runs);
    let series = series(runs, &names, links);
    let comparators: Vec<Comparator> =
        runs.iter().flat_map(|run| run.optimizers.iter().map(|_| run.headline())).collect();
    let figures = vec![training::draw(&series), comparison::draw(&series, &comparators)];
    let embedded = Embedded::of(&figures, folder);
    let named: Vec<_> = series.iter().map(|s| (s.name.clone(), s.tables)).collect();
    let split: Vec<_> = series.iter().zip(&comparators).map(|(s, c)| (s.name.clone(), s.tables, *c)).collect();
    let views = runs
        .iter()
        .zip(&names)
        .zip(links)
        .map(|((run, name), link)| RunView {
            name: name.clone(),
            link: format!("{link}report.html"),
            facts: std::iter::once(("experiment".to_string(), run.summary.name.clone()))
                .chain(facts(run))
                .chain([("analysed rounds".to_owned(), analysed(run).0)])
                .collect(),
        })
        .collect();
    let measures: BTreeSet<(&str, &str)> =
        runs.iter().map(|run| (run.summary.loss.name(), &run.summary.dataset[..])).collect();
    let warning = match measures.len() {
        0 | 1 => String::new(),
        _ => "These runs differ in loss or dataset, so their losses, optima and regrets are not comparable.".to_owned(),
    };
    let page = ComparePage {
        warning,
        doubts: about(&named, |of| &of.warnings),
        head: Head::new(format!("Comparison of {} runs", runs.len()), &embedded),
        runs: views,
        figures: FigureView::all(&figures, &embedded),
        finals: table::finals(&named),
        splits: table::splits(&split),
    };
    let html = tidy(page.render()?)?;
    Ok((figures, html))
}

/// A unique and short name per run: the experiment's, else the seed, else the folder, else a number.
fn names(runs: &[RunTables]) -> Vec<String> {
    let experiment = |run: &RunTables| run.summary.name.clone();
    let seed = |run: &RunTables| {
        format!(
            "{}, seed {}",
            run.summary.name,
            run.summary.seed.map_or_else(|| "–".to_owned(), |seed| seed.to_string())
        )
    };
    let folder = |run: &RunTables| run.dir.file_name().map_or(String::new(), |name| name.to_string_lossy().into());
    let forms: [&dyn Fn(&RunTables) -> String; 3] = [&experiment, &seed, &folder];
    for form in forms {
        let names: Vec<String> = runs.iter().map(form).collect();
        if names.iter().collect::<BTreeSet<_>>().len() == names.len() {
            return names;
        }
    }
    (1..=runs.len()).map(|i| format!("run {i}")).collect()
}

/// One line per run and optimizer: the colour says which optimizer, dash and marker which run.
fn series<'a>(runs: &'a [RunTables], names: &[String], links: &[String]) -> Vec<Series<'a>> {
    let mut labels: Vec<&str> = Vec::new();
    let mut series = Vec::new();
    for (i, run) in runs.iter().enumerate() {
        for tables in &run.optimizers {
            let label = tables.summary.label.as_str();
            let color = labels.iter().position(|known| *known == label).unwrap_or(labels.len());
            if color == labels.len() {
                labels.push(label);
            }
            series.push(Series {
                tables,
                name: format!("{}: {}", names[i], display_name(label)),
                style: SeriesStyle::mixed(color, i),
                folder: format!("{}{label}/", links[i]),
            });
        }
    }
    series
}
