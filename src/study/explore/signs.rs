//! RMS as sign: how near the directions that a minibatch gives come to the sign of the full gradient (`docs/theory.md`,
//! section 5).
//!
//! RProp steps by the sign of the full gradient. Its minibatch form divides the minibatch's gradient by the root of the
//! sum of squared per-example gradients. Both have the sign of the minibatch's gradient in every coordinate, so what
//! normalization changes is the *length* of the coordinates, which the cosine sees and the agreement of signs does not.

use crate::{
    loss::Loss,
    network::Network,
    num::Real,
    taylor::regret::log_spaced,
    train::{Examples, FullGradient, Observer, Round, sum_of_squared_gradients},
};
use serde::{Deserialize, Serialize};

/// Rounds at which directions are compared, log-spaced over the run.
const TIMES: usize = 16;

/// `signs.csv`: one layer in one round of a run at the tuned rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignRow {
    /// The optimizer that trains; the directions are computed from its rounds.
    pub optimizer: String,
    pub seed: u64,
    pub round: usize,
    /// Index in the layer list.
    pub layer: usize,
    /// Cosine of the sign of the full gradient with the minibatch's RMS-normalized gradient.
    pub cosine_rms: f64,
    /// With the minibatch's gradient.
    pub cosine_gradient: f64,
    /// With the sign of the minibatch's gradient.
    pub cosine_sign: f64,
    /// With the full gradient itself: what no plain gradient could exceed by seeing more data.
    pub cosine_full: f64,
    /// Fraction of the weights whose full gradient is not zero on which the signs of minibatch and full gradient agree; the
    /// same for all directions that a minibatch gives.
    pub sign_agreement: f64,
}

/// Watches a run and compares directions now and then.
pub struct SignWatcher<'a, T> {
    network: &'a Network,
    examples: Examples<'a, T>,
    full: FullGradient<'a, T>,
    squares: Vec<T>,
    times: Vec<usize>,
    rows: Vec<SignRow>,
}

impl<'a, T: Real> SignWatcher<'a, T> {
    /// For a run of `rounds` rounds on `examples`.
    pub fn new(network: &'a Network, loss: Loss, examples: Examples<'a, T>, rounds: usize) -> Self {
        Self {
            network,
            examples,
            full: FullGradient::new(network, loss, examples.len()),
            squares: vec![T::ZERO; network.parameters()],
            times: log_spaced(rounds, TIMES),
            rows: Vec::new(),
        }
    }

    /// The rows, of the run of `optimizer` from `seed`.
    pub fn into_rows(self, optimizer: &str, seed: u64) -> Vec<SignRow> {
        let name = |row: SignRow| SignRow { optimizer: optimizer.to_owned(), seed, ..row };
        self.rows.into_iter().map(name).collect()
    }
}

impl<T: Real> Observer<T> for SignWatcher<'_, T> {
    fn observe(&mut self, round: &Round<T>) {
        if self.times.binary_search(&round.number).is_err() {
            return;
        }
        let full = self.full.compute(round.weights, &self.examples);
        sum_of_squared_gradients(self.network, round.parts, &mut self.squares);
        for block in self.network.blocks() {
            let range = block.range();
            let comparison = compare(&full[range.clone()], &round.gradient[range.clone()], &self.squares[range]);
            let row = SignRow { round: round.number, layer: block.layer, ..comparison };
            self.rows.push(row);
        }
    }
}

/// The comparison of one layer's directions; names and places are left to the caller.
fn compare<T: Real>(full: &[T], gradient: &[T], squares: &[T]) -> SignRow {
    let mut sums = [Cosine::default(); 4];
    let (mut agreeing, mut signed) = (0usize, 0usize);
    for ((full, g), square) in full.iter().zip(gradient).zip(squares) {
        let (full, g, root) = (full.to_f64(), g.to_f64(), square.to_f64().sqrt());
        let sign = |x: f64| if x == 0.0 { 0.0 } else { x.signum() };
        let directions = [if root > 0.0 { g / root } else { 0.0 }, g, sign(g), full];
        sums.iter_mut().zip(directions).for_each(|(sum, direction)| sum.add(direction, sign(full)));
        if full != 0.0 {
            signed += 1;
            agreeing += usize::from(sign(g) == sign(full));
        }
    }
    let [cosine_rms, cosine_gradient, cosine_sign, cosine_full] = sums.map(Cosine::value);
    SignRow {
        optimizer: String::new(),
        seed: 0,
        round: 0,
        layer: 0,
        cosine_rms,
        cosine_gradient,
        cosine_sign,
        cosine_full,
        sign_agreement: agreeing as f64 / signed.max(1) as f64,
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Cosine {
    product: f64,
    squares: [f64; 2],
}

impl Cosine {
    fn add(&mut self, a: f64, b: f64) {
        self.product += a * b;
        self.squares[0] += a * a;
        self.squares[1] += b * b;
    }

    /// 0 where one of the two vectors is.
    fn value(self) -> f64 {
        let scale = (self.squares[0] * self.squares[1]).sqrt();
        if scale > 0.0 { self.product / scale } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_compared_with_the_sign_of_the_full_gradient() {
        let full = [2.0, -3.0, 0.0, 0.5];
        let gradient = [4.0, -1.0, 1.0, -2.0];
        let squares = [16.0, 1.0, 4.0, 16.0];
        let row = compare::<f64>(&full, &gradient, &squares);
        // Signs of the full gradient: 1, -1, 0, 1; normalized: 1, -1, 1/2, -1/2.
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-15, "{a} {b}");
        close(row.cosine_rms, (1.0 + 1.0 - 0.5) / (2.5_f64 * 3.0).sqrt());
        close(row.cosine_gradient, (4.0 + 1.0 - 2.0) / (22.0_f64 * 3.0).sqrt());
        close(row.cosine_sign, (1.0 + 1.0 - 1.0) / (4.0_f64 * 3.0).sqrt());
        close(row.cosine_full, 5.5 / (13.25_f64 * 3.0).sqrt());
        close(row.sign_agreement, 2.0 / 3.0);
        assert_eq!(compare::<f64>(&[0.0], &[1.0], &[1.0]).cosine_rms, 0.0);
    }

    #[test]
    fn where_all_examples_agree_the_normalized_gradient_is_the_sign() {
        // Every example has the gradient g / B, so the squares sum to g^2 / B.
        let gradient = [0.3, -7.0, 1e-6];
        let squares = gradient.map(|g: f64| g * g / 10.0);
        let row = compare::<f64>(&gradient, &gradient, &squares);
        assert!((row.cosine_rms - 1.0).abs() < 1e-15 && row.sign_agreement == 1.0);
        assert!(row.cosine_gradient < 0.7);
    }
}
