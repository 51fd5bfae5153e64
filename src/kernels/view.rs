//! Strided views of matrices.

use std::ops::Range;

/// A borrowed matrix of `rows x cols` with element `(i, j)` at `i * row_stride + j * col_stride`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T> {
    pub(super) data: &'a [T],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

impl<'a, T> View<'a, T> {
    /// A contiguous row-major matrix.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows start `row_stride` elements apart.
    ///
    /// # Panics
    /// If `data` is too short for the shape.
    pub fn strided(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(
            rows == 0 || cols == 0 || (rows - 1) * row_stride + cols <= data.len(),
            "a {rows}x{cols} view with row stride {row_stride} does not fit in {} elements",
            data.len()
        );
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose, without copying.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// The elements, row by row.
    pub fn to_vec(self) -> Vec<T>
    where
        T: Copy,
    {
        let Some(first) = self.data.first() else { return Vec::new() };
        let mut out = vec![*first; self.rows * self.cols];
        self.copy_to(&mut out);
        out
    }

    /// Writes the elements, row by row, to the beginning of `out`.
    ///
    /// In square tiles, so that a transpose jumps from line to line of memory within the cache.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn copy_to(self, out: &mut [T])
    where
        T: Copy,
    {
        const SIDE: usize = 16;
        for i0 in (0..self.rows).step_by(SIDE) {
            for j0 in (0..self.cols).step_by(SIDE) {
                for i in i0..self.rows.min(i0 + SIDE) {
                    for j in j0..self.cols.min(j0 + SIDE) {
                        out[i * self.cols + j] = self.data[i * self.row_stride + j * self.col_stride];
                    }
                }
            }
        }
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    /// A row of a row-major matrix.
    ///
    /// # Panics
    /// If there is no such row, or it is not contiguous.
    pub fn row(&self, i: usize) -> &'a [T] {
        assert!(
            i < self.rows && self.col_stride == 1,
            "row {i} of {} with columns {} apart",
            self.rows,
            self.col_stride
        );
        &self.data[i * self.row_stride..][..self.cols]
    }

    /// Some of the rows, without copying.
    ///
    /// # Panics
    /// If there are no such rows.
    pub fn rows(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.rows, "rows {range:?} of {}", self.rows);
        let data = self.data.get(range.start * self.row_stride..).unwrap_or_default();
        Self { data, rows: range.len(), ..self }
    }

    /// Some of the columns, without copying.
    ///
    /// # Panics
    /// If there are no such columns.
    pub fn columns(self, range: Range<usize>) -> Self {
        self.t().rows(range).t()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_copied_row_by_row() {
        // More than two tiles each way; views of some of the columns.
        let (rows, cols, stride) = (35, 19, 23);
        let data: Vec<usize> = (0..rows * stride).collect();
        let view = View::strided(&data, rows, cols, stride);
        let expected: Vec<usize> = (0..rows).flat_map(|i| (0..cols).map(move |j| i * stride + j)).collect();
        assert_eq!(view.to_vec(), expected);
        let transposed: Vec<usize> = (0..cols).flat_map(|j| (0..rows).map(move |i| i * stride + j)).collect();
        assert_eq!(view.t().to_vec(), transposed);
        assert!(View::new(&data, 0, 3).to_vec().is_empty() && View::<usize>::new(&[], 2, 0).to_vec().is_empty());
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn a_view_larger_than_its_slice_is_refused() {
        View::new(&[0.0; 5], 2, 3);
    }
}
