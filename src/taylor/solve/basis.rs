//! The basis of a subspace with its products with the curvature.

use super::{
    gram_schmidt::orthogonalize,
    hessian::Hessian,
    long_vectors::{combine, dots, inner_products},
};
use crate::{
    kernels::Symmetric,
    num::{convert, dot, norm},
    taylor::objective::{Direction, Objective},
};
use rayon::prelude::*;

/// Best points that a reduced basis keeps at most: those of the last prefixes.
const KEPT: usize = 12;
/// A vector is new if at least this share of it lies outside of the span: below it, cancellation would leave mostly rounding error.
const NEW: f64 = 1e-6;
/// A known product is orthogonalized along with its direction if at least this share of the direction is new: below it, its error would
/// grow too much.
const MOSTLY_KNOWN: f64 = 0.1;
/// Where more than this share of a vector is left, one orthogonalization is enough (Daniel, Gragg, Kaufman and Stewart 1976).
const ONCE_IS_ENOUGH: f64 = 0.7;

/// Orthonormal directions `B` with their products `Y = HB`. Rounded to `f32`, each with the product of the rounded direction;
/// all inner products are in `f64`.
pub struct Subspace {
    /// Basis vectors kept at most. A search begins with at least half of that free: a fuller basis is first reduced to
    /// the best points found with it.
    capacity: usize,
    basis: Vec<Vec<f32>>,
    products: Vec<Vec<f32>>,
    /// `B' H B` and `(H B)' (H B)`, rows of growing length (lower triangles).
    curvature: Vec<Vec<f64>>,
    squares: Vec<Vec<f64>>,
    /// Rounds that the products are over.
    rounds: usize,
    /// Rounds up to which the basis knows the mean displacement of training.
    displaced: usize,
    /// Coordinates of the best points of the searches so far, the latest last.
    best: Vec<Vec<f64>>,
}

