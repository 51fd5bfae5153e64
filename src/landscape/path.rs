//! The function along a segment: outputs, losses and slopes, exact on every piece.

use super::{Kink, Pieces};
use crate::loss::{Loss, softmax_into};

/// What the outputs along a segment are compared with.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Values `y + t v`, for the mean squared error; `step` is `v`, `None` if they rest.
    Values { at: &'a [f64], step: Option<&'a [f64]> },
    /// A class, for cross-entropy.
    Label(u32),
}

/// All kinks of a segment and the network's outputs between them.
///
/// Between two neighbouring kinks every output is a polynomial in the segment's parameter: a line, unless the weights
/// of several layers move.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// In the order of the segment; at one point in the order of layers and units.
    pub kinks: Vec<Kink>,
    outputs: Pieces,
}

impl Path {
    pub(super) fn new(kinks: Vec<Kink>, outputs: Pieces) -> Self {
        Self { kinks, outputs }
    }

    /// Bytes that are counted for it: its vectors have grown, so that they may have twice the room that they need.
    pub fn bytes(&self) -> usize {
        2 * (self.kinks.len() * size_of::<Kink>() + self.outputs.bytes())
    }

    /// The kinks, which it has no longer then.
    pub(super) fn take_kinks(&mut self) -> Vec<Kink> {
        std::mem::take(&mut self.kinks)
    }

    /// The outputs on each piece.
    pub fn outputs(&self) -> &Pieces {
        &self.outputs
    }

    /// The outputs at `t` and their derivatives along the segment, from the piece on its right at a kink.
    pub fn at(&self, t: f64) -> (Vec<f64>, Vec<f64>) {
        self.on(self.outputs.find(t), t)
    }

    /// The same from a chosen piece, which matters at kinks.
    pub fn on(&self, piece: usize, t: f64) -> (Vec<f64>, Vec<f64>) {
        let (mut value, mut slope) = (Vec::new(), Vec::new());
        self.outputs.evaluate(piece, t, &mut value, &mut slope);
        (value, slope)
    }

    /// The loss at `t` and its derivative along the segment, from a chosen piece.
    ///
    /// # Panics
    /// If the target does not belong to the loss.
    pub fn loss_on(&self, piece: usize, t: f64, loss: Loss, target: Target) -> (f64, f64) {
        let (f, df) = self.on(piece, t);
        loss_along(loss, &f, &df, target, t)
    }
}

/// A loss and its derivative as outputs `f` move with velocity `df` and targets with theirs.
///
/// # Panics
/// If the target does not belong to the loss.
pub fn loss_along(loss: Loss, f: &[f64], df: &[f64], target: Target, t: f64) -> (f64, f64) {
    match (loss, target) {
        (Loss::Mse, Target::Values { at, step }) => {
            let (mut value, mut slope) = (0.0, 0.0);
            for (k, (f, df)) in f.iter().zip(df).enumerate() {
                let velocity = step.map_or(0.0, |step| step[k]);
                let error = f - (at[k] + t * velocity);
                value += error * error;
                slope += 2.0 * error * (df - velocity);
            }
            (value / f.len() as f64, slope / f.len() as f64)
        }
        (Loss::CrossEntropy, Target::Label(label)) => {
            let mut p = Vec::with_capacity(f.len());
            let value = softmax_into(f, &mut p) - f[label as usize];
            let slope: f64 = p.iter().zip(df).map(|(p, df)| p * df).sum();
            (value, slope - df[label as usize])
        }
        _ => panic!("the target does not belong to the loss {}", loss.name()),
    }
}
