//! How the optima of a run are found, and what that takes of memory: decided once, from network, loss and settings.

use super::tables::Scale;
use crate::{
    data::RoundRows,
    kernels::gram::WeightedGram,
    loss::Loss,
    network::{Block, Network},
    taylor::{RegretSettings, chain::low_rank, room},
};

/// What a run is measured by, and so how its optima are found.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    network: &'a Network,
    loss: Loss,
    settings: &'a RegretSettings,
}

/// How optima are searched for after the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// In all rounds of the window, linearized at once.
    WholeWindow,
    /// By passes through the network, which linearize rounds again whenever they are needed.
    ByPasses,
}

/// How many rounds and datapoints are analysed.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    pub rounds: usize,
    /// Datapoints of all rounds.
    pub rows: usize,
    /// Datapoints of the largest.
    pub batch: usize,
}

impl Extent {
    /// Rounds of `batch` datapoints each.
    pub fn uniform(rounds: usize, batch: usize) -> Self {
        Self { rounds, rows: rounds.saturating_mul(batch), batch }
    }

    /// All of these rounds.
    pub fn of(rows: &RoundRows) -> Self {
        Self { rounds: rows.len(), rows: rows.rows().len(), batch: rows.largest() }
    }
}

/// Buffers of this many bytes are the program's own, and no matter of `--memory`.
pub(super) const OWN: usize = 32 << 20;

impl<'a> Plan<'a> {
    pub fn new(network: &'a Network, loss: Loss, settings: &'a RegretSettings) -> Self {
        Self { network, loss, settings }
    }

    /// Whether neurons are solved while rounds go by, from sums over all of them.
    pub fn streams(&self) -> bool {
        self.settings.streams(self.network, self.loss)
    }

    /// Whether the optima of a scale are searched for after the rounds.
    pub fn searches(&self, scale: Scale) -> bool {
        self.settings.has(scale) && !(scale == Scale::Neuron && self.streams())
    }

    /// Whether those of any scale are.
    pub fn searches_any(&self) -> bool {
        [Scale::Neuron, Scale::Layer, Scale::Network].into_iter().any(|scale| self.searches(scale))
    }

    /// Numbers of the rounds whose weights are kept for searches, of `planned` rounds.
    pub fn kept_rounds(&self, planned: usize) -> Vec<usize> {
        if !self.searches_any() {
            return Vec::new();
        }
        self.settings.sampled(self.settings.window.min(planned))
    }

    /// How to search in the kept rounds with `memory` bytes; the data has `inputs` numbers.
    pub fn strategy(&self, kept: Extent, inputs: usize, memory: usize) -> Strategy {
        if self.has_fast_path() && self.whole_window_bytes(kept, inputs) <= memory {
            Strategy::WholeWindow
        } else {
            Strategy::ByPasses
        }
    }

    /// Whether rounds of this network can be linearized at once.
    pub fn has_fast_path(&self) -> bool {
        self.network.is_dense_chain()
    }

    /// What the analysis keeps in memory while training goes on, in bytes: the weights of the kept rounds, and the sums of the closed form
    /// at neuron scale. `size` is that of a weight.
    pub fn observed_bytes(&self, planned: usize, size: usize) -> usize {
        let kept = self.kept_rounds(planned).len().saturating_mul(self.network.parameters() * size);
        kept.saturating_add(if self.streams() { self.stream_bytes() } else { 0 })
    }

    /// The sums of the closed form.
    fn stream_bytes(&self) -> usize {
        let last = self.network.output_index();
        let of = |(l, block): (usize, &Block)| {
            // All neurons of the output layer share one.
            let planes = if l == last { 1 } else { self.settings.selected(block.units).len() };
            WeightedGram::bytes(block.width(), planes)
        };
        self.network.blocks().iter().enumerate().map(of).sum()
    }

    /// What the linearization of these rounds takes, in bytes: weights and activations in `f64` and in `f32`, and for the mean squared
    /// error the products of the output layer's weights and inputs with themselves.
    fn window_bytes(&self, Extent { rounds, rows, .. }: Extent) -> usize {
        let network = self.network;
        let hidden: usize = network.hidden_blocks().iter().map(|block| block.features_out()).sum();
        let row = network.inputs() + 2 * hidden + network.outputs();
        let output = network.output_block();
        let squares =
            if self.loss.is_quadratic() { 2 * output.width() * output.width() + low_rank::numbers(output) } else { 0 };
        let per_round = network.parameters() + squares;
        let values = rounds.saturating_mul(per_round).saturating_add(rows.saturating_mul(row));
        values.saturating_mul(size_of::<f64>() + size_of::<f32>())
    }

