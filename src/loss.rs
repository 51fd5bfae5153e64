//! The losses: value, gradient and curvature in the network's output.
//!
//! Both are convex and smooth in the output `f` (`docs/theory.md`, section 1). With `K` outputs:
//!
//! | loss | value | gradient in `f` | Hessian in `f` |
//! |---|---|---|---|
//! | mean squared error | `sum_k (f_k - y_k)^2 / K` | `2 (f - y) / K` | `(2 / K) I` |
//! | cross-entropy | `log sum_k exp f_k - f_y` | `p - e_y`, `p = softmax f` | `diag p - p p'` |
//!
//! The loss of a minibatch is the mean over its datapoints.

use crate::{kernels::factor::Factor, num::Real};
use serde::{Deserialize, Serialize};

/// Numbers that several loops go over before the next ones.
const PIECE: usize = 1 << 11;

/// Which loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    Mse,
    CrossEntropy,
}

/// What a loss is called: one of ours, or one that only the model that was trained knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LossName {
    Known(Loss),
    Other(String),
}

impl LossName {
    /// The word for it in files.
    pub fn name(&self) -> &str {
        match self {
            LossName::Known(loss) => loss.name(),
            LossName::Other(name) => name,
        }
    }
}

impl From<Loss> for LossName {
    fn from(loss: Loss) -> Self {
        LossName::Known(loss)
    }
}

