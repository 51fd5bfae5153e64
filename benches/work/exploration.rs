//! The three exploration metrics of recorded configurations.

use super::{Answer, answer, timed};
use anyhow::{Result, bail};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde_json::json;
use std::path::Path;
use taylorscope::{
    activation::{Configurations, Neuron, explore},
    kernels::bits::{gram, pack},
    trace::write::write_npy,
};

const ROUNDS: usize = 100;
const DATAPOINTS: usize = 60_000;
/// The hidden neurons of the autoencoder.
const UNITS: usize = 180;

/// Commands: `all` (novelty, switches, volumes), `gram` (the co-activation Gram matrices alone).
pub fn serve(folder: &Path) -> Result<()> {
    let all = configurations(ROUNDS, DATAPOINTS, UNITS);
    let words = all.words(0);
    write_npy(&folder.join("bits.npy"), &[UNITS as u64, ROUNDS as u64, words as u64], &all.bits.concat())?;
    answer(|command| match command {
        "all" => {
            let (seconds, (novelty, neurons)) = timed(|| explore(&all));
            let facts = json!({
                "novelty": novelty.iter().map(|row| row.min_hamming).collect::<Vec<_>>(),
                "switches": neurons.iter().map(|row| row.switches).collect::<Vec<_>>(),
                "log_volume": neurons.iter().map(|row| row.log_volume).collect::<Vec<_>>(),
            });
            Ok(Answer { seconds, facts })
        }
        "gram" => {
            let (seconds, sums) = timed(|| {
                let sum = |bits: &Vec<u64>| gram(bits, ROUNDS, words).iter().sum();
                all.bits.par_iter().map(sum).collect::<Vec<u64>>()
            });
            // A conjunction of words for every pair of rounds.
            let bytes = UNITS * ROUNDS * (ROUNDS + 1) / 2 * words * 8;
            Ok(Answer { seconds, facts: json!({"total": sums.iter().sum::<u64>(), "bytes": bytes}) })
        }
        _ => bail!("there is no command {command}"),
    })
}

/// Configurations that drift: a bit is on where a random number plus a random drift is above the neuron's threshold.
pub fn configurations(rounds: usize, datapoints: usize, units: usize) -> Configurations {
    let neuron = |m: usize| {
        let mut rng = ChaCha8Rng::seed_from_u64(m as u64);
        let threshold = rng.random_range(0.2..0.8f32);
        let places: Vec<[f32; 2]> =
            (0..datapoints).map(|_| [rng.random::<f32>() - threshold, rng.random_range(-0.3..0.3)]).collect();
        let row = |n: usize| {
            let time = n as f32 / rounds as f32;
            pack(datapoints, |i| places[i][0] + time * places[i][1] > 0.0)
        };
        (0..rounds).flat_map(row).collect()
    };
    Configurations {
        rounds: (0..rounds).collect(),
        datapoints,
        neurons: (0..units).map(|neuron| Neuron { layer: 0, neuron, positions: 1, rests: true }).collect(),
        bits: (0..units).into_par_iter().map(neuron).collect(),
    }
}
