//! The HTML page: views for the templates, and the page of one run.

use super::{
    advice,
    draw::font::{REGULAR, SEMIBOLD},
    embed::{EXCERPT, Embedded},
    figure::{Context, Figure},
    glossary::{TERMS, Term, linked},
    sentences,
    table::{self, Table},
};
use crate::{
    loss::{Loss, LossName},
    study::{
        claims::{self, Claim, Tally, Verdict},
        lock::Lock,
        numbers::{count, display_name, number, significant},
        results::{OptimizerTables, RunTables},
        tables::{OptimizerSummary, RunStatus, Scale},
    },
    trace::TargetKind,
};
use askama::Template;
use serde_json::Value;

/// Neurons of each optimizer in the table of the largest regrets.
const WORST: usize = 10;
/// The figure of the first screen.
const FIRST: &str = "split";

/// What all pages share: title, embedded fonts and tables.
pub struct Head {
    pub title: String,
    pub regular: String,
    pub semibold: String,
    /// The embedded tables, as JSON.
    pub tables: String,
    /// The meanings of the words that the page links to.
    pub terms: &'static [Term],
}

impl Head {
    pub fn new(title: String, embedded: &Embedded) -> Head {
        Head { title, regular: base64(REGULAR), semibold: base64(SEMIBOLD), tables: embedded.json(), terms: &TERMS }
    }
}

/// The link from a figure to a table behind it.
pub struct Source<'a> {
    pub link: &'a str,
    pub text: &'a str,
    /// The size of a table that is not in the page; otherwise empty.
    pub size: String,
    /// Link and name of its rows that are in the page, if only some are.
    pub excerpt: Option<String>,
}

/// A figure as the templates show it.
pub struct FigureView<'a> {
    pub number: usize,
    pub id: &'static str,
    pub heading: &'static str,
    /// Empty when the figure could not be drawn.
    pub svg: &'a str,
    /// Why it could not be drawn.
    pub reason: &'a str,
    /// As it was written,
    pub plain: &'a str,
    /// and as HTML with links to the glossary.
    pub caption: String,
    pub notes: &'a [String],
    pub sources: Vec<Source<'a>>,
    /// Anchor and name of the table with its numbers, on the same page.
    pub table: Option<(&'static str, String)>,
}

impl<'a> FigureView<'a> {
    /// The views of the figures, numbered from 1.
    pub fn all(figures: &'a [Figure], embedded: &Embedded) -> Vec<FigureView<'a>> {
        let source = |link: &'a String| Source {
            link,
            text: link.trim_start_matches("../"),
            size: embedded.size_beside(link),
            excerpt: embedded.has_excerpt(link).then(|| format!("{link}{EXCERPT}")),
        };
        figures
            .iter()
            .enumerate()
            .map(|(i, figure)| FigureView {
                number: i + 1,
                id: figure.id,
                heading: figure.heading,
                svg: figure.svg.as_deref().unwrap_or_default(),
                reason: figure.svg.as_ref().err().map_or("", String::as_str),
                plain: &figure.caption,
                caption: linked(&figure.caption),
                notes: &figure.notes,
                sources: figure.sources.iter().map(source).collect(),
                table: None,
            })
            .collect()
    }
}

