//! Advice per layer and neuron: where the optimizer lags inside good regions, and where the regions themselves are bad.
//!
//! The loss of a unit splits into its regret and its Taylor optimum (`docs/theory.md`, section 3). A *large regret* says
//! that fixed weights of the unit would have paid much less in the very regions that training visited: the optimizer's
//! steps are at fault. A *poor optimum* says that nothing the unit could have done there would have helped: only other regions
//! would, so explore more.

use super::{figure::Context, table::Table};
use crate::study::{
    numbers::percent,
    results::median,
    tables::{Scale, UnitRow},
};
use std::collections::BTreeSet;

/// From this share of the loss on, the regret of a layer or the network is large.
const LARGE: f64 = 0.5;
/// Up to this share of the loss in regret, the optimum of a layer or the network is poor.
const POOR: f64 = 0.25;
/// A single neuron can change little, so neurons are judged against their layer: regret is large from this multiple of the
/// median on,
const LARGE_NEURON: f64 = 2.0;
/// and the optimum is poor up to this one.
const POOR_NEURON: f64 = 0.25;
/// Neurons that are named.
const NAMED: usize = 4;

/// What the split of a unit's loss advises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// The optimizer lags inside good regions.
    RegretLarge,
    /// The regions are bad.
    OptimumPoor,
    /// Neither stands out.
    Neither,
    /// The solver's gap leaves both open.
    Uncertain,
}

impl Advice {
    /// For a unit whose regret is `regret` of a mean loss of `loss`, and at most `regret + gap`.
    fn of(unit: &UnitRow, large: f64, poor: f64) -> Advice {
        let (low, high) = (unit.mean_regret / unit.mean_loss, (unit.mean_regret + unit.gap) / unit.mean_loss);
        if low >= large {
            Advice::RegretLarge
        } else if high <= poor {
            Advice::OptimumPoor
        } else if high < large && low > poor {
            Advice::Neither
        } else {
            Advice::Uncertain
        }
    }

    fn text(self) -> &'static str {
        match self {
            Advice::RegretLarge => "regret large",
            Advice::OptimumPoor => "optimum poor",
            Advice::Neither => "neither",
            Advice::Uncertain => "open (gap)",
        }
    }
}

/// Neurons of a layer with one kind of advice: `3 of 50: 4, 17, 22`.
fn named(neurons: &[usize], all: usize) -> String {
    let shown: Vec<String> = neurons.iter().take(NAMED).map(ToString::to_string).collect();
    let rest = if neurons.len() > NAMED { ", …" } else { "" };
    match neurons.len() {
        0 => format!("0 of {all}"),
        count => format!("{count} of {all}: {}{rest}", shown.join(", ")),
    }
}

