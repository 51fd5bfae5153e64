//! Symmetric matrices in packed storage: half the memory, and half the time where reading it is the work.

use crate::num::{axpy, dot, vectorized};

/// A symmetric matrix, of which each row is kept from the diagonal on.
#[derive(Clone, Debug)]
pub struct Symmetric {
    width: usize,
    /// `width * (width + 1) / 2` numbers.
    entries: Vec<f64>,
}

impl Symmetric {
    pub fn zeros(width: usize) -> Self {
        Self { width, entries: vec![0.0; width * (width + 1) / 2] }
    }

    /// The matrix with these entries `(i, j)`, `i <= j`.
    pub fn from_fn(width: usize, entry: impl Fn(usize, usize) -> f64) -> Self {
        let entry = &entry;
        Self { width, entries: (0..width).flat_map(|i| (i..width).map(move |j| entry(i, j))).collect() }
    }

    /// The matrix whose rows, each from the diagonal on, are `entries`.
    ///
    /// # Panics
    /// If there are not `width * (width + 1) / 2` of them.
    pub fn from_rows(width: usize, entries: Vec<f64>) -> Self {
        assert_eq!(entries.len(), width * (width + 1) / 2, "not the rows of a matrix of width {width}");
        Self { width, entries }
    }

    pub fn width(&self) -> usize {
        self.width
    }

    fn start(&self, i: usize) -> usize {
        i * (2 * self.width + 1 - i) / 2
    }

    /// Row `i` from the diagonal on.
    pub fn row(&self, i: usize) -> &[f64] {
        &self.entries[self.start(i)..][..self.width - i]
    }

    /// Row `i` from the diagonal on.
    pub fn row_mut(&mut self, i: usize) -> &mut [f64] {
        let start = self.start(i);
        &mut self.entries[start..][..self.width - i]
    }

    /// Entry `(i, j)`.
    pub fn get(&self, i: usize, j: usize) -> f64 {
        self.row(i.min(j))[i.abs_diff(j)]
    }

    /// The product with a vector.
    pub fn apply(&self, v: &[f64]) -> Vec<f64> {
        assert_eq!(v.len(), self.width, "the vector has another length");
        let mut out = vec![0.0; self.width];
        vectorized(
            #[inline(always)]
            || {
                let mut rest = &self.entries[..];
                for (i, factor) in v.iter().enumerate() {
                    let (row, below) = rest.split_at(self.width - i);
                    rest = below;
                    out[i] += row[0] * factor + dot(&row[1..], &v[i + 1..]);
                    axpy(*factor, &row[1..], &mut out[i + 1..]);
                }
            },
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_entries_are_those_of_the_matrix() {
        for width in [0, 1, 2, 7, 40] {
            let entry = |i: usize, j: usize| (i * j) as f64 + ((i + j) as f64).sin();
            let matrix = Symmetric::from_fn(width, entry);
            let v: Vec<f64> = (0..width).map(|i| (i as f64).cos()).collect();
            for (i, product) in matrix.apply(&v).into_iter().enumerate() {
                let expected: f64 = (0..width).map(|j| entry(i, j) * v[j]).sum();
                assert!((product - expected).abs() < 1e-11 * (1.0 + expected.abs()), "{width} {i}");
                (0..width).for_each(|j| assert_eq!(matrix.get(i, j), entry(i, j)));
                assert_eq!(matrix.row(i)[0], entry(i, i));
            }
            let mut other = Symmetric::zeros(width);
            (0..width).for_each(|i| other.row_mut(i).copy_from_slice(matrix.row(i)));
            assert_eq!(other.entries, matrix.entries);
            assert_eq!(Symmetric::from_rows(width, other.entries.clone()).entries, matrix.entries);
        }
    }
}
