//! The page of a study of many runs: its claims, figures and tables.

use super::{
    ReportError, ReportOutput,
    embed::Embedded,
    figure::{self, Figure, tuning},
    page::{Fact, FigureView, Head, flatten, tidy, view},
    table::Table,
    unreadable, write_report,
};
use crate::study::{
    claims::{Claim, Tally},
    enclosure::Holds,
    explore::{
        Exploration, ExploreRow, Group,
        claims::{self, Column, Finding, Findings},
    },
    numbers::{count, display_name, number, setting, significant},
    statistics::Interval,
    tables::TrialStatus,
    tune::Search,
};
use askama::Template;
use std::{collections::BTreeSet, fs, path::Path};

/// What a page is made of.
pub struct Content {
    pub title: String,
    /// One sentence that says what the study is.
    pub lead: String,
    pub facts: Vec<Fact>,
    pub claims: Vec<Findings>,
    /// How the claims are judged.
    pub rule: &'static str,
    pub figures: Vec<Figure>,
    pub tables: Vec<Table>,
}

#[derive(Template)]
#[template(path = "study.html")]
struct Page<'a> {
    head: Head,
    lead: String,
    facts: Vec<Fact>,
    /// How many claims have each verdict.
    tally: String,
    groups: Vec<GroupView>,
    rule: &'static str,
    figures: Vec<FigureView<'a>>,
    tables: Vec<Table>,
    experiment: String,
    environment: Vec<Fact>,
}