/// A numbered table with its anchor and the figures that show the same.
pub struct TableView {
    pub number: usize,
    pub id: &'static str,
    pub table: Table,
    /// Anchors and names.
    pub figures: Vec<(&'static str, String)>,
}

/// The tables of a run's page, each with its anchor and the figures that are drawn from the same numbers.
const TABLES: [(&str, &[&str]); 6] = [
    ("table-optimizers", &["split", "decomposition"]),
    ("table-losses", &["training"]),
    ("table-layers", &["regret-layers"]),
    ("table-neurons", &["regret-neurons", "neurons"]),
    ("table-exploration", &["exploration"]),
    ("table-time", &[]),
];

/// Numbers the tables, and links figures and tables to each other.
fn connected(tables: [Table; 6], figures: &mut [FigureView]) -> [TableView; 6] {
    let mut place = 0;
    tables.map(|table| {
        let ((id, ids), number) = (TABLES[place], place + 1);
        place += 1;
        let mut shown = Vec::new();
        for figure in figures.iter_mut().filter(|figure| ids.contains(&figure.id)) {
            figure.table = Some((id, format!("Table {number}")));
            shown.push((figure.id, format!("Figure {}", figure.number)));
        }
        TableView { number, id, table, figures: shown }
    })
}

/// A fact about a run: a name and its value.
pub type Fact = (String, String);

/// A claim with the class of its verdict.
pub struct ClaimView {
    pub claim: Claim,
    pub class: &'static str,
}

#[derive(Template)]
#[template(path = "report.html")]
struct RunPage<'a> {
    head: Head,
    facts: Vec<Fact>,
    /// The analysed rounds, and whether they are not all.
    analysed: (String, bool),
    layers: &'a [String],
    /// Said at the top when the run is not complete.
    warning: String,
    /// What casts doubt on the traces, and what else was found out about them: optimizer and sentence.
    doubts: Vec<Fact>,
    checks: Vec<Fact>,
    summary: Vec<String>,
    /// The figure of the first screen.
    first: Option<FigureView<'a>>,
    tally: String,
    figures: Vec<FigureView<'a>>,
    optimizers: TableView,
    advice: Vec<(String, String)>,
    /// Losses, layers, neurons and exploration.
    tables: Vec<TableView>,
    claims: Vec<ClaimView>,
    experiment: Option<&'a str>,
    environment: Vec<Fact>,
    times: TableView,
}

/// The page of one run.
pub fn of_run(run: &RunTables, figures: &[Figure], embedded: &Embedded) -> Result<String, askama::Error> {
    let context = Context::of(run);
    let summary = &run.summary;
    let named: Vec<_> = context.series.iter().map(|s| (s.name.clone(), s.tables)).collect();
    let warning = match summary.status {
        RunStatus::Complete => String::new(),
        RunStatus::Running if Lock::is_taken(&run.dir) => {
            "This run is not finished yet. The page covers the optimizers that are complete.".to_owned()
        }
        RunStatus::Running => {
            "This run ended early. The page covers the optimizers that are complete; run --resume continues the others."
                .to_owned()
        }
        RunStatus::Failed => "An optimizer of this run failed. The page covers the rounds before that.".to_owned(),
        RunStatus::Interrupted => "This run is interrupted. The page covers only the rounds that were done.".to_owned(),
    };
    let mut views = FigureView::all(figures, embedded);
    let [optimizers, losses, layers, neurons, exploration, times] = connected(
        [
            table::optimizers(&context),
            table::finals(&named),
            table::layers(&context),
            table::worst(&context, WORST),
            table::exploration(&context),
            times(run),
        ],
        &mut views,
    );
    let first = views.iter().position(|figure| figure.id == FIRST && !figure.svg.is_empty());
    let first = first.map(|place| views.remove(place));
    let claims: Vec<Claim> = claims::evaluate(run);
    let page = RunPage {
        head: Head::new(summary.name.clone(), embedded),
        facts: facts(run),
        analysed: analysed(run),
        layers: &summary.layers,
        warning,
        doubts: about(&named, |of| &of.warnings),
        checks: about(&named, |of| &of.checks),
        summary: sentences::summary(&context),
        first,
        tally: Tally::of(&claims).to_string(),
        figures: views,
        optimizers,
        advice: advice::sentences(&context),
        tables: vec![losses, layers, neurons, exploration],
        claims: claims.into_iter().map(view).collect(),
        experiment: run.experiment.as_deref(),
        environment: flatten(&run.environment),
        times,
    };
    tidy(page.render()?)
}

/// Sentences about the traces, each with its optimizer.
pub fn about(named: &[(String, &OptimizerTables)], sentences: fn(&OptimizerSummary) -> &[String]) -> Vec<Fact> {
    let of = |(name, tables): &(String, &OptimizerTables)| {
        sentences(&tables.summary).iter().map(|text| (name.clone(), capitalized(text))).collect::<Vec<_>>()
    };
    named.iter().flat_map(of).collect()
}

