//! The tables of the page: rows of text from rows of numbers.

use super::{
    certified::{self, Division, in_words, share_in_words},
    figure::{Context, Series},
    sentences::last_third,
};
use crate::study::{
    enclosure::Enclosure,
    numbers::{count, keys, known, number, percent, significant},
    results::{OptimizerTables, mean, median},
    tables::{Comparator, NoveltyRow, OptimizerSummary, Scale, UnitRow},
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

/// All that was set of an optimizer, as one reads it: `learning rate 0.05, momentum 0.9`.
pub fn settings(summary: &OptimizerSummary) -> String {
    let rate = format!("learning rate {}", known(summary.learning_rate));
    if summary.settings.is_empty() { rate } else { format!("{rate}, {}", keys(&summary.settings)) }
}

/// How a run divides, and how widely it explored: one row an optimizer.
pub fn optimizers(context: &Context) -> Table {
    let divisions: Vec<Option<Division>> =
        context.series.iter().map(|series| Division::of(series.tables, context.comparator)).collect();
    let beside: Vec<Option<Division>> = context
        .series
        .iter()
        .zip(&divisions)
        .map(|(series, division)| match context.comparator {
            Comparator::Ball => Division::at(series.tables, division.as_ref()?.scale, Comparator::Unconstrained),
            Comparator::Unconstrained => None,
        })
        .collect();
    let scales: Vec<Scale> = divisions.iter().flatten().map(|division| division.scale).collect();
    let (with_beside, mixed) = (beside.iter().any(Option::is_some), scales.windows(2).any(|pair| pair[0] != pair[1]));
    let mut columns = vec!["optimizer"];
    columns.extend(mixed.then_some("scale"));
    columns.extend([
        "training loss",
        "mean loss",
        "Taylor optimum",
        "regret",
        "regret / loss",
        "distance / displacement",
    ]);
    columns.extend(with_beside.then_some("unconstrained optimum"));
    let explored = context.series.iter().any(|s| !s.tables.neurons.is_empty() || !s.tables.novelty.is_empty());
    if explored {
        columns.extend(["median novelty", "median switches", "dead neurons"]);
    }
    let rows = context.series.iter().zip(divisions.iter().zip(&beside)).map(|(series, (division, beside))| {
        let of = |text: &dyn Fn(&Division) -> String| division.as_ref().map_or("–".to_owned(), text);
        let mut row = vec![series.name.clone()];
        if mixed {
            row.push(of(&|division| place(division)));
        }
        row.push(maybe(series.tables.summary.train_loss));
        row.push(of(&|division| number(division.mean_loss)));
        row.push(of(&|division| in_words(division.optimum)));
        row.push(of(&|division| in_words(division.regret)));
        row.push(of(&|division| share_in_words(division.regret, division.mean_loss)));
        row.push(of(&|division| distances(division.distance, division.displacement, division.far)));
        if with_beside {
            row.push(beside.as_ref().map_or("–".to_owned(), |beside| {
                let far = if beside.far { far(beside.distance, beside.displacement) } else { String::new() };
                in_words(beside.optimum) + &far
            }));
        }
        if explored {
            let tables = series.tables;
            row.push(whole(median(later_novelty(&tables.novelty))));
            row.push(whole(median(tables.neurons.iter().map(|row| row.switches as f64))));
            row.push(dead(series));
        }
        row
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let mut notes = vec![
        "Mean loss = Taylor optimum + regret. An interval is what the certificate allows; a single number is certain \
         to its digits."
            .to_owned(),
    ];
    if let (Some(scale), false) = (scales.first(), mixed) {
        notes.push(match scale {
            Scale::Network => {
                format!("Values are those of the whole network, against the {} comparator.", context.comparator)
            }
            scale => format!("Values are means over {scale}s, against the {} comparator.", context.comparator),
        });
    }
    if with_beside {
        notes.push(
            "The unconstrained optimum stands next to it; far: how many times farther than training went.".to_owned(),
        );
    }
    if scales.is_empty() {
        notes = vec!["Regret was not measured (no rows in units.csv).".to_owned()];
    } else if let Some(without) = names_without(context, &divisions) {
        notes.push(format!("No rows in units.csv for {without}."));
    }
    Table { title: "Optimizers".into(), columns, text_columns: 1 + usize::from(mixed), rows, note: notes.join(" ") }
}

fn names_without(context: &Context, divisions: &[Option<Division>]) -> Option<String> {
    let without = context.series.iter().zip(divisions).filter(|(_, division)| division.is_none());
    let names: Vec<&str> = without.map(|(series, _)| series.name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn place(division: &Division) -> String {
    match division.scale {
        Scale::Network => "network".into(),
        scale => format!("mean of {} {scale}s", division.units),
    }
}

/// The distance of a comparator next to the displacement of training, marked where it is far.
fn distances(distance: f64, displacement: f64, is_far: bool) -> String {
    let far = if is_far { far(distance, displacement) } else { String::new() };
    format!("{} / {}{far}", number(distance), number(displacement))
}

fn far(distance: f64, displacement: f64) -> String {
    match displacement {
        0.0 => " (far)".into(),
        _ => format!(" (far, {}×)", significant(distance / displacement, 2)),
    }
}

fn whole(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| count(value.round() as u64))
}

/// The distances from earlier configurations, without the first, which is mostly the way out of the initialization.
fn later_novelty(rows: &[NoveltyRow]) -> impl Iterator<Item = f64> {
    rows.iter().filter_map(|row| row.min_hamming.map(|bits| bits as f64)).skip(1)
}

fn dead(series: &Series) -> String {
    let neurons = &series.tables.neurons;
    let dead = neurons.iter().filter(|row| row.dead).count();
    match neurons.len() {
        0 => "–".into(),
        n => format!("{dead} of {n}"),
    }
}

/// Losses and accuracies of each optimizer at the end.
pub fn finals(named: &[(String, &OptimizerTables)]) -> Table {
    let accuracy = |value: Option<f64>| value.map_or("–".into(), |a| format!("{:.2}%", 100.0 * a));
    let with_accuracy = named.iter().any(|(_, t)| t.summary.train_accuracy.or(t.summary.test_accuracy).is_some());
    let mut columns = vec![
        "optimizer",
        "settings",
        "status",
        "rounds",
        "loss, all rounds",
        "loss, last third",
        "training loss",
        "test loss",
    ];
    if with_accuracy {
        columns.extend(["training accuracy", "test accuracy"]);
    }
    let rows = named
        .iter()
        .map(|(name, tables)| {
            let s = &tables.summary;
            let mut row = vec![name.clone(), settings(s), s.status.to_string(), count(s.rounds as u64)];
            row.extend([s.mean_loss, last_third(tables), s.train_loss, s.test_loss].map(maybe));
            if with_accuracy {
                row.extend([s.train_accuracy, s.test_accuracy].map(accuracy));
            }
            row
        })
        .collect();
    let note =
        "Losses of rounds are means over minibatches; training and test losses are means over datapoints after the \
                last epoch."
            .into();
    Table { title: "Losses".into(), columns, text_columns: 3, rows, note }
}

/// The split of the loss of each optimizer at its coarsest scale.
pub fn splits(named: &[(String, &OptimizerTables, Comparator)]) -> Table {
    let divided: Vec<_> =
        named.iter().map(|(name, tables, comparator)| (name, comparator, Division::of(tables, *comparator))).collect();
    let rows = divided
        .iter()
        .filter_map(|(name, comparator, division)| {
            let division = division.as_ref()?;
            Some(vec![
                (*name).clone(),
                place(division),
                comparator.to_string(),
                number(division.mean_loss),
                in_words(division.optimum),
                in_words(division.regret),
                share_in_words(division.regret, division.mean_loss),
                distances(division.distance, division.displacement, division.far),
            ])
        })
        .collect();
    let without: Vec<&str> =
        divided.iter().filter(|(_, _, division)| division.is_none()).map(|(name, ..)| name.as_str()).collect();
    let mut note = "An interval is what the certificate allows; a single number is certain to its digits.".to_owned();
    if !without.is_empty() {
        note += &format!(" No rows in units.csv for {}.", without.join(", "));
    }
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
            "distance / displacement",
        ],
        text_columns: 3,
        rows,
        note,
    }
}

/// A table of units: every row one unit of one optimizer.
fn units(title: &str, context: &Context, of: &dyn Fn(&Series) -> Vec<(String, UnitRow)>) -> Table {
    let named: Vec<(&Series, String, UnitRow)> = context
        .series
        .iter()
        .flat_map(|series| of(series).into_iter().map(move |(name, unit)| (series, name, unit)))
        .collect();
    let beside = |series: &Series, unit: &UnitRow| {
        let mut others = series.tables.units_at(unit.scale, Comparator::Unconstrained);
        let other = others.find(|other| (other.layer, other.neuron) == (unit.layer, unit.neuron));
        other.filter(|_| context.comparator == Comparator::Ball).cloned()
    };
    let with_beside = named.iter().any(|(series, _, unit)| beside(series, unit).is_some());
    let points: Vec<usize> =
        named.iter().filter(|(.., unit)| unit.slope.is_some()).map(|(.., u)| u.slope_points).collect();
    let same_points = points.windows(2).all(|pair| pair[0] == pair[1]);
    let mut columns =
        vec!["optimizer", "unit", "weights", "Taylor optimum", "regret", "regret / loss", "distance / displacement"];
    columns.extend(with_beside.then_some("unconstrained optimum"));
    columns.push("slope");
    columns.extend((!same_points).then_some("prefixes"));
    let optimum = |unit: &UnitRow| {
        let star = if unit.attained { "" } else { " *" };
        in_words(Enclosure::certified(unit.taylor_optimum, unit.gap)) + star
    };
    let rows: Vec<Vec<String>> = named
        .iter()
        .map(|(series, name, unit)| {
            let regret = certified::regret(unit.mean_loss, unit.taylor_optimum, unit.gap);
            let mut row = vec![
                series.name.clone(),
                name.clone(),
                count(unit.dimension as u64),
                optimum(unit),
                in_words(regret),
                share_in_words(regret, unit.mean_loss),
                distances(unit.distance, unit.displacement, unit.is_far()),
            ];
            if with_beside {
                row.push(beside(series, unit).map_or("–".to_owned(), |other| {
                    let far = if other.is_far() { far(other.distance, other.displacement) } else { String::new() };
                    optimum(&other) + &far
                }));
            }
            row.push(unit.slope.map_or("–".into(), |slope| significant(slope, 2)));
            if !same_points {
                row.push(unit.slope.map_or("–".into(), |_| unit.slope_points.to_string()));
            }
            row
        })
        .collect();
    if rows.is_empty() {
        let note = format!("No such rows in units.csv for the {} comparator.", context.comparator);
        return Table { title: title.into(), note, ..Table::default() };
    }
    let mut note = format!(
        "Against the {} comparator. Slope: of log regret on log N{}; the theory asks for −0.5 or less.",
        context.comparator,
        match points.first() {
            Some(points) if same_points => format!(", over {points} prefixes"),
            _ => String::new(),
        }
    );
    if rows.iter().flatten().any(|cell| cell.contains(" *")) {
        note += " * The infimum is not attained: the solver stopped at a distance limit.";
    }
    Table { title: title.into(), columns, text_columns: 2, rows, note }
}

/// The whole network and each layer.
pub fn layers(context: &Context) -> Table {
    units("Network and layers", context, &|series| {
        let units = [Scale::Network, Scale::Layer]
            .into_iter()
            .flat_map(|scale| series.tables.units_at(scale, context.comparator));
        let name = |unit: &UnitRow| unit.layer.map_or("whole network".into(), |layer| context.layer_name(layer));
        units.map(|unit| (name(unit), unit.clone())).collect()
    })
}

/// Per optimizer, the `most` neurons of largest regret.
pub fn worst(context: &Context, most: usize) -> Table {
    units("Neurons of largest regret", context, &|series| {
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
        let index = |index: Option<usize>| index.map_or("?".into(), |index| index.to_string());
        let name = |unit: &UnitRow| format!("layer {}, neuron {}", index(unit.layer), index(unit.neuron));
        units.into_iter().map(|unit| (name(unit), unit.clone())).collect()
    })
}

/// Exploration in numbers: one row per optimizer.
pub fn exploration(context: &Context) -> Table {
    let rows = context
        .series
        .iter()
        .filter(|s| !s.tables.neurons.is_empty() || !s.tables.novelty.is_empty())
        .map(|s| {
            let neurons = &s.tables.neurons;
            let first = s.tables.novelty.iter().find_map(|row| row.min_hamming);
            vec![
                s.name.clone(),
                first.map_or("–".into(), count),
                whole(median(later_novelty(&s.tables.novelty))),
                whole(median(neurons.iter().map(|row| row.switches as f64))),
                maybe(median(neurons.iter().map(|row| row.log_volume))),
                maybe(mean(neurons.iter().map(|row| row.log_det))),
                whole(median(neurons.iter().map(|row| row.rank as f64))),
                mean(neurons.iter().map(|row| row.active_fraction)).map_or("–".into(), percent),
                dead(s),
            ]
        })
        .collect::<Vec<_>>();
    if rows.is_empty() {
        let note = "Exploration was not recorded in this run.".into();
        return Table { title: "Exploration in numbers".into(), note, ..Table::default() };
    }
    Table {
        title: "Exploration in numbers".into(),
        columns: vec![
            "optimizer",
            "first novelty",
            "median novelty",
            "median switches",
            "median log-volume",
            "mean ½ log det",
            "median rank",
            "mean activity",
            "dead neurons",
        ],
        text_columns: 1,
        rows,
        note: "Novelty is in bits. The first is the way from the initialization to the next recorded configuration; the \
               median is of all later ones. Switches, log-volume, ½ log det and rank are per neuron. Log-volume sums \
               the logs of the first 50 positive singular values; ½ log det(I + Gram) is finite and comparable for dead neurons, too."
            .into(),
    }
}