impl Subspace {
    /// An empty subspace that holds at most `capacity` vectors (at least a few dozen).
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(3 * KEPT),
            basis: Vec::new(),
            products: Vec::new(),
            curvature: Vec::new(),
            squares: Vec::new(),
            rounds: 0,
            displaced: 0,
            best: Vec::new(),
        }
    }

    /// Forgets everything: the curvature is now another, over this many `rounds`.
    pub(super) fn restart(&mut self, rounds: usize) {
        *self = Self { rounds, ..Self::new(self.capacity) };
    }

    pub(super) fn len(&self) -> usize {
        self.basis.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// `B' H B`.
    pub(super) fn hessian(&self) -> Hessian {
        Hessian::for_few_multipliers(Symmetric::from_fn(self.len(), |i, j| self.curvature[j][i]))
    }

    /// Element of `B' H B`, for `j <= i`.
    pub(super) fn curvature(&self, i: usize, j: usize) -> f64 {
        self.curvature[i][j]
    }

    /// Element of `Y'Y`, for `j <= i`.
    pub(super) fn square(&self, i: usize, j: usize) -> f64 {
        self.squares[i][j]
    }

    /// `|Y h|^2 + 2 <y, h> + constant`, which is `|Y h + g|^2` for `y = Y'g` and `constant = |g|^2`.
    pub(super) fn residual_square(&self, y: &[f64], constant: f64, h: &[f64]) -> f64 {
        let mut square = constant + 2.0 * dot(y, h);
        for (i, row) in self.squares.iter().enumerate() {
            square += 2.0 * h[i] * dot(&row[..i], &h[..i]) + row[i] * h[i] * h[i];
        }
        square
    }

    /// `B' v`, from the vector `from` on.
    pub(super) fn coordinates(&self, from: usize, v: &[f64]) -> Vec<f64> {
        dots(&self.basis[from..], v)
    }

    /// `Y' v`, from the vector `from` on.
    pub(super) fn product_coordinates(&self, from: usize, v: &[f64]) -> Vec<f64> {
        dots(&self.products[from..], v)
    }

    /// `out += factor B h`, with zeros for the coordinates that `h` lacks.
    pub(super) fn add(&self, h: &[f64], factor: f64, out: &mut [f64]) {
        combine(&self.basis, h, factor, out);
    }

    /// `out += factor Y h`.
    pub(super) fn add_product(&self, h: &[f64], factor: f64, out: &mut [f64]) {
        combine(&self.products, h, factor, out);
    }

    /// The rounds from which on the mean displacement of training is to be taken in, if it is. Not for every prefix: a product that tells of
    /// few new rounds is better spent on the residual.
    pub(super) fn new_displacement(&mut self, rounds: usize) -> Option<usize> {
        let from = self.displaced;
        (rounds >= 2 * from).then(|| {
            self.displaced = rounds;
            from
        })
    }

    /// Brings the products to the objective's rounds, of which those before are the first.
    pub(super) fn advance(&mut self, objective: &dyn Objective) {
        let (from, to) = (self.rounds, objective.rounds());
        self.rounds = to;
        if from == to || self.basis.is_empty() {
            return;
        }
        let keep = (from as f64 / to as f64) as f32;
        let directions: Vec<&[f32]> = self.basis.iter().map(|b| &b[..]).collect();
        let new = objective.ggn_products(from, &directions);
        self.products.par_iter_mut().zip(new).for_each(|(product, new)| {
            product.iter_mut().zip(&new).for_each(|(old, new)| *old = keep * *old + new);
        });
        self.measure();
    }

    /// Makes room by keeping only the span of the latest best points; as products are linear, this needs no new ones.
    pub(super) fn reduce(&mut self) {
        if 2 * self.len() <= self.capacity {
            return;
        }
        let kept = self.best_coordinates();
        let combined = |vectors: &[Vec<f32>]| -> Vec<Vec<f32>> {
            let one = |h: &Vec<f64>| {
                let mut out = vec![0.0; vectors[0].len()];
                combine(vectors, h, 1.0, &mut out);
                convert(&out)
            };
            kept.iter().map(one).collect()
        };
        (self.basis, self.products) = (combined(&self.basis), combined(&self.products));
        self.measure();
        self.best.clear();
        self.best.extend((0..kept.len()).rev().map(|i| {
            let mut unit = vec![0.0; kept.len()];
            unit[i] = 1.0;
            unit
        }));
    }

    /// Orthonormal coordinates of the best points, the latest first; a point in the span of later ones adds nothing.
    fn best_coordinates(&self) -> Vec<Vec<f64>> {
        let mut kept: Vec<Vec<f64>> = Vec::new();
        for point in self.best.iter().rev() {
            let mut h = point.clone();
            h.resize(self.len(), 0.0);
            let before = norm(&h);
            orthogonalize(kept.iter().map(|q| &q[..]), &mut h);
            let length = norm(&h);
            if length > NEW * before && kept.len() < KEPT {
                h.iter_mut().for_each(|h| *h /= length);
                kept.push(h);
            }
        }
        kept
    }

    /// Computes the inner products of all vectors.
    fn measure(&mut self) {
        self.curvature = inner_products(&self.basis, &self.products);
        self.squares = inner_products(&self.products, &self.products);
    }

    /// Remembers a point as worth keeping.
    pub(super) fn remember(&mut self, h: &[f64]) {
        self.best.push(h.to_vec());
        if self.best.len() > 2 * KEPT {
            self.best.remove(0);
        }
    }

    /// Orthogonalizes a direction against the basis and adds it with its product; `false` if it lies in the span already.
    pub(super) fn extend(&mut self, objective: &dyn Objective, direction: Direction) -> bool {
        let Some(NewDirection { vector, product }) = self.orthonormalized(direction) else { return false };
        let product = product.unwrap_or_else(|| objective.ggn_products(0, &[&vector]).swap_remove(0));
        let (wide_vector, wide_product): (Vec<f64>, Vec<f64>) = (convert(&vector), convert(&product));
        self.basis.push(vector);
        self.products.push(product);
        self.curvature.push(dots(&self.products, &wide_vector));
        self.squares.push(dots(&self.products, &wide_product));
        true
    }

    /// What is new in a direction, of length 1, with its product if that is known; `None` if nothing is.
    ///
    /// Classical Gram-Schmidt, as the vectors are long: all inner products are taken in one go.
    fn orthonormalized(&self, direction: Direction) -> Option<NewDirection> {
        let mut v = direction.vector;
        let before = norm(&v);
        if !(before > 0.0 && before.is_finite()) {
            return None;
        }
        // Products are linear: a known one goes along.
        let mut known: Option<Vec<f64>> = direction.product.map(|product| convert(&product));
        let scale = |v: &mut Vec<f64>, known: &mut Option<Vec<f64>>, length: f64| {
            v.iter_mut().chain(known.iter_mut().flatten()).for_each(|x| *x /= length);
        };
        scale(&mut v, &mut known, before);
        // The share of the direction that is new.
        let mut new = 1.0;
        for _ in 0..2 {
            let overlaps = self.coordinates(0, &v);
            self.add(&overlaps, -1.0, &mut v);
            if let Some(product) = &mut known {
                self.add_product(&overlaps, -1.0, product);
            }
            let length = norm(&v);
            if length < NEW {
                return None;
            }
            scale(&mut v, &mut known, length);
            new *= length;
            if length > ONCE_IS_ENOUGH {
                break;
            }
        }
        let product = known.filter(|_| new >= MOSTLY_KNOWN).map(|product| convert(&product));
        Some(NewDirection { vector: convert(&v), product })
    }
}

/// A direction that is orthogonal to a basis.
struct NewDirection {
    vector: Vec<f32>,
    product: Option<Vec<f32>>,
}