/// A sentence from one that stands behind a colon.
fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

/// The rounds whose optima were solved, in words, and whether some are left out.
pub fn analysed(run: &RunTables) -> (String, bool) {
    let of = |tables: &OptimizerTables| {
        let (window, all) = (tables.summary.window_rounds, tables.summary.rounds);
        let longest = |neuron: bool| {
            let rows = tables.regret.iter().filter(|row| (row.scale == Scale::Neuron) == neuron);
            rows.map(|row| row.rounds).max()
        };
        if tables.regret.is_empty() && tables.units.is_empty() {
            return ("none".to_owned(), true);
        }
        let coarse = longest(false).is_some() || longest(true).is_none();
        let (numbers, neurons) = ([window, all].map(|n| count(n as u64)), longest(true).unwrap_or(0) > window);
        let (text, partial) = match tables.summary.sampled_rounds {
            Some(sampled) if tables.summary.kept_rounds.is_some() => (
                format!("{} of 1–{} of {}, of those that the trace has", count(sampled as u64), numbers[0], numbers[1]),
                true,
            ),
            _ if !coarse && neurons => (format!("1–{} of {}", numbers[1], numbers[1]), false),
            Some(sampled) if sampled < window => (
                format!(
                    "{} of 1–{} of {}, evenly spaced (regret.rounds)",
                    count(sampled as u64),
                    numbers[0],
                    numbers[1]
                ),
                true,
            ),
            _ if window < all => (format!("1–{} of {} (regret.window)", numbers[0], numbers[1]), true),
            _ => (format!("1–{} of {}", numbers[0], numbers[1]), false),
        };
        let neurons = partial && coarse && neurons && tables.summary.sampled_rounds.is_none();
        (if neurons { format!("{text}, of neurons all") } else { text }, partial)
    };
    let parts: Vec<(String, bool)> = run.optimizers.iter().map(of).collect();
    let partial = parts.iter().any(|(_, partial)| *partial);
    if parts.windows(2).all(|pair| pair[0] == pair[1]) {
        return (parts.into_iter().next().map_or("none".to_owned(), |(text, _)| text), partial);
    }
    let named = run.optimizers.iter().zip(&parts);
    let text = named.map(|(tables, (text, _))| format!("{} {text}", display_name(&tables.summary.label)));
    (text.collect::<Vec<_>>().join("; "), partial)
}

/// The page without the blank lines that template tags leave behind.
pub fn tidy(html: String) -> Result<String, askama::Error> {
    let mut page = String::with_capacity(html.len());
    let mut verbatim = false;
    for line in html.lines() {
        verbatim |= line.contains("<pre>");
        let line = if verbatim { line } else { line.trim_end() };
        if verbatim || !line.is_empty() {
            page += line;
            page.push('\n');
        }
        verbatim &= !line.contains("</pre>");
    }
    page.shrink_to_fit();
    Ok(page)
}

pub fn view(claim: Claim) -> ClaimView {
    let class = match claim.verdict {
        Verdict::Supported => "yes",
        Verdict::Seen => "seen",
        Verdict::NotSeen => "unseen",
        Verdict::NotSupported => "no",
        Verdict::Undecided => "open",
    };
    ClaimView { claim, class }
}

/// The facts in the head of the page.
pub fn facts(run: &RunTables) -> Vec<Fact> {
    let summary = &run.summary;
    let loss = match &summary.loss {
        LossName::Known(Loss::Mse) => "mean squared error",
        LossName::Known(Loss::CrossEntropy) => "softmax cross-entropy",
        LossName::Other(name) => name,
    };
    let target = match summary.target {
        TargetKind::Input => "its own input (autoencoder)",
        TargetKind::Label => "the label",
        TargetKind::Values => "given values",
    };
    [
        ("data", summary.dataset.as_str()),
        ("loss", loss),
        ("target", target),
        ("seed", &summary.seed.map_or_else(|| "–".to_owned(), |seed| seed.to_string())),
        ("comparator", &summary.headline.to_string()),
        ("status", summary.status.name()),
    ]
    .into_iter()
    // What goes without saying is left out.
    .filter(|(name, value)| *name != "status" || *value != RunStatus::Complete.name())
    .map(|(name, value)| (name.to_string(), value.to_string()))
    .chain(run.optimizers.iter().map(|tables| (display_name(&tables.summary.label), table::settings(&tables.summary))))
    .collect()
}