/// What the outputs are compared with.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a, T> {
    /// `[rows, outputs]`, for the mean squared error.
    Values(&'a [T]),
    /// `[rows]` class indices below the number of outputs, for cross-entropy.
    Labels(&'a [u32]),
}

impl<'a, T> Targets<'a, T> {
    /// The targets of a range of rows.
    pub fn rows(self, rows: std::ops::Range<usize>, outputs: usize) -> Self {
        match self {
            Targets::Values(v) => Targets::Values(&v[rows.start * outputs..rows.end * outputs]),
            Targets::Labels(l) => Targets::Labels(&l[rows]),
        }
    }
}

impl Loss {
    pub fn name(self) -> &'static str {
        match self {
            Loss::Mse => "mse",
            Loss::CrossEntropy => "cross_entropy",
        }
    }

    /// Whether the loss is quadratic in the output, so that its curvature is the same everywhere.
    pub fn is_quadratic(self) -> bool {
        self == Loss::Mse
    }

    /// The sum of the losses of all rows, and `gradient = scale * d loss / d f`, both `[rows, outputs]`.
    ///
    /// # Panics
    /// If the kind of targets does not belong to the loss (checked when an experiment is resolved).
    pub fn value_gradient<T: Real>(
        self,
        f: &[T],
        outputs: usize,
        targets: Targets<T>,
        scale: T,
        gradient: &mut Vec<T>,
    ) -> f64 {
        match (self, targets) {
            (Loss::Mse, Targets::Values(y)) => {
                let factor = T::from_f64(2.0 / outputs as f64) * scale;
                gradient.resize(f.len(), T::ZERO);
                crate::num::vectorized(
                    #[inline(always)]
                    || {
                        let mut total = 0.0;
                        // In pieces that stay in the first-level cache from loop to loop.
                        for ((g, f), y) in gradient.chunks_mut(PIECE).zip(f.chunks(PIECE)).zip(y.chunks(PIECE)) {
                            g.iter_mut().zip(f.iter().zip(y)).for_each(|(g, (f, y))| *g = *f - *y);
                            total += crate::num::sum_of_squares(g);
                            g.iter_mut().for_each(|g| *g *= factor);
                        }
                        total / outputs as f64
                    },
                )
            }
            (Loss::CrossEntropy, Targets::Labels(labels)) => {
                gradient.clear();
                let mut total = 0.0;
                for (f, label) in f.chunks_exact(outputs).zip(labels) {
                    let start = gradient.len();
                    let log_sum = softmax_into(f, gradient);
                    total += log_sum - f[*label as usize].to_f64();
                    let p = &mut gradient[start..];
                    p[*label as usize] -= T::ONE;
                    p.iter_mut().for_each(|p| *p *= scale);
                }
                total
            }
            _ => panic!("the targets do not belong to the loss {}", self.name()),
        }
    }

    /// Multiplies `direction: [rows, outputs]` in place by the Hessian at the outputs `f`, times `scale`.
    pub fn apply_hessian<T: Real>(self, f: &[T], outputs: usize, scale: T, direction: &mut [T]) {
        match self {
            Loss::Mse => {
                let factor = T::from_f64(2.0 / outputs as f64) * scale;
                direction.iter_mut().for_each(|d| *d *= factor);
            }
            Loss::CrossEntropy => {
                let mut p = Vec::with_capacity(outputs);
                for (f, d) in f.chunks_exact(outputs).zip(direction.chunks_exact_mut(outputs)) {
                    p.clear();
                    softmax_into(f, &mut p);
                    multiply_covariance(&p, scale, d);
                }
            }
        }
    }

    /// The rows of a factor `R` of the Hessian at the outputs `f: [rows, outputs]`, `R' R = H`: `[rows, outputs, outputs]`.
    pub fn hessian_rows<T: Real>(self, f: &[T], outputs: usize) -> Vec<T> {
        let mut storage = Vec::new();
        if let Factor::Identity { scale } = self.hessian_factor(f, outputs, &mut storage) {
            let unit = |at: usize| if at / outputs % outputs == at % outputs { scale } else { T::ZERO };
            return (0..f.len() * outputs).map(unit).collect();
        }
        storage
    }

    /// A factor `R` of the Hessian at the outputs `f: [rows, outputs]`, `R' R = H`: for MSE `sqrt(2/K) I`, shared by
    /// all rows; for cross-entropy `diag(sqrt p) (I - 1 p')` per row, kept in `storage`.
    pub fn hessian_factor<'a, T: Real>(self, f: &[T], outputs: usize, storage: &'a mut Vec<T>) -> Factor<'a, T> {
        storage.clear();
        match self {
            Loss::Mse => Factor::Identity { scale: T::from_f64((2.0 / outputs as f64).sqrt()) },
            Loss::CrossEntropy => {
                let mut p = Vec::with_capacity(outputs);
                for f in f.chunks_exact(outputs) {
                    p.clear();
                    softmax_into(f, &mut p);
                    for k in 0..outputs {
                        let root = p[k].sqrt();
                        storage.extend(p.iter().enumerate().map(|(j, p)| {
                            let unit = if j == k { T::ONE } else { T::ZERO };
                            root * (unit - *p)
                        }));
                    }
                }
                Factor::PerRow { values: storage, rank: outputs }
            }
        }
    }
}

/// Multiplies `direction` in place by `scale (diag p - p p')`, the Hessian of the cross-entropy of a datapoint where `p` is the softmax.
#[inline(always)]
pub fn multiply_covariance<T: Real>(p: &[T], scale: T, direction: &mut [T]) {
    // Relative to the most likely class, where a softmax that is all but saturated would lose what is left to rounding.
    let top = (1..p.len()).fold(0, |top, k| if p[k] > p[top] { k } else { top });
    let (top, mut mean) = (direction[top], T::ZERO);
    for (p, d) in p.iter().zip(direction.iter_mut()) {
        *d -= top;
        mean += *p * *d;
    }
    for (p, d) in p.iter().zip(direction) {
        *d = scale * *p * (*d - mean);
    }
}

