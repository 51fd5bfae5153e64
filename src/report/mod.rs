//! The report: figures (SVG and PNG) and one self-contained HTML page, drawn from the tables of a run alone.
//!
//! Equal tables give equal bytes. Tables that are absent are named in the place where they are missed; nothing
//! else about a run can make the report fail.

pub mod advice;
pub mod certified;
mod compare;
pub mod draw;
mod embed;
pub mod figure;
mod glossary;
mod landscape;
mod page;
#[cfg(test)]
pub(crate) mod sample;
mod sentences;
pub mod study;
mod table;
#[cfg(test)]
mod tests;

use crate::files::write_atomically;
use crate::study::{results::RunTables, tables::TableError};
pub use landscape::render_landscape;

use draw::png::{PngError, Renderer};
use embed::Embedded;
use figure::Figure;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Pixels of a PNG for one pixel of its SVG.
const PNG_SCALE: f64 = 2.0;

/// The files of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportOutput {
    pub html: PathBuf,
    /// Each figure as SVG and as PNG.
    pub figures: Vec<PathBuf>,
}

/// A report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("no run to report on: name at least one run directory")]
    NoRuns,
    #[error(transparent)]
    Table(#[from] TableError),
    #[error("cannot write {path}: {source}; {}", crate::files::remedy(source))]
    Write { path: PathBuf, source: io::Error },
    #[error("figure {id}: {source}")]
    Png { id: &'static str, source: PngError },
    #[error("the page could not be composed: {0}")]
    Page(#[from] askama::Error),
}

/// Reads the runs and writes `out_dir/report.html` and `out_dir/figures/*`.
///
/// One run gives its full report; `out_dir` is then usually the run directory itself. Several runs give a
/// comparison: training curves overlaid, final losses, and the split of the loss of each run.
pub fn render(run_dirs: &[&Path], out_dir: &Path) -> Result<ReportOutput, ReportError> {
    let runs = run_dirs.iter().map(|dir| RunTables::read(dir)).collect::<Result<Vec<_>, _>>()?;
    let (figures, html) = match &runs[..] {
        [] => return Err(ReportError::NoRuns),
        [run] => {
            let links = link_to(&run.dir, out_dir);
            let figures: Vec<Figure> = figure::of_run(run).into_iter().map(|figure| relinked(figure, &links)).collect();
            let html = page::of_run(run, &figures, &Embedded::of(&figures, out_dir))?;
            (figures, html)
        }
        runs => {
            let links: Vec<String> = runs.iter().map(|run| link_to(&run.dir, out_dir)).collect();
            compare::compose(runs, &links, out_dir)?
        }
    };
    write_report(out_dir, &figures, &html)
}

/// Writes the figures and the page.
fn write_report(out_dir: &Path, figures: &[Figure], html: &str) -> Result<ReportOutput, ReportError> {
    let folder = out_dir.join("figures");
    fs::create_dir_all(&folder).map_err(|source| ReportError::Write { path: folder.clone(), source })?;
    let mut written = Vec::new();
    let renderer = Renderer::default();
    for figure in figures {
        written.extend(write_figure(&folder, figure, &renderer)?);
    }
    let page = out_dir.join("report.html");
    write_atomically(&page, html.as_bytes()).map_err(|source| ReportError::Write { path: page.clone(), source })?;
    Ok(ReportOutput { html: page, figures: written })
}

fn unreadable(path: &Path, source: io::Error) -> ReportError {
    TableError::Read { path: path.to_owned(), source: source.into() }.into()
}

/// Writes the figure's SVG and PNG; removes those of an earlier report when there is nothing to draw.
fn write_figure(folder: &Path, figure: &Figure, renderer: &Renderer) -> Result<Vec<PathBuf>, ReportError> {
    let paths = ["svg", "png"].map(|extension| folder.join(format!("{}.{extension}", figure.id)));
    let Ok(svg) = &figure.svg else {
        for path in &paths {
            match fs::remove_file(path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(ReportError::Write { path: path.clone(), source });
                }
                _ => {}
            }
        }
        return Ok(Vec::new());
    };
    let png = renderer.png(svg, PNG_SCALE).map_err(|source| ReportError::Png { id: figure.id, source })?;
    for (path, bytes) in paths.iter().zip([svg.as_bytes(), &png]) {
        write_atomically(path, bytes).map_err(|source| ReportError::Write { path: path.clone(), source })?;
    }
    Ok(paths.to_vec())
}

fn relinked(mut figure: Figure, prefix: &str) -> Figure {
    for source in &mut figure.sources {
        *source = format!("{prefix}{source}");
    }
    figure
}

/// The link from a page in `from` to the folder `to`: empty, or relative with a slash at its end.
///
/// Falls back to the path as given when one of them cannot be resolved.
fn link_to(to: &Path, from: &Path) -> String {
    let with_slash = |path: &Path| format!("{}/", path.to_string_lossy().trim_end_matches('/'));
    let (Ok(target), Ok(base)) = (std::path::absolute(to), std::path::absolute(from)) else { return with_slash(to) };
    let (target, base): (Vec<_>, Vec<_>) = (target.components().collect(), base.components().collect());
    let shared = target.iter().zip(&base).take_while(|(a, b)| a == b).count();
    let mut link = PathBuf::new();
    link.extend(base[shared..].iter().map(|_| ".."));
    link.extend(&target[shared..]);
    if link.as_os_str().is_empty() { String::new() } else { with_slash(&link) }
}
