//! A basis with the tangents of the outputs along it.

use super::{
    gram_schmidt::orthogonalize,
    long_vectors::{combine, dots},
};
use crate::{
    num::{convert, norm},
    taylor::objective::ByOutputs,
};

/// Points that a reduced basis keeps at most.
const KEPT: usize = 12;
/// A vector is new if at least this share of it lies outside of the span: below it, cancellation would leave mostly rounding error.
const NEW: f64 = 1e-6;
/// Where more than this share of a vector is left, one orthogonalization is enough (Daniel, Gragg, Kaufman and Stewart 1976).
const ONCE_IS_ENOUGH: f64 = 0.7;

/// Orthonormal directions `B`, rounded to `f32`, each with the tangents `J b` of the rounded direction.
pub struct Span {
    capacity: usize,
    basis: Vec<Vec<f32>>,
    /// Each `[rows, outputs]`.
    tangents: Vec<Vec<f32>>,
    /// Rounds that the tangents are of.
    rounds: usize,
    /// Rounds up to which displacements of training were taken in.
    displaced: usize,
    /// Coordinates of the last points, the latest last.
    points: Vec<Vec<f64>>,
}

impl Span {
    /// An empty one that holds at most `capacity` vectors (at least a few dozen).
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(3 * KEPT);
        Self { capacity, basis: Vec::new(), tangents: Vec::new(), rounds: 0, displaced: 0, points: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.basis.len()
    }

    pub(super) fn tangents(&self) -> &[Vec<f32>] {
        &self.tangents
    }

    /// Coordinates of the last point that was remembered.
    pub(super) fn last_point(&self) -> Vec<f64> {
        let mut point = self.points.last().cloned().unwrap_or_default();
        point.resize(self.len(), 0.0);
        point
    }

    pub(super) fn remember(&mut self, h: &[f64]) {
        self.points.push(h.to_vec());
        if self.points.len() > KEPT {
            self.points.remove(0);
        }
    }

    /// `B h`, of a dimension.
    pub(super) fn point(&self, h: &[f64], dimension: usize) -> Vec<f64> {
        let mut u = vec![0.0; dimension];
        combine(&self.basis, h, 1.0, &mut u);
        u
    }

    /// `J B h`.
    pub(super) fn outputs(&self, h: &[f64], count: usize) -> Vec<f64> {
        let mut outputs = vec![0.0; count];
        combine(&self.tangents, h, 1.0, &mut outputs);
        outputs
    }

    /// `(J B)' c`, from the vector `from` on.
    pub(super) fn slope(&self, from: usize, cotangents: &[f64]) -> Vec<f64> {
        dots(&self.tangents[from..], cotangents)
    }

    /// Brings the tangents to the objective's rounds, of which those before are the first. Returns the first round whose displacements are new.
    pub(super) fn advance(&mut self, objective: &dyn ByOutputs) -> Option<usize> {
        let (from, to) = (self.rounds, objective.rounds());
        self.rounds = to;
        if from != to && !self.basis.is_empty() {
            let directions: Vec<&[f32]> = self.basis.iter().map(|b| &b[..]).collect();
            let new = objective.tangents(from, &directions);
            self.tangents.iter_mut().zip(new).for_each(|(tangent, new)| tangent.extend(new));
        }
        // Not for every prefix: what tells of few new rounds is better spent on the residual.
        let displaced = self.displaced;
        (to >= 2 * displaced).then(|| {
            self.displaced = to;
            displaced
        })
    }

    /// Adds what is new in some directions; returns how many vectors that makes.
    pub(super) fn extend(
        &mut self,
        objective: &dyn ByOutputs,
        directions: impl IntoIterator<Item = Vec<f64>>,
    ) -> usize {
        let before = self.len();
        for direction in directions {
            self.basis.extend(self.new_part(direction));
        }
        let new: Vec<&[f32]> = self.basis[before..].iter().map(|b| &b[..]).collect();
        if !new.is_empty() {
            let tangents = objective.tangents(0, &new);
            self.tangents.extend(tangents);
        }
        self.len() - before
    }

    /// Whether so many vectors more would be too many.
    pub(super) fn is_full_with(&self, more: usize) -> bool {
        self.len() + more > self.capacity
    }

    /// Makes room by keeping only the span of the last points; as tangents are linear, this needs no new ones. The latest point has all of its
    /// length along the first vector.
    pub(super) fn reduce(&mut self) {
        let mut kept: Vec<Vec<f64>> = Vec::new();
        for point in self.points.iter().rev() {
            let mut h = point.clone();
            h.resize(self.len(), 0.0);
            let before = norm(&h);
            orthogonalize(kept.iter().map(|q| &q[..]), &mut h);
            let length = norm(&h);
            if length > NEW * before {
                h.iter_mut().for_each(|h| *h /= length);
                kept.push(h);
            }
        }
        let combined = |vectors: &[Vec<f32>]| -> Vec<Vec<f32>> {
            let one = |h: &Vec<f64>| {
                let mut out = vec![0.0; vectors[0].len()];
                combine(vectors, h, 1.0, &mut out);
                convert(&out)
            };
            kept.iter().map(one).collect()
        };
        let latest = self.points.last().map_or(0.0, |h| norm(h));
        (self.basis, self.tangents) = (combined(&self.basis), combined(&self.tangents));
        self.points = vec![vec![latest]];
    }

    /// What is new in a direction, of length 1; `None` if nothing is.
    ///
    /// Classical Gram-Schmidt, as the vectors are long: all inner products are taken in one go.
    fn new_part(&self, mut v: Vec<f64>) -> Option<Vec<f32>> {
        let before = norm(&v);
        if !(before > 0.0 && before.is_finite()) {
            return None;
        }
        v.iter_mut().for_each(|v| *v /= before);
        for _ in 0..2 {
            let overlaps = dots(&self.basis, &v);
            combine(&self.basis, &overlaps, -1.0, &mut v);
            let length = norm(&v);
            if length < NEW {
                return None;
            }
            v.iter_mut().for_each(|v| *v /= length);
            if length > ONCE_IS_ENOUGH {
                break;
            }
        }
        Some(convert(&v))
    }
}
