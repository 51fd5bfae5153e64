//! What is said of a run when it has ended: a table for people, an object for `--json`.

use super::{
    output::{aligned, line, note},
    progress::Progress,
};
use crate::{
    loss::Loss,
    report::{
        ReportOutput,
        certified::{in_words, regret},
    },
    study::{
        enclosure::Enclosure,
        numbers::{counted, known, significant},
        results::{OptimizerTables, RunTables, Split},
        tables::{Comparator, OptimizerSummary, Scale},
    },
};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};

/// An analysis that took longer ends with a line that says what took the time.
const LONG: Duration = Duration::from_secs(10);

/// Prints what a run directory holds, and gives the same for `--json`. `planned` are the labels of all optimizers of
/// the run, those included that were not begun.
pub fn print(
    out: &Path,
    planned: &[String],
    rendered: &ReportOutput,
    progress: &mut Progress,
) -> anyhow::Result<Value> {
    progress.finish();
    let tables = RunTables::read(out)?;
    if let Some(text) = progress.costliest().and_then(|(phase, time, all)| costs(&phase, time, all, &tables)) {
        note(text);
    }
    summary_table(&tables, planned)?;
    let doubts: usize = tables.optimizers.iter().map(|optimizer| optimizer.summary.warnings.len()).sum();
    if doubts > 0 {
        line(format!("{} about what was traced: see the top of the page, or summary.json", counted(doubts, "doubt")))?;
    }
    let [figures, summary] = ["figures", "summary.json"].map(|name| out.join(name));
    line(format!("report:  {}", rendered.html.display()))?;
    line(format!("figures: {}", figures.display()))?;
    line(format!("tables:  {}", out.join("<optimizer>").join("*.csv").display()))?;
    let optimizers: Vec<Value> =
        tables.optimizers.iter().map(|optimizer| optimizer_object(&tables, optimizer)).collect();
    let missing = not_begun(&tables, planned).map(|label| json!({ "label": label, "status": NOT_BEGUN }));
    Ok(json!({
        "run": out,
        "report": rendered.html,
        "figures": figures,
        "summary": summary,
        "name": tables.summary.name,
        "status": tables.summary.status,
        "seed": tables.summary.seed,
        "dataset": tables.summary.dataset,
        "loss": tables.summary.loss,
        "optimizers": optimizers.into_iter().chain(missing).collect::<Vec<_>>(),
    }))
}

/// The status of an optimizer whose turn did not come.
const NOT_BEGUN: &str = "not begun";

/// Labels of `planned` that the run says nothing of.
fn not_begun<'a>(tables: &RunTables, planned: &'a [String]) -> impl Iterator<Item = &'a String> {
    planned.iter().filter(|label| tables.summary.optimizers.iter().all(|done| done.label != **label))
}

/// The split of an optimizer's loss at the coarsest scale, with the number of the last round that it covers.
fn split(tables: &RunTables, optimizer: &OptimizerTables) -> Option<(Split, usize)> {
    let (headline, split) = (tables.headline(), optimizer.split(tables.headline())?);
    let rows = optimizer.regret.iter().filter(|row| row.scale == split.scale && row.comparator == headline);
    let rounds = rows.map(|row| row.rounds).max().unwrap_or(optimizer.summary.window_rounds);
    Some((split, rounds))
}

fn optimizer_object(tables: &RunTables, optimizer: &OptimizerTables) -> Value {
    let s: &OptimizerSummary = &optimizer.summary;
    let folder = tables.dir.join(&s.label);
    let names =
        ["rounds", "epochs", "validation", "regret", "units", "novelty", "neurons"].map(|name| format!("{name}.csv"));
    let files: Vec<_> = names.iter().map(|name| folder.join(name)).filter(|path| path.exists()).collect();
    let regret = split(tables, optimizer).map(|(split, rounds)| {
        json!({
            "scale": split.scale,
            "comparator": tables.headline(),
            "units": split.units,
            "window": rounds,
            "analysed_rounds": s.sampled_rounds.unwrap_or(rounds),
            "mean_loss": split.mean_loss,
            "taylor_optimum": split.taylor_optimum,
            "gap": split.gap,
            "regret": split.regret,
        })
    });
    json!({
        "label": s.label,
        "name": s.name,
        "learning_rate": s.learning_rate,
        "status": s.status,
        "checks": s.checks,
        "warnings": s.warnings,
        "contradicted": s.contradicted,
        "message": s.message,
        "rounds": s.rounds,
        "final_loss": s.last_loss,
        "mean_loss": s.mean_loss,
        "train_loss": s.train_loss,
        "test_loss": s.test_loss,
        "train_accuracy": s.train_accuracy,
        "test_accuracy": s.test_accuracy,
        "hidden_neurons": s.hidden_neurons,
        "dead_neurons": s.dead_neurons,
        "regret": regret,
        "tables": files,
    })
}

