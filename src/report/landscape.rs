//! The page of a landscape: its figures and what they are of.

use super::{
    ReportError, ReportOutput,
    draw::{png::Renderer, svg::escape},
    embed::Embedded,
    figure::{Figure, landscape::of_landscape},
    page::{ClaimView, Fact, FigureView, Head, tidy, view},
    write_figure,
};
use crate::{
    files::write_atomically,
    study::{
        landscape::{LandscapeTables, claims, rows::Kind},
        numbers::{count, number},
    },
};
use askama::Template;
use std::{fs, path::Path};

#[derive(Template)]
#[template(path = "landscape.html")]
struct LandscapePage<'a> {
    head: Head,
    facts: Vec<Fact>,
    layers: &'a [String],
    claims: Vec<ClaimView>,
    /// How the claims are judged.
    rule: &'static str,
    figures: Vec<FigureView<'a>>,
}

/// Reads a landscape folder and writes its `report.html` and `figures/*`.
///
/// # Errors
/// If a table is broken or a file cannot be written.
pub fn render_landscape(dir: &Path) -> Result<ReportOutput, ReportError> {
    let tables = LandscapeTables::read(dir)?;
    let figures = of_landscape(&tables);
    let folder = dir.join("figures");
    fs::create_dir_all(&folder).map_err(|source| ReportError::Write { path: folder.clone(), source })?;
    let renderer = Renderer::default();
    let mut written = Vec::new();
    for figure in &figures {
        written.extend(write_figure(&folder, figure, &renderer)?);
    }
    let html = compose(&tables, &figures, &Embedded::of(&figures, dir))?;
    let page = dir.join("report.html");
    write_atomically(&page, html.as_bytes()).map_err(|source| ReportError::Write { path: page.clone(), source })?;
    Ok(ReportOutput { html: page, figures: written })
}

fn compose(tables: &LandscapeTables, figures: &[Figure], embedded: &Embedded) -> Result<String, askama::Error> {
    let summary = &tables.summary;
    let facts = [
        ("weights of", summary.subject.clone()),
        ("along", summary.along.to_string()),
        ("range", format!("{} to {}", number(summary.from), number(summary.to))),
        match &summary.kind {
            Kind::Plane { .. } => ("regions", count(summary.pieces as u64)),
            Kind::Segment(segment) => ("kinks", count(segment.kinks as u64)),
        },
        ("data", summary.dataset.clone()),
        ("loss", summary.loss.clone()),
        ("method", summary.method.clone()),
        ("taylorscope", summary.version.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    let title = match tables.growth.is_empty() {
        true => format!("Landscape along {}", summary.along),
        false => "Shattered landscapes".to_owned(),
    };
    let head = Head { terms: &[], ..Head::new(title, embedded) };
    let mut figures = FigureView::all(figures, embedded);
    // The words of the glossary are those of regret, which is not measured here.
    for figure in &mut figures {
        figure.caption = escape(figure.plain);
    }
    let judged = claims::evaluate(tables).into_iter().map(view).collect();
    let page = LandscapePage { head, facts, layers: &summary.layers, claims: judged, rule: claims::RULE, figures };
    tidy(page.render()?)
}