/// A table of claims, a row each.
struct GroupView {
    title: &'static str,
    note: String,
    /// The time scales over the columns, with the number of columns of each; empty without scales.
    scales: Vec<(&'static str, usize)>,
    /// Name and unit.
    columns: Vec<(String, &'static str)>,
    rows: Vec<RowView>,
}

struct RowView {
    id: String,
    verdict: String,
    /// The class of the verdict.
    class: &'static str,
    subject: String,
    claimed: &'static str,
    text: String,
    lead: String,
    /// Why it is undecided, or empty.
    reason: String,
    cells: Vec<CellView>,
}

struct CellView {
    class: &'static str,
    mean: String,
    interval: String,
}

impl GroupView {
    fn of(group: Findings) -> GroupView {
        let scales = group.columns.chunk_by(|a, b| a.scale == b.scale).map(|chunk| (chunk[0].scale, chunk.len()));
        let scales = scales.filter(|(scale, _)| !scale.is_empty()).collect();
        let rows = group.findings.into_iter().map(|finding| RowView::of(finding, &group.columns)).collect();
        let columns = group.columns.into_iter().map(|column| (column.name, column.unit)).collect();
        GroupView { title: group.title, note: group.note, scales, columns, rows }
    }
}

impl RowView {
    fn of(finding: Finding, columns: &[Column]) -> RowView {
        let cells =
            finding.cells.iter().zip(columns).map(|(cell, column)| CellView::of(cell, column, &finding)).collect();
        let Finding { claim, subject, lead, reason, claimed, .. } = finding;
        let view = view(claim);
        let Claim { id, text, verdict, .. } = view.claim;
        RowView {
            id,
            verdict: verdict.to_string(),
            class: view.class,
            subject,
            claimed: claimed.words(),
            text,
            lead,
            reason: reason.unwrap_or_default(),
            cells,
        }
    }
}

impl CellView {
    fn of(cell: &Option<Interval>, column: &Column, finding: &Finding) -> CellView {
        let Some(interval) = cell else {
            return CellView { class: "", mean: "–".into(), interval: String::new() };
        };
        let text = |x: f64| significant(x / column.factor, 2);
        let plus = if interval.mean > 0.0 { "+" } else { "" };
        let mean = format!("{plus}{}", text(interval.mean));
        if interval.count < claims::LEAST_SEEDS {
            return CellView { class: "", mean, interval: String::new() };
        }
        let class = if finding.claimed.has(interval) == Holds::Always {
            "toward"
        } else if finding.claimed.opposite().has(interval) == Holds::Always {
            "against"
        } else {
            ""
        };
        CellView { class, mean, interval: format!("[{}, {}]", text(interval.low), text(interval.high)) }
    }
}

/// Writes `out/report.html` and `out/figures/*`; experiment and environment are read from `out`.
pub fn render(content: Content, out: &Path) -> Result<ReportOutput, ReportError> {
    let read = |name: &str| {
        let path = out.join(name);
        fs::read_to_string(&path).map_err(|error| unreadable(&path, error))
    };
    let environment = serde_json::from_str(&read("environment.json")?).unwrap_or_default();
    let embedded = Embedded::of(&content.figures, out);
    let findings = content.claims.iter().flat_map(|group| &group.findings);
    let claims: Vec<Claim> = findings.map(|finding| finding.claim.clone()).collect();
    let page = Page {
        head: Head::new(content.title, &embedded),
        lead: content.lead,
        facts: content.facts,
        tally: Tally::of(&claims).to_string(),
        groups: content.claims.into_iter().map(GroupView::of).collect(),
        rule: content.rule,
        figures: FigureView::all(&content.figures, &embedded),
        tables: content.tables,
        experiment: read("experiment.toml")?,
        environment: flatten(&environment),
    };
    let html = tidy(page.render()?)?;
    write_report(out, &content.figures, &html)
}

/// The page of a learning-rate search in `out`.
pub fn tuning(name: &str, search: &Search, out: &Path) -> Result<ReportOutput, ReportError> {
    let seeds = search.points.iter().map(|row| row.seed).collect::<BTreeSet<_>>().len();
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
        note: "Losses are means over seeds, of the whole training set after the last round. Rates above the lowest \
             that diverged from any seed, and the last one below it, are not recommended. tuned.toml is the \
             experiment with these rates."
            .into(),
    };
    let content = Content {
        title: format!("{name}: learning-rate search"),
        lead: "Every optimizer at many learning rates; the best has the least final training loss among those with a \
               margin to divergence."
            .into(),
        facts: vec![
            ("points".into(), count(search.points.len() as u64)),
            ("seeds per rate".into(), count(seeds as u64)),
        ],
        claims: Vec::new(),
        rule: "",
        figures: vec![tuning::draw(search)],
        tables: vec![table],
    };
    render(content, out)
}

/// The page of an exploration study in `out`.
pub fn exploration(name: &str, study: &Exploration, out: &Path) -> Result<ReportOutput, ReportError> {
    let seeds: BTreeSet<u64> = study.rows.iter().map(|row| row.seed).collect();
    let diverged = study.rows.iter().filter(|row| row.status != TrialStatus::Complete).count();
    let mut figures = figure::study::figures(study);
    figures.push(figure::signs::draw(study));
    let content = Content {
        title: format!("{name}: does RMS normalization explore?"),
        lead: "Optimizers at tuned learning rates and around them, from the same seeds: how widely they explore \
               activation configurations, and whether that goes with better losses."
            .into(),
        facts: vec![
            ("runs".into(), count(study.rows.len() as u64)),
            ("seeds".into(), count(seeds.len() as u64)),
            ("diverged".into(), count(diverged as u64)),
        ],
        claims: claims::findings(study),
        rule: claims::RULE,
        figures,
        tables: vec![at_tuned_rates(study)],
    };
    render(content, out)
}

/// Losses, distance, Taylor optimum and regret at tuned rates, with intervals over seeds.
fn at_tuned_rates(study: &Exploration) -> Table {
    let interval = |label: &str, of: fn(&ExploreRow) -> Option<f64>| {
        let mine = study.rows.iter().filter(|row| row.group == Group::Rate && row.factor == Some(1.0));
        let values: Option<Vec<f64>> = mine.filter(|row| row.optimizer == label).map(of).collect();
        values.and_then(|values| Interval::of(&values)).map_or("–".to_owned(), |interval| interval.plus_minus())
    };
    let rate = |label: &str| {
        let tuned = study.rows.iter().find(|row| row.optimizer == label && row.factor == Some(1.0));
        tuned.map_or("–".to_owned(), |row| setting(row.learning_rate))
    };
    let largest_gap = |label: &str| {
        let mine = study.rows.iter().filter(|row| row.optimizer == label && row.factor == Some(1.0));
        let gaps = mine.filter(|row| row.taylor_optimum.is_some()).map(|row| row.taylor_gap);
        let largest = gaps.collect::<Option<Vec<f64>>>().and_then(|gaps| gaps.into_iter().reduce(f64::max));
        largest.map_or("–".to_owned(), |gap| significant(gap, 2))
    };
    let rows = claims::labels(study)
        .iter()
        .map(|label| {
            vec![
                display_name(label),
                rate(label),
                interval(label, |row| row.train_loss),
                interval(label, |row| row.test_loss),
                interval(label, |row| row.distance),
                interval(label, |row| row.taylor_optimum),
                largest_gap(label),
                interval(label, |row| Some(100.0 * row.mean_regret? / row.mean_loss?)),
            ]
        })
        .collect();
    Table {
        title: "At tuned rates".into(),
        columns: vec![
            "optimizer",
            "learning rate",
            "final train loss",
            "final test loss",
            "distance",
            "Taylor optimum, neurons",
            "largest gap",
            "regret, neurons (% of loss)",
        ],
        text_columns: 1,
        rows,
        note: "Means ± half of the 95% interval over seeds; – where a run diverged or the value was not measured. \
               Taylor optimum and regret are means over neurons for the whole run, against the best weights \
               of the neuron's ball. The true optimum of each run is at most the gap lower, and its regret as much higher."
            .into(),
    }
}
