//! Where regret lies: the layers of each network, ranked as far as their certificates allow.
//!
//! The regret of a layer is what the best fixed weights of that layer alone would have saved in the regions that
//! training visited (`docs/theory.md`, section 3). Layers are ranked among themselves; what share is normal is not
//! known, so nothing is called large or poor, and no remedy is named.

use super::{
    certified::{self, share_in_words},
    figure::{Context, Series},
};
use crate::study::{
    enclosure::Enclosure,
    tables::{Scale, UnitRow},
};

/// One layer with its regret.
struct Layer {
    layer: usize,
    regret: Enclosure,
    loss: f64,
}

/// A sentence for each optimizer with regret at layer scale, after its name.
pub fn sentences(context: &Context) -> Vec<(String, String)> {
    let of = |series: &Series| Some((series.name.clone(), sentence(&layers(context, series))?));
    context.series.iter().filter_map(of).collect()
}

fn layers(context: &Context, series: &Series) -> Vec<Layer> {
    let layer = |unit: &UnitRow| {
        let regret = certified::regret(unit.mean_loss, unit.taylor_optimum, unit.gap);
        let usable = unit.mean_loss > 0.0 && regret.low.is_finite() && regret.high.is_finite();
        usable.then_some(Layer { layer: unit.layer?, regret, loss: unit.mean_loss })
    };
    series.tables.units_at(Scale::Layer, context.comparator).filter_map(layer).collect()
}

/// `None` unless there are layers to compare.
fn sentence(layers: &[Layer]) -> Option<String> {
    let share = |layer: &Layer| share_in_words(layer.regret, layer.loss);
    let top = layers.iter().max_by(|a, b| a.regret.low.total_cmp(&b.regret.low).then(b.layer.cmp(&a.layer)))?;
    if layers.len() < 2 {
        return None;
    }
    // Whose regret may be the largest, for all that is certified.
    let mut rivals: Vec<&Layer> = layers.iter().filter(|layer| layer.regret.high >= top.regret.low).collect();
    if rivals.len() > 1 {
        rivals.sort_by_key(|layer| layer.layer);
        let names: Vec<String> = rivals.iter().map(|layer| format!("{} ({})", layer.layer, share(layer))).collect();
        let all = if rivals.len() == layers.len() { "no layer stands out" } else { "which of them is not decided" };
        return Some(format!(
            "The largest regret of any single layer is that of one of layers {}; {all}, as the certificates overlap.",
            names.join(", ")
        ));
    }
    let mut next: Vec<&Layer> = layers.iter().filter(|layer| layer.layer != top.layer).collect();
    next.sort_by(|a, b| b.regret.high.total_cmp(&a.regret.high).then(a.layer.cmp(&b.layer)));
    let bound = next.iter().map(|layer| layer.regret.high / layer.loss).fold(f64::NEG_INFINITY, f64::max);
    let bound = super::certified::percent_at_most(bound);
    let of_loss = if top.regret.high <= 0.0 { " of the loss, below zero as all others" } else { " of the loss" };
    Some(format!(
        "Layer {} has the largest regret of any single layer: {}{of_loss}; every other has at most {bound}.",
        top.layer,
        share(top)
    ))
}

/// What the ranking means.
pub const MEANING: &str = "The regret of a layer is what the best fixed weights of this layer alone would have \
                           saved, in the regions that training visited. The regrets of layers do not add up to that \
                           of the network.";

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(layer: usize, low: f64, high: f64) -> Layer {
        Layer { layer, regret: Enclosure::new(low, high), loss: 2.0 }
    }

    #[test]
    fn the_largest_regret_is_named_where_it_is_certain() {
        let text = sentence(&[layer(0, 0.02, 0.04), layer(2, 0.2, 0.22), layer(4, 0.01, 0.1)]).unwrap();
        assert_eq!(
            text,
            "Layer 2 has the largest regret of any single layer: 10% to 11% of the loss; every other has at most 5.0%."
        );
    }

    #[test]
    fn layers_whose_certificates_overlap_are_not_ranked() {
        let text = sentence(&[layer(0, 0.02, 0.3), layer(2, 0.2, 0.22), layer(4, 0.01, 0.1)]).unwrap();
        assert!(text.contains("one of layers 0 (1.0% to 15%), 2 (10% to 11%); which of them is not decided"), "{text}");
        let text = sentence(&[layer(0, 0.0, 2.0), layer(2, 0.0, 2.0)]).unwrap();
        assert!(text.contains("no layer stands out"), "{text}");
    }

    #[test]
    fn a_single_layer_is_not_ranked() {
        assert_eq!(sentence(&[layer(0, 0.1, 0.2)]), None);
        assert_eq!(sentence(&[]), None);
    }
}
