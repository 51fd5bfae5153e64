//! The HTML page: views for the templates, and the page of one run.

use super::{
    advice,
    draw::png::{REGULAR, SEMIBOLD},
    figure::{Context, Figure},
    sentences,
    table::{self, Table},
};
use crate::study::{
    claims::{self, Claim, Verdict},
    lock::Lock,
    numbers::{display_name, known, significant},
    results::RunTables,
};
use askama::Template;
use serde_json::Value;

/// Neurons in each table of the worst units.
const WORST: usize = 10;

/// What both pages share: title and embedded fonts.
pub struct Head {
    pub title: String,
    pub regular: String,
    pub semibold: String,
}

impl Head {
    pub fn new(title: String) -> Head {
        Head { title, regular: base64(REGULAR), semibold: base64(SEMIBOLD) }
    }
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
    pub caption: &'a str,
    pub notes: &'a [String],
    /// Links to the tables, with their texts.
    pub sources: Vec<(&'a str, &'a str)>,
}

impl<'a> FigureView<'a> {
    /// The views of the figures, numbered from 1.
    pub fn all(figures: &'a [Figure]) -> Vec<FigureView<'a>> {
        figures
            .iter()
            .enumerate()
            .map(|(i, figure)| FigureView {
                number: i + 1,
                id: figure.id,
                heading: figure.heading,
                svg: figure.svg.as_deref().unwrap_or_default(),
                reason: figure.svg.as_ref().err().map_or("", String::as_str),
                caption: &figure.caption,
                notes: &figure.notes,
                sources: figure.sources.iter().map(|link| (link.as_str(), link.trim_start_matches("../"))).collect(),
            })
            .collect()
    }
}

/// A fact about a run: a name and its value.
pub type Fact = (String, String);

/// One optimizer's findings.
pub struct Finding {
    pub name: String,
    pub color: &'static str,
    pub rate: String,
    /// Why it stopped early, or empty.
    pub message: String,
    pub sentences: [String; 3],
}

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
    layers: &'a [String],
    /// Said at the top when the run is not complete.
    warning: String,
    findings: Vec<Finding>,
    figures: Vec<FigureView<'a>>,
    finals: Table,
    splits: Table,
    advice: Vec<Table>,
    advice_legend: String,
    exploration: Table,
    layer_tables: Vec<Table>,
    worst_tables: Vec<Table>,
    claims: Vec<ClaimView>,
    experiment: Option<&'a str>,
    environment: Vec<Fact>,
    timings: Vec<(String, Vec<Fact>)>,
}

/// The page of one run.
pub fn of_run(run: &RunTables, figures: &[Figure]) -> Result<String, askama::Error> {
    let context = Context::of(run);
    let summary = &run.summary;
    let findings = context
        .series
        .iter()
        .map(|series| Finding {
            name: series.name.clone(),
            color: series.style.color,
            rate: known(series.tables.summary.learning_rate),
            message: series.tables.summary.message.clone().unwrap_or_default(),
            sentences: sentences::findings(series, context.comparator),
        })
        .collect();
    let named: Vec<_> = context.series.iter().map(|s| (s.name.clone(), s.tables)).collect();
    let split: Vec<_> = context.series.iter().map(|s| (s.name.clone(), s.tables, context.comparator)).collect();
    let warning = match summary.status.as_str() {
        "complete" => String::new(),
        "running" if Lock::is_taken(&run.dir) => {
            "This run is still running: what follows covers the optimizers that are complete.".to_owned()
        }
        "running" => {
            "This run ended before it was complete, and can be continued with --resume: what follows covers the optimizers \
             that were."
                .to_owned()
        }
        status => format!("This run is {status}: what follows covers only the rounds that were done."),
    };
    let page = RunPage {
        head: Head::new(summary.name.clone()),
        facts: facts(run),
        layers: &summary.layers,
        warning,
        findings,
        figures: FigureView::all(figures),
        finals: table::finals(&named),
        splits: table::splits(&split),
        advice: advice::tables(&context),
        advice_legend: advice::legend(),
        exploration: table::exploration(&context),
        layer_tables: table::layers(&context),
        worst_tables: table::worst(&context, WORST),
        claims: claims::evaluate(run).into_iter().map(view).collect(),
        experiment: run.experiment.as_deref(),
        environment: flatten(&run.environment),
        timings: run
            .optimizers
            .iter()
            .map(|tables| (display_name(&tables.summary.label), timing(&tables.timing)))
            .filter(|(_, facts)| !facts.is_empty())
            .collect(),
    };
    tidy(page.render()?)
}

/// The page without the blank lines that template tags leave behind.
pub fn tidy(html: String) -> Result<String, askama::Error> {
    let mut page: String =
        html.lines().map(str::trim_end).filter(|line| !line.is_empty()).flat_map(|line| [line, "\n"]).collect();
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
    let loss = match summary.loss.as_str() {
        "mse" => "mean squared error",
        "cross_entropy" => "softmax cross-entropy",
        other => other,
    };
    let target = match summary.target.as_str() {
        "input" => "its own input (autoencoder)",
        "label" => "the label",
        other => other,
    };
    [
        ("data", summary.dataset.as_str()),
        ("loss", loss),
        ("target", target),
        ("seed", &summary.seed.map_or_else(|| "–".to_owned(), |seed| seed.to_string())),
        ("comparator", &summary.headline.to_string()),
        ("status", &summary.status),
        ("taylorscope", &summary.version),
    ]
    .map(|(name, value)| (name.to_string(), value.to_string()))
    .to_vec()
}

/// JSON of any shape as name and value, nested names joined by dots.
pub fn flatten(value: &Value) -> Vec<Fact> {
    let mut facts = Vec::new();
    descend("", value, &mut facts);
    facts
}

/// `timing.json` with its units: seconds of each phase and epoch.
fn timing(value: &Value) -> Vec<Fact> {
    let with_unit = |(name, value): Fact| match name.strip_prefix("phases, ") {
        Some(phase) => (phase.to_string(), format!("{value} s")),
        None if name == "epochs" => ("each epoch".into(), format!("{value} s")),
        None => (name, value),
    };
    flatten(value).into_iter().map(with_unit).collect()
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
    fn timings_have_units() {
        let facts =
            timing(&json!({"phases": {"training": 0.25}, "epochs": [0.2, 0.3], "peak_memory_bytes": 104857600}));
        let text: Vec<String> = facts.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(text, ["each epoch=0.2000, 0.3000 s", "peak memory=100 MiB", "training=0.2500 s"]);
        assert!(timing(&json!({"phases": {}, "epochs": [], "peak_memory_bytes": null})).is_empty());
    }

    #[test]
    fn json_of_any_shape_becomes_facts() {
        let facts = flatten(&json!({"a_b": {"c": 1, "d": [0.5, 2.0]}, "e": null, "f": [{"g": true}]}));
        let text: Vec<String> = facts.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(text, ["a b, c=1", "a b, d=0.5000, 2.000", "f 1, g=true"]);
    }
}
