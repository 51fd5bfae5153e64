//! Products of inputs that are mostly zero, such as images, with dense matrices: the inputs are kept as compressed sparse columns (CSC), by
//! blocks of rows.
//!
//! A dense product of such inputs multiplies zeros most of the time. Here an entry costs a few vector operations on rows that are in
//! the first-level cache, so a block has few rows.

use crate::num::{
    Real, convert,
    simd::{Simd, WithSimd, compiled_here, fused},
};
use std::ops::Range;

/// Share of entries that are not zero up to which products by columns are faster than dense ones.
pub const SPARSE: f64 = 0.3;

/// Some rows of a matrix: the entries that are not zero, column by column.
#[derive(Clone, Debug)]
pub struct Columns<T> {
    rows: usize,
    /// Columns without that of the constant 1.
    features: usize,
    /// Where each column's entries begin, and where the last one's end.
    starts: Vec<u32>,
    /// The entries' rows, increasing inside a column.
    indices: Vec<u8>,
    values: Vec<T>,
}

impl<T: Real> Columns<T> {
    /// Rows of a block at most.
    pub const ROWS: usize = 128;

    /// Of `x: [rows, features]`, with the constant 1 behind every row if `ones`.
    ///
    /// # Panics
    /// If there are more than [`Columns::ROWS`] rows.
    pub fn new(x: &[T], features: usize, ones: bool) -> Self {
        let rows = x.len() / features;
        assert!(rows <= Self::ROWS, "{rows} rows");
        let mut columns = Self { rows, features, starts: vec![0], indices: Vec::new(), values: Vec::new() };
        for j in 0..features + usize::from(ones) {
            for i in 0..rows {
                let value = if j < features { x[i * features + j] } else { T::ONE };
                if value != T::ZERO {
                    columns.indices.push(i as u8);
                    columns.values.push(value);
                }
            }
            columns.starts.push(columns.values.len() as u32);
        }
        columns.indices.shrink_to_fit();
        columns.values.shrink_to_fit();
        columns
    }

    /// Appends some of the rows, with their zeros and without the constant: `[rows, features]`.
    ///
    /// # Panics
    /// If there are no such rows.
    pub fn append_rows(&self, rows: Range<usize>, out: &mut Vec<T>) {
        assert!(rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        let (start, width) = (out.len(), self.features);
        out.resize(start + rows.len() * width, T::ZERO);
        for j in 0..width {
            let (indices, values) = self.entries(j, &rows);
            for (i, value) in indices.iter().zip(values) {
                out[start + (usize::from(*i) - rows.start) * width + j] = *value;
            }
        }
    }

    /// The same matrix in another type.
    pub fn convert<S: Real>(&self) -> Columns<S> {
        let (starts, indices) = (self.starts.clone(), self.indices.clone());
        Columns { rows: self.rows, features: self.features, starts, indices, values: convert(&self.values) }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the matrix, that of the constant 1 among them.
    fn width(&self) -> usize {
        self.starts.len() - 1
    }

    /// The entries of a column in some of the rows.
    #[inline(always)]
    fn entries(&self, column: usize, rows: &Range<usize>) -> (&[u8], &[T]) {
        let mut range = self.starts[column] as usize..self.starts[column + 1] as usize;
        if rows.len() < self.rows {
            let indices = &self.indices[range.clone()];
            let [from, to] = [rows.start, rows.end].map(|row| indices.partition_point(|i| usize::from(*i) < row));
            range = range.start + from..range.start + to;
        }
        (&self.indices[range.clone()], &self.values[range])
    }

    /// `out += x b` for some of the rows `x`: `b: [width, n]`, `out: [rows, n]` with rows `stride` apart.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn add_product(&self, rows: Range<usize>, b: &[T], n: usize, out: &mut [T], stride: usize) {
        assert!(rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        assert!(b.len() == self.width() * n && fits(rows.len(), n, stride, out), "shapes differ");
        T::by_type::<Products>(Call { x: self, rows, b, n, out, stride, transposed: false });
    }

    /// `out += x' b` for some of the rows `x`: `b: [rows, n]` with rows `stride` apart, `out: [width, n]`.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn add_transposed_product(&self, rows: Range<usize>, b: &[T], stride: usize, n: usize, out: &mut [T]) {
        assert!(rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        assert!(fits(rows.len(), n, stride, b) && out.len() == self.width() * n, "shapes differ");
        T::by_type::<Products>(Call { x: self, rows, b, n, out, stride, transposed: true });
    }
}

/// Whether a slice has that many rows of `n` elements, `stride` apart, and no more.
fn fits<T>(rows: usize, n: usize, stride: usize, slice: &[T]) -> bool {
    let last = rows.saturating_sub(1) * stride;
    n <= stride && (last + n..=last + stride).contains(&slice.len()) || rows == 0
}

/// A checked call of a product.
struct Call<'a, T> {
    x: &'a Columns<T>,
    rows: Range<usize>,
    b: &'a [T],
    n: usize,
    out: &'a mut [T],
    /// Of what has the rows.
    stride: usize,
    transposed: bool,
}

compiled_here!(
    /// The forms of a product.
    Products<'a, T>: Call<'a, T>
);

/// In blocks of columns of `out`, as few elements as possible in all. The widths suit layers of 50 units, those of the paper's autoencoder.
impl<T: Real> WithSimd for Call<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let padded = |lanes: &usize| (self.n.next_multiple_of(*lanes), usize::MAX - lanes);
        match [16, 32, 56].into_iter().min_by_key(padded) {
            Some(16) => blocks::<S, T, 16>(self),
            Some(32) => blocks::<S, T, 32>(self),
            _ => blocks::<S, T, 56>(self),
        }
    }
}