/// The optimizers of a run as a table.
fn summary_table(tables: &RunTables, planned: &[String]) -> anyhow::Result<()> {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| significant(v, 4));
    let classifier = tables.optimizers.iter().any(|o| o.summary.test_accuracy.is_some());
    let test = if classifier { "test accuracy" } else { "test loss" };
    let header =
        ["optimizer", "rate", "final loss", test, "rounds analysed", "Taylor optimum", "regret", "dead", "status"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let mut scales = Vec::new();
    for optimizer in &tables.optimizers {
        let s = &optimizer.summary;
        let mut cells = ["-", "-", "-"].map(str::to_owned);
        if let Some((split, rounds)) = split(tables, optimizer) {
            scales.push(split.scale);
            cells = [
                format!("{} of {}", s.sampled_rounds.unwrap_or(rounds), s.rounds),
                in_words(Enclosure::certified(split.taylor_optimum, split.gap)),
                in_words(regret(split.mean_loss, split.taylor_optimum, split.gap)),
            ];
        }
        let [analysed, optimum, regret] = cells;
        rows.push(vec![
            s.label.clone(),
            known(s.learning_rate),
            number(s.last_loss),
            if classifier {
                s.test_accuracy.map_or("-".to_owned(), |a| format!("{a:.4}"))
            } else {
                number(s.test_loss)
            },
            analysed,
            optimum,
            regret,
            format!("{}/{}", s.dead_neurons, s.hidden_neurons),
            s.status.to_string(),
        ]);
    }
    for label in not_begun(tables, planned) {
        let mut row = vec!["-".to_owned(); header.len()];
        (row[0], row[header.len() - 1]) = (label.clone(), NOT_BEGUN.to_owned());
        rows.push(row);
    }
    aligned(&rows)?;
    scales.sort();
    scales.dedup();
    match scales[..] {
        [] => Ok(()),
        [scale] => line(format!(
            "Taylor optimum and regret: {}, comparator {}; \"a to b\" is as far as it is certified",
            of(scale),
            tables.headline()
        )),
        _ => line("Taylor optimum and regret: each at the coarsest scale that was measured, which differs"),
    }
}

fn of(scale: Scale) -> &'static str {
    match scale {
        Scale::Network => "of the network",
        Scale::Layer => "mean over layers",
        Scale::Neuron => "mean over neurons",
    }
}

/// Which phase of a long analysis took the most time, and which setting shortens it.
fn costs(phase: &str, time: Duration, all: Duration, tables: &RunTables) -> Option<String> {
    if all < LONG {
        return None;
    }
    let searched = tables.summary.loss == Loss::CrossEntropy.into()
        && tables.optimizers.iter().any(|o| {
            o.units.iter().any(|row| row.scale == Scale::Neuron && row.comparator == Comparator::Unconstrained)
        });
    let remedy = match phase {
        phase if phase.contains("neuron") && searched => {
            "--set 'regret.comparators=[\"ball\"]' leaves out its slow part"
        }
        phase if phase.contains("neuron") => "--set regret.neurons=8 analyses fewer neurons per layer",
        phase if phase.contains("layer") || phase.contains("network") => {
            "a smaller regret.max_products shortens it and leaves wider gaps"
        }
        phase if phase.contains("linear") => "a smaller regret.window or regret.rounds shortens it",
        phase if phase.contains("explor") || phase.contains("activation") => "a smaller exploration.probe shortens it",
        _ => "`taylorscope show --keys` lists the settings",
    };
    let [time, all] = [time, all].map(|time| super::course::seconds(time.as_secs_f64()));
    Some(format!("most of the analysis went to {phase}, {time} of {all}: {remedy}"))
}