    /// What the analysis of these rounds takes once they have gone by, in bytes, if all of them are linearized at once: that, the data
    /// and the weights in `f64`, preconditioners, and the bases of searches.
    fn whole_window_bytes(&self, kept: Extent, inputs: usize) -> usize {
        let wide = (inputs + kept.rounds * self.network.parameters()) * size_of::<f64>();
        let (basis, tangents) = (room::whole_basis(self.settings.max_products), self.tangents(kept));
        let basis = room::basis_bytes(self.network, self.settings, tangents, basis);
        let search = room::least_search_bytes(self.network, self.settings, kept.batch, tangents).saturating_add(basis);
        // Vectors that grow, and what is at work on a few rounds.
        let more = 4;
        let all = self.window_bytes(kept).saturating_add(wide);
        all.saturating_add(all / more).saturating_add(search)
    }

    fn tangents(&self, kept: Extent) -> usize {
        room::tangents(self.network, self.loss, kept.rows)
    }

    /// What searches in the kept ones of these rounds take at least, in bytes.
    fn least_search_bytes(&self, planned: Extent) -> usize {
        let kept = self.kept_rounds(planned.rounds).len();
        let rows = planned.rows.min(kept.saturating_mul(planned.batch));
        let tangents = self.tangents(Extent { rounds: kept, rows, ..planned });
        room::least_search_bytes(self.network, self.settings, planned.batch, tangents)
    }

    /// The least that an analysis needs of `--memory`, in bytes: what it keeps while rounds go by ([`Plan::observed_bytes`]), and either
    /// what the closed form at neuron scale works with meanwhile or what searches take afterwards.
    pub fn needed_bytes(&self, planned: Extent, size: usize) -> usize {
        let observed = self.observed_bytes(planned.rounds, size);
        let stream = if size == size_of::<f64>() {
            room::least_stream_bytes::<f64>(self.network, self.loss, self.settings)
        } else {
            room::least_stream_bytes::<f32>(self.network, self.loss, self.settings)
        };
        let search = if self.searches_any() { self.least_search_bytes(planned) } else { 0 };
        observed.max(observed.saturating_add(stream.max(search)).saturating_sub(OWN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{LayerSpec, Rectifier};

    fn autoencoder() -> Network {
        let dense = LayerSpec::dense;
        let relu = LayerSpec::Rectifier(Rectifier::Relu);
        let layers = [dense(50), relu, dense(30), relu, dense(20), relu, dense(30), relu, dense(50), relu, dense(784)];
        Network::new(784, &layers).unwrap()
    }

    #[test]
    fn the_autoencoder_of_the_paper_takes_what_it_was_seen_to_take() {
        let network = autoencoder();
        let settings = RegretSettings { window: 937, ..RegretSettings::default() };
        let plan = Plan::new(&network, Loss::Mse, &settings);
        let observed = plan.observed_bytes(937, 4);
        // 937 states of 82,434 weights; 50 neurons with 785^2 / 2 sums each, and little ones.
        let expected = 937 * network.parameters() * 4 + 56 * 785 * 785 * 4;
        assert!(observed >= expected && observed < expected + (8 << 20), "{observed} {expected}");
        let window = plan.window_bytes(Extent::uniform(937, 64));
        assert!((2usize << 30..3 << 30).contains(&window), "{window}");
    }

    #[test]
    fn rounds_of_any_size_take_what_their_datapoints_take() {
        let network = autoencoder();
        let settings = RegretSettings::default();
        let plan = Plan::new(&network, Loss::Mse, &settings);
        let bytes = |sizes: &[usize]| {
            let rows = RoundRows::of_sizes(vec![0; sizes.iter().sum()], sizes.iter().copied()).unwrap();
            plan.window_bytes(Extent::of(&rows))
        };
        assert_eq!(bytes(&[64; 3]), plan.window_bytes(Extent::uniform(3, 64)));
        assert_eq!(bytes(&[64, 64, 32]) + bytes(&[64, 64, 96]), 2 * bytes(&[64; 3]));
    }

    #[test]
    fn scales_are_searched_where_they_have_no_closed_form_that_streams() {
        let network = autoencoder();
        let settings = RegretSettings { scales: vec![Scale::Neuron], ..RegretSettings::default() };
        let [mse, entropy] = [Loss::Mse, Loss::CrossEntropy].map(|loss| Plan::new(&network, loss, &settings));
        assert!(mse.streams() && !mse.searches_any() && mse.kept_rounds(10).is_empty());
        assert!(!entropy.streams() && entropy.searches(Scale::Neuron) && !entropy.searches(Scale::Layer));
        assert_eq!(entropy.kept_rounds(3), [1, 2, 3]);
        let kept = Extent::uniform(10, 64);
        let needed = entropy.whole_window_bytes(kept, 0);
        assert_eq!(entropy.strategy(kept, 0, needed), Strategy::WholeWindow);
        assert_eq!(entropy.strategy(kept, 0, needed - 1), Strategy::ByPasses);
    }
}