/// A row in full vectors, none of which lies in two lines of the cache.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Aligned<T, const LANES: usize>([T; LANES]);

/// `sums += factor row`.
#[inline(always)]
fn add<S: Simd, T: Real, const LANES: usize>(sums: &mut [T; LANES], factor: T, row: &[T; LANES]) {
    for (sum, v) in sums.iter_mut().zip(row) {
        *sum = if fused::<S>() { factor.mul_add(*v, *sum) } else { *sum + factor * *v };
    }
}

#[inline(always)]
fn blocks<S: Simd, T: Real, const LANES: usize>(call: Call<T>) {
    let Call { x, rows, b, n, out, stride, transposed } = call;
    let padded = |row: &[T]| {
        let mut lanes = [T::ZERO; LANES];
        lanes[..row.len()].copy_from_slice(row);
        lanes
    };
    let mut kept = Vec::with_capacity(rows.len());
    for first in (0..n).step_by(LANES) {
        let lanes = first..n.min(first + LANES);
        // What belongs to the rows is kept in full vectors.
        let dense = if transposed { b } else { &*out };
        kept.clear();
        kept.extend(dense.chunks(stride).map(|row| Aligned(padded(&row[lanes.clone()]))));
        for j in 0..x.width() {
            let (indices, values) = x.entries(j, &rows);
            if indices.is_empty() {
                continue;
            }
            if transposed {
                let mut sums = [T::ZERO; LANES];
                for (i, value) in indices.iter().zip(values) {
                    add::<S, T, LANES>(&mut sums, *value, &kept[usize::from(*i) - rows.start].0);
                }
                out[j * n..][lanes.clone()].iter_mut().zip(&sums).for_each(|(out, sum)| *out += *sum);
            } else {
                // What lies behind the row is computed with and dropped. A copy, so that it is known to be apart from the sums.
                let row = match b[j * n + first..].first_chunk() {
                    Some(full) => *full,
                    None => padded(&b[j * n..][lanes.clone()]),
                };
                for (i, value) in indices.iter().zip(values) {
                    add::<S, T, LANES>(&mut kept[usize::from(*i) - rows.start].0, *value, &row);
                }
            }
        }
        if !transposed {
            for (row, kept) in out.chunks_mut(stride).zip(&kept) {
                row[lanes.clone()].copy_from_slice(&kept.0[..lanes.len()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::simd::on_every_instruction_set;

    #[test]
    fn products_agree_with_the_plain_sum_on_every_instruction_set() {
        on_every_instruction_set(every_shape_agrees);
    }

    fn every_shape_agrees() {
        for (rows, width, n) in [(1, 1, 1), (5, 7, 3), (128, 30, 50), (64, 9, 56), (70, 20, 130), (3, 4, 32)] {
            let value = |i: usize| if i.is_multiple_of(3) { (i as f64 * 0.37).sin() } else { 0.0 };
            let x: Vec<f64> = (0..rows * width).map(value).collect();
            for ones in [true, false] {
                products_agree(&x, rows, width, n, ones);
            }
        }
    }

    fn products_agree(x: &[f64], rows: usize, features: usize, n: usize, ones: bool) {
        let columns = Columns::new(x, features, ones);
        let width = features + usize::from(ones);
        let at = |i: usize, j: usize| if j < features { x[i * features + j] } else { 1.0 };
        let numbers = |count: usize| -> Vec<f64> { (0..count).map(|i| (i as f64 * 0.61).cos()).collect() };
        for part in [0..rows, rows / 3..rows - rows / 4] {
            let mut kept = vec![7.0];
            columns.append_rows(part.clone(), &mut kept);
            assert_eq!(kept[1..], x[part.start * features..part.end * features]);
            for stride in [n, n + 5] {
                let b = numbers(width * n);
                let mut out = numbers(part.len() * stride);
                let start = out.clone();
                columns.add_product(part.clone(), &b, n, &mut out, stride);
                for (at_out, i) in part.clone().enumerate() {
                    for k in 0..stride {
                        let sum: f64 = (0..width).filter(|_| k < n).map(|j| at(i, j) * b[j * n + k]).sum();
                        let (found, start) = (out[at_out * stride + k], start[at_out * stride + k]);
                        assert!((found - start - sum).abs() < 1e-12, "{rows} {width} {n} {stride}");
                    }
                }
                let b = numbers(part.len() * stride);
                let mut out = numbers(width * n);
                let start = out.clone();
                columns.add_transposed_product(part.clone(), &b, stride, n, &mut out);
                for j in 0..width {
                    for k in 0..n {
                        let sum: f64 = part.clone().enumerate().map(|(r, i)| at(i, j) * b[r * stride + k]).sum();
                        let found = out[j * n + k] - start[j * n + k];
                        assert!((found - sum).abs() < 1e-12, "{rows} {width} {n} {stride}");
                    }
                }
            }
        }
    }

    #[test]
    fn another_type_has_the_same_entries() {
        let x = [0.0, 0.5, -2.0, 0.0, 0.0, 1.5];
        let narrow: Columns<f32> = Columns::<f64>::new(&x, 3, true).convert();
        assert_eq!(narrow.entries(2, &(0..2)), (&[0, 1][..], &[-2.0, 1.5][..]));
        assert_eq!(narrow.entries(3, &(1..2)), (&[1][..], &[1.0][..]));
    }
}