/// Appends `softmax(f)` to `out` and returns `log sum exp f`, both safe for large outputs.
pub fn softmax_into<T: Real>(f: &[T], out: &mut Vec<T>) -> f64 {
    let top = f.iter().copied().fold(f[0], |a, b| if b > a { b } else { a });
    let start = out.len();
    let mut sum = T::ZERO;
    for v in f {
        let e = (*v - top).exp();
        sum += e;
        out.push(e);
    }
    out[start..].iter_mut().for_each(|e| *e = *e / sum);
    top.to_f64() + sum.to_f64().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases() -> [(Loss, Vec<f64>, Vec<u32>); 2] {
        [(Loss::Mse, vec![0.3, -0.2, 1.0, 0.0, 0.5, -1.0], vec![]), (Loss::CrossEntropy, vec![], vec![2, 0])]
    }

    fn targets<'a>(y: &'a [f64], labels: &'a [u32]) -> Targets<'a, f64> {
        if labels.is_empty() { Targets::Values(y) } else { Targets::Labels(labels) }
    }

    #[test]
    fn gradient_and_hessian_agree_with_finite_differences() {
        let f = vec![0.1, 2.0, -0.7, 1.1, 0.4, 0.2];
        let h = 1e-6;
        for (loss, y, labels) in cases() {
            let mut gradient = Vec::new();
            loss.value_gradient(&f, 3, targets(&y, &labels), 1.0, &mut gradient);
            for j in 0..6 {
                let at = |step: f64| {
                    let mut moved = f.clone();
                    moved[j] += step;
                    let mut g = Vec::new();
                    (loss.value_gradient(&moved, 3, targets(&y, &labels), 1.0, &mut g), g)
                };
                let ((up, g_up), (down, g_down)) = (at(h), at(-h));
                assert!((gradient[j] - (up - down) / (2.0 * h)).abs() < 1e-8);
                let mut column = vec![0.0; 6];
                column[j] = 1.0;
                loss.apply_hessian(&f, 3, 1.0, &mut column);
                for i in 0..6 {
                    assert!((column[i] - (g_up[i] - g_down[i]) / (2.0 * h)).abs() < 1e-8);
                }
            }
        }
    }

    #[test]
    fn the_factor_squares_to_the_hessian() {
        let f = vec![0.1, 2.0, -0.7];
        for (loss, ..) in cases() {
            let mut storage = Vec::new();
            let identity: Vec<f64> = (0..9).map(|i| if i % 4 == 0 { (2.0f64 / 3.0).sqrt() } else { 0.0 }).collect();
            let factor = match loss.hessian_factor(&f, 3, &mut storage) {
                Factor::PerRow { values, rank: 3 } => values,
                _ => &identity,
            };
            for j in 0..3 {
                let mut column = vec![0.0; 3];
                column[j] = 1.0;
                loss.apply_hessian(&f, 3, 1.0, &mut column);
                for (i, expected) in column.iter().enumerate() {
                    let entry: f64 = (0..3).map(|r| factor[r * 3 + i] * factor[r * 3 + j]).sum();
                    assert!((entry - expected).abs() < 1e-14);
                }
            }
        }
    }

    /// With `p = (1 - 2e, e, e)` the quadratic form of `(1, 0, 0)` is `2e (1 - 2e)`, which `1 - p p` has no digits left of in single precision.
    #[test]
    fn the_curvature_of_a_nearly_saturated_softmax_keeps_its_digits() {
        let e = 1e-9f32;
        let mut direction = [1.0f32, 0.0, 0.0];
        multiply_covariance(&[1.0, e, e], 1.0, &mut direction);
        assert!((direction[0] / (2.0 * e) - 1.0).abs() < 1e-6, "{direction:?}");
        assert!(direction[1..].iter().all(|d| (d / -e - 1.0).abs() < 1e-6), "{direction:?}");
    }

    #[test]
    fn cross_entropy_of_huge_outputs_is_finite() {
        let mut gradient = Vec::new();
        let value = Loss::CrossEntropy.value_gradient(&[1e4f32, -1e4], 2, Targets::Labels(&[1]), 1.0, &mut gradient);
        assert_eq!(value, 2e4);
        assert_eq!(gradient, [1.0, -1.0]);
    }
}