/// JSON of any shape as name and value, nested names joined by dots.
pub fn flatten(value: &Value) -> Vec<Fact> {
    let mut facts = Vec::new();
    descend("", value, &mut facts);
    facts
}

/// `timing.json` of each optimizer: its phases, the longest first.
fn times(run: &RunTables) -> Table {
    let mut rows = Vec::new();
    let mut memory = Vec::new();
    for tables in &run.optimizers {
        let name = display_name(&tables.summary.label);
        let seconds = |value: &Value| value.as_f64().filter(|seconds| seconds.is_finite());
        let mut phases: Vec<(String, f64)> = tables.timing["phases"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(phase, value)| Some((phase.replace('_', " "), seconds(value)?)))
            .collect();
        phases.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        rows.extend(phases.into_iter().map(|(phase, seconds)| vec![name.clone(), phase, number(seconds)]));
        if let Some(bytes) = tables.timing["peak_memory_bytes"].as_f64() {
            memory.push(format!("{name} {:.0} MiB", bytes / 1048576.0));
        }
    }
    let note = match (rows.is_empty(), memory.is_empty()) {
        (true, true) => "No optimizer has a timing.json.".to_owned(),
        (_, true) => String::new(),
        _ => format!("Peak memory of the process so far: {}.", memory.join(", ")),
    };
    Table {
        title: "Time and memory".into(),
        columns: vec!["optimizer", "phase", "seconds"],
        text_columns: 2,
        rows,
        note,
    }
}

fn descend(name: &str, value: &Value, facts: &mut Vec<Fact>) {
    match value {
        Value::Null => {}
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.replace('_', " ");
                let name = if name.is_empty() { key } else { format!("{name}, {key}") };
                descend(&name, value, facts);
            }
        }
        Value::Array(values) if values.iter().any(|value| value.is_object() || value.is_array()) => {
            for (i, value) in values.iter().enumerate() {
                descend(&format!("{name} {}", i + 1), value, facts);
            }
        }
        Value::Array(values) if values.is_empty() => {}
        Value::Array(values) => {
            const SHOWN: usize = 12;
            let mut texts: Vec<String> = values.iter().take(SHOWN).map(scalar).collect();
            if values.len() > SHOWN {
                texts.push(format!("… ({} values)", values.len()));
            }
            facts.push((name.into(), texts.join(", ")));
        }
        value => match (name.strip_suffix(" bytes"), value.as_f64()) {
            (Some(name), Some(bytes)) => facts.push((name.into(), format!("{:.0} MiB", bytes / 1048576.0))),
            _ => facts.push((name.into(), scalar(value))),
        },
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (None, Some(float)) => significant(float, 4),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// Standard base64 with padding, for the fonts in the page.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn base64_of_the_usual_examples() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn blank_lines_stay_in_what_is_shown_verbatim() {
        let html = "<p>a  \n\n\nb</p>\n<pre>x\n\ny </pre>\n\n<p></p>";
        assert_eq!(tidy(html.to_owned()).unwrap(), "<p>a\nb</p>\n<pre>x\n\ny </pre>\n<p></p>\n");
    }

    #[test]
    fn json_of_any_shape_becomes_facts() {
        let facts = flatten(&json!({"a_b": {"c": 1, "d": [0.5, 2.0]}, "e": null, "f": [{"g": true}]}));
        let text: Vec<String> = facts.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(text, ["a b, c=1", "a b, d=0.5000, 2.000", "f 1, g=true"]);
    }
}
