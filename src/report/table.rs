//! The tables of the page: rows of text from rows of numbers.

use super::figure::Context;
use crate::study::{
    numbers::{count, known, number, percent, significant},
    results::{OptimizerTables, mean, median},
    tables::{Comparator, Scale, UnitRow},
};

/// A table as the page shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub title: String,
    pub columns: Vec<&'static str>,
    /// Number of leading columns that hold text and are set flush left.
    pub text_columns: usize,
    pub rows: Vec<Vec<String>>,
    /// What stands there instead when there are no rows, or below them.
    pub note: String,
}

fn maybe(value: Option<f64>) -> String {
    value.map_or("–".into(), number)
}

/// Losses and accuracies of each optimizer at the end.
pub fn finals(named: &[(String, &OptimizerTables)]) -> Table {
    let accuracy = |value: Option<f64>| value.map_or("–".into(), |a| format!("{:.2}%", 100.0 * a));
    let with_accuracy = named.iter().any(|(_, t)| t.summary.train_accuracy.or(t.summary.test_accuracy).is_some());
    let mut columns = vec![
        "optimizer",
        "status",
        "learning rate",
        "rounds",
        "loss, last 100 rounds",
        "loss, all rounds",
        "train loss",
        "test loss",
    ];
    if with_accuracy {
        columns.extend(["train accuracy", "test accuracy"]);
    }
    let rows = named
        .iter()
        .map(|(name, tables)| {
            let s = &tables.summary;
            let mut row = vec![name.clone(), s.status.clone(), known(s.learning_rate), count(s.rounds as u64)];
            row.extend([s.last_loss, s.mean_loss, s.train_loss, s.test_loss].map(maybe));
            if with_accuracy {
                row.extend([s.train_accuracy, s.test_accuracy].map(accuracy));
            }
            row
        })
        .collect();
    let note = "Losses are per round (minibatch) or per datapoint (train, test), in the units of the \
                loss."
        .into();
    Table { title: "Final losses".into(), columns, text_columns: 2, rows, note }
}

/// The split of the loss of each optimizer at its coarsest scale.
pub fn splits(named: &[(String, &OptimizerTables, Comparator)]) -> Table {
    let rows = named
        .iter()
        .filter_map(|(name, tables, comparator)| {
            let split = tables.split(*comparator)?;
            Some(vec![
                name.clone(),
                match split.scale {
                    Scale::Network => "network".into(),
                    scale => format!("mean of {} {scale}s", split.units),
                },
                comparator.to_string(),
                number(split.mean_loss),
                number(split.taylor_optimum),
                number(split.regret),
                percent(split.regret / split.mean_loss),
                significant(split.gap, 2),
            ])
        })
        .collect();
    Table {
        title: "Regret and Taylor optimum".into(),
        columns: vec![
            "optimizer",
            "scale",
            "comparator",
            "mean loss",
            "Taylor optimum",
            "regret",
            "regret / loss",
            "certified gap",
        ],
        text_columns: 3,
        rows,
        note: "Optimizers without rows in units.csv are left out.".into(),
    }
}

const UNIT_COLUMNS: [&str; 10] = [
    "unit",
    "weights",
    "Taylor optimum",
    "regret",
    "regret / loss",
    "gap",
    "distance",
    "displacement",
    "slope",
    "prefixes",
];

fn unit_row(name: String, unit: &UnitRow) -> Vec<String> {
    vec![
        name,
        count(unit.dimension as u64),
        format!("{}{}", number(unit.taylor_optimum), if unit.attained { "" } else { " *" }),
        number(unit.mean_regret),
        percent(unit.mean_regret / unit.mean_loss),
        significant(unit.gap, 2),
        number(unit.distance),
        number(unit.displacement),
        unit.slope.map_or("–".into(), |slope| significant(slope, 2)),
        unit.slope_points.to_string(),
    ]
}

const UNIT_NOTE: &str = "Optimum, regret and gap in loss per round; the gap certifies that the true optimum \
                         lies in [optimum − gap, optimum]. Distance: ‖V* − W¹‖, of the optimum from the \
                         initial weights; displacement: the largest ‖Wⁿ − W¹‖ of training. Slope: of log \
                         regret on log N over the given number of prefixes.";