/// Per optimizer: a row for the network and each layer, with the neurons of the layer that stand out.
pub fn tables(context: &Context) -> Vec<Table> {
    context
        .series
        .iter()
        .map(|series| {
            let at =
                |scale: Scale| series.tables.units_at(scale, context.comparator).filter(|unit| unit.mean_loss > 0.0);
            let dead: BTreeSet<(usize, usize)> =
                series.tables.neurons.iter().filter(|row| row.dead).map(|row| (row.layer, row.neuron)).collect();
            let places: BTreeSet<Option<usize>> =
                [Scale::Network, Scale::Layer, Scale::Neuron].into_iter().flat_map(at).map(|unit| unit.layer).collect();
            let row = |place: &Option<usize>| {
                let whole = at(Scale::Network).chain(at(Scale::Layer)).find(|unit| unit.layer == *place);
                let name = place.map_or("network".into(), |layer| format!("layer {layer}"));
                let mut cells = match whole {
                    Some(unit) => vec![
                        name,
                        percent(unit.taylor_optimum / unit.mean_loss),
                        percent(unit.mean_regret / unit.mean_loss),
                        Advice::of(unit, LARGE, POOR).text().to_owned(),
                    ],
                    None => vec![name, "–".into(), "–".into(), "–".into()],
                };
                let neurons: Vec<&UnitRow> =
                    at(Scale::Neuron).filter(|unit| unit.layer == *place && place.is_some()).collect();
                let typical = median(neurons.iter().map(|unit| unit.mean_regret / unit.mean_loss));
                match typical {
                    Some(typical) => {
                        let with = |wanted: Advice| -> Vec<usize> {
                            let of = |unit: &UnitRow| match unit.layer.zip(unit.neuron) {
                                Some(place) if dead.contains(&place) => Advice::OptimumPoor,
                                // No multiple of such a median separates anything.
                                _ if typical <= 0.0 => Advice::Neither,
                                _ => Advice::of(unit, LARGE_NEURON * typical, POOR_NEURON * typical),
                            };
                            neurons.iter().filter(|unit| of(unit) == wanted).filter_map(|unit| unit.neuron).collect()
                        };
                        cells.push(percent(typical));
                        cells.push(named(&with(Advice::RegretLarge), neurons.len()));
                        cells.push(named(&with(Advice::OptimumPoor), neurons.len()));
                    }
                    None => cells.extend(["–".into(), "–".into(), "–".into()]),
                }
                cells
            };
            let rows: Vec<Vec<String>> = places.iter().map(row).collect();
            let note = if rows.is_empty() {
                format!("No rows in units.csv for the {} comparator.", context.comparator)
            } else {
                String::new()
            };
            Table {
                title: series.name.clone(),
                columns: vec![
                    "unit",
                    "optimum",
                    "regret",
                    "advice",
                    "median neuron",
                    "neurons with large regret",
                    "with poor optimum",
                ],
                text_columns: 1,
                rows,
                note,
            }
        })
        .collect()
}

/// What the words of the tables mean and what to do about them.
pub fn legend() -> String {
    format!(
        "Optimum and regret are shares of the unit's mean loss. Regret large ({} of the loss or more; for a neuron {LARGE_NEURON} times its layer's median): the optimizer lags inside good \
         regions, as fixed weights would have paid that much less in them; tune its rate, or try momentum or another \
         preconditioning. Optimum poor (regret at most {} of the loss; for a neuron {POOR_NEURON} of the median, or dead): the \
         regions are bad, as no weights of the unit would have helped in them; explore more, with larger or normalized \
         steps, another initialization or a wider layer. The advice is read off these numbers; it is not a \
         guarantee that the remedy works.",
        percent(LARGE),
        percent(POOR)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::tables::Comparator;

    fn unit(regret: f64, gap: f64) -> UnitRow {
        UnitRow {
            scale: Scale::Layer,
            layer: Some(0),
            neuron: None,
            comparator: Comparator::Ball,
            dimension: 10,
            mean_loss: 2.0,
            taylor_optimum: 2.0 - regret,
            mean_regret: regret,
            gap,
            attained: true,
            iterations: 1,
            distance: 1.0,
            displacement: 1.0,
            gradient_bound: 1.0,
            slope: None,
            slope_points: 0,
            radius: None,
        }
    }

    #[test]
    fn advice_follows_the_split_as_far_as_the_gap_allows() {
        let of = |regret, gap| Advice::of(&unit(regret, gap), LARGE, POOR);
        assert_eq!(of(1.2, 0.5), Advice::RegretLarge);
        assert_eq!(of(0.4, 0.05), Advice::OptimumPoor);
        assert_eq!(of(-0.3, 0.0), Advice::OptimumPoor, "even the moving weights beat the best fixed ones");
        assert_eq!(of(0.7, 0.1), Advice::Neither);
        assert_eq!(of(0.7, 0.5), Advice::Uncertain, "the true regret may be large");
        assert_eq!(of(0.4, 0.5), Advice::Uncertain, "or neither");
    }

    #[test]
    fn neurons_are_named_up_to_a_number() {
        assert_eq!(named(&[], 9), "0 of 9");
        assert_eq!(named(&[4, 7], 9), "2 of 9: 4, 7");
        assert_eq!(named(&[0, 1, 2, 3, 4, 5, 6], 9), "7 of 9: 0, 1, 2, 3, …");
    }
}
