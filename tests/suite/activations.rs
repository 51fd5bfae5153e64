//! Recorded configurations against the second engine.

use crate::common::{all_problems, plain::Plain};
use taylorscope::{
    activation::ActivationRecorder,
    network::{Activation, Operation},
};

/// Values nearer to 0 than this have a sign that rounding decides.
const ROUNDING: f64 = 1e-12;

/// What the signs are of, neuron by neuron as `[datapoints, positions]`: pre-activations, and what stands in front of rectifiers behind sums.
fn values(plain: &Plain, network: &taylorscope::network::Network, rows: usize) -> Vec<Vec<f64>> {
    let mut others = plain.rectified().into_iter();
    let (_, hidden) = network.nodes().split_last().unwrap();
    let mut all = Vec::new();
    for node in hidden {
        let (values, channels) = match node.operation {
            Operation::Block(l) => (plain.pre_activations(l), network.blocks()[l].units),
            Operation::Activation(Activation { rectifier: Some(_), .. }) => {
                let (values, channels) = others.next().expect("a rectifier of the second engine");
                (values, channels)
            }
            Operation::Activation(_) | Operation::Sum => continue,
        };
        assert_eq!(values.len() % (rows * channels), 0);
        all.extend((0..channels).map(|c| values.iter().skip(c).step_by(channels).copied().collect::<Vec<f64>>()));
    }
    assert!(others.next().is_none());
    all
}

#[test]
fn signs_are_recorded_of_every_hidden_neuron_and_behind_sums() {
    let (mut behind_sums, mut checked) = (0, 0);
    for problem in all_problems() {
        let mut recorder = ActivationRecorder::new(&problem.network, problem.inputs.clone(), 1);
        recorder.record(0, &problem.weights);
        let plain = Plain::new(&problem.network, &problem.weights, &problem.inputs);
        let (found, expected) = (&recorder.configurations, values(&plain, &problem.network, problem.rows));
        assert_eq!(found.neurons.len(), expected.len(), "{}", problem.name);
        behind_sums += expected.len() - problem.network.hidden_blocks().iter().map(|b| b.units).sum::<usize>();
        for (m, values) in expected.iter().enumerate() {
            assert_eq!(found.places(m), values.len(), "{}, neuron {m}", problem.name);
            for (at, value) in values.iter().enumerate().filter(|(_, value)| value.abs() > ROUNDING) {
                let bit = found.bits[m][at / 64] >> (at % 64) & 1;
                assert_eq!(bit == 1, *value > 0.0, "{}, neuron {m}, place {at}: {value}", problem.name);
                checked += 1;
            }
        }
    }
    assert!(behind_sums > 50 && checked > 1000, "{behind_sums} {checked}");
}
