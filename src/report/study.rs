//! The page of a study of many runs: its claims, figures and tables.

use super::{
    ReportError, ReportOutput,
    figure::{Figure, tuning},
    page::{ClaimView, Fact, FigureView, Head, flatten, tidy, view},
    table::Table,
    unreadable, write_report,
};
use crate::study::{
    claims::Claim,
    numbers::{count, display_name, number, setting},
    tune::Search,
};
use askama::Template;
use std::{fs, path::Path};

/// What a page is made of.
pub struct Content {
    pub title: String,
    /// One sentence that says what the study is.
    pub lead: String,
    pub facts: Vec<Fact>,
    pub claims: Vec<Claim>,
    pub figures: Vec<Figure>,
    pub tables: Vec<Table>,
}

#[derive(Template)]
#[template(path = "study.html")]
struct Page<'a> {
    head: Head,
    lead: String,
    facts: Vec<Fact>,
    claims: Vec<ClaimView>,
    figures: Vec<FigureView<'a>>,
    tables: Vec<Table>,
    experiment: String,
    environment: Vec<Fact>,
}

/// Writes `out/report.html` and `out/figures/*`; experiment and environment are read from `out`.
pub fn render(content: Content, out: &Path) -> Result<ReportOutput, ReportError> {
    let read = |name: &str| {
        let path = out.join(name);
        fs::read_to_string(&path).map_err(|error| unreadable(&path, error))
    };
    let environment = serde_json::from_str(&read("environment.json")?).unwrap_or_default();
    let page = Page {
        head: Head::new(content.title),
        lead: content.lead,
        facts: content.facts,
        claims: content.claims.into_iter().map(view).collect(),
        figures: FigureView::all(&content.figures),
        tables: content.tables,
        experiment: read("experiment.toml")?,
        environment: flatten(&environment),
    };
    let html = tidy(page.render()?)?;
    write_report(out, &content.figures, &html)
}

/// The page of a learning-rate search in `out`.
pub fn tuning(name: &str, search: &Search, out: &Path) -> Result<ReportOutput, ReportError> {
    let seeds = search.points.iter().map(|row| row.seed).collect::<std::collections::BTreeSet<_>>().len();
    let rows = search
        .tuned
        .iter()
        .map(|tuned| {
            let maybe = |value: Option<f64>, text: fn(f64) -> String| value.map_or("–".to_owned(), text);
            vec![
                display_name(&tuned.optimizer),
                maybe(tuned.learning_rate, setting),
                maybe(tuned.train_loss, number),
                count(tuned.rates as u64),
                if tuned.at_end { "yes" } else { "no" }.to_owned(),
            ]
        })
        .collect();
    let table = Table {
        title: "Best rates".into(),
        columns: vec!["optimizer", "learning rate", "final training loss", "rates tried", "at an end of the range"],
        text_columns: 1,
        rows,
        note:
            "Losses are means over seeds, of the whole training set after the last round. tuned.toml is the experiment \
               with these rates."
                .into(),
    };
    let content = Content {
        title: format!("{name}: learning-rate search"),
        lead: "Every optimizer at many learning rates; the best has the least final training loss.".into(),
        facts: vec![
            ("points".into(), count(search.points.len() as u64)),
            ("seeds per rate".into(), count(seeds as u64)),
        ],
        claims: Vec::new(),
        figures: vec![tuning::draw(search)],
        tables: vec![table],
    };
    render(content, out)
}