fn with_unattained(units: &[&UnitRow]) -> String {
    let stars = units.iter().any(|unit| !unit.attained);
    let star = if stars { " * The infimum is not attained: the solver stopped at a distance limit." } else { "" };
    format!("{UNIT_NOTE}{star}")
}

/// Per optimizer: the whole network and each layer.
pub fn layers(context: &Context) -> Vec<Table> {
    context
        .series
        .iter()
        .map(|series| {
            let scales = [Scale::Network, Scale::Layer];
            let units: Vec<&UnitRow> =
                scales.into_iter().flat_map(|scale| series.tables.units_at(scale, context.comparator)).collect();
            let name = |unit: &UnitRow| unit.layer.map_or("whole network".into(), |layer| context.layer_name(layer));
            let rows: Vec<Vec<String>> = units.iter().map(|unit| unit_row(name(unit), unit)).collect();
            let note = if rows.is_empty() {
                format!("No rows at network or layer scale in units.csv for the {} comparator.", context.comparator)
            } else {
                with_unattained(&units)
            };
            Table { title: series.name.clone(), columns: UNIT_COLUMNS.to_vec(), text_columns: 1, rows, note }
        })
        .collect()
}

/// Per optimizer: the `most` neurons of largest regret.
pub fn worst(context: &Context, most: usize) -> Vec<Table> {
    context
        .series
        .iter()
        .map(|series| {
            let mut units: Vec<&UnitRow> = series
                .tables
                .units_at(Scale::Neuron, context.comparator)
                .filter(|unit| unit.mean_regret.is_finite())
                .collect();
            // Ties are broken by place, so that the order never depends on the table's.
            units.sort_by(|a, b| {
                b.mean_regret.total_cmp(&a.mean_regret).then((a.layer, a.neuron).cmp(&(b.layer, b.neuron)))
            });
            units.truncate(most);
            let name = |unit: &UnitRow| {
                let place = |index: Option<usize>| index.map_or("?".into(), |index| index.to_string());
                format!("layer {}, neuron {}", place(unit.layer), place(unit.neuron))
            };
            let rows: Vec<Vec<String>> = units.iter().map(|unit| unit_row(name(unit), unit)).collect();
            let note = if rows.is_empty() {
                format!("No neurons in units.csv for the {} comparator.", context.comparator)
            } else {
                with_unattained(&units)
            };
            Table { title: series.name.clone(), columns: UNIT_COLUMNS.to_vec(), text_columns: 1, rows, note }
        })
        .collect()
}

/// Exploration in numbers: one row per optimizer.
pub fn exploration(context: &Context) -> Table {
    let rows = context
        .series
        .iter()
        .filter(|s| !s.tables.neurons.is_empty() || !s.tables.novelty.is_empty())
        .map(|s| {
            let neurons = &s.tables.neurons;
            let dead = neurons.iter().filter(|row| row.dead).count();
            let whole = |value: Option<f64>| value.map_or("–".into(), |v| count(v.round() as u64));
            let share = match neurons.len() {
                0 => "–".into(),
                n => format!("{dead} of {n} ({})", percent(dead as f64 / n as f64)),
            };
            vec![
                s.name.clone(),
                whole(s.tables.mean_novelty()),
                whole(median(neurons.iter().map(|row| row.switches as f64))),
                maybe(median(neurons.iter().map(|row| row.log_volume))),
                maybe(mean(neurons.iter().map(|row| row.log_det))),
                whole(median(neurons.iter().map(|row| row.rank as f64))),
                mean(neurons.iter().map(|row| row.active_fraction)).map_or("–".into(), percent),
                share,
            ]
        })
        .collect::<Vec<_>>();
    let note = if rows.is_empty() {
        "Exploration was not recorded in this run.".into()
    } else {
        "Log-volume sums the logs of the first 50 positive singular values; ½ log det(I + Gram) stays finite, \
         and comparable, for dead neurons."
            .into()
    };
    Table {
        title: "Exploration in numbers".into(),
        columns: vec![
            "optimizer",
            "mean novelty (bits)",
            "median switches",
            "median log-volume",
            "mean ½ log det",
            "median rank",
            "mean activity",
            "dead neurons",
        ],
        text_columns: 1,
        rows,
        note,
    }
}
