//! Skinny products: one matrix has only a few dozen rows, those of half a minibatch.
//!
//! A general product first copies its operands into the order in which it reads them. With a few dozen rows that copy takes as long as
//! the product. Here nothing is copied: of the two ways to read a row-major matrix, along its rows by vectors or
//! down its columns one number at a time, every product takes the one that fits what it is given.
//!
//! - [`sum_of_products`]: `out = a b` with vectors along the rows of `b`; numbers of `a` are read one at a time, so it may be transposed
//! - [`times_transpose`]: `out = x w'` with vectors along the rows of both, for long rows

use super::View;
use crate::num::{
    Lanes, Real,
    simd::{Simd, WithSimd, compiled_here},
};

/// Rows of the second factor that a pass of [`sum_of_products`] takes: few enough that a strip of them stays in the first-level cache.
const DEPTH: usize = 128;

/// What a product is added to.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a, T> {
    Zero,
    /// What `out` holds.
    Out,
    /// A number per row of `out`, that many elements apart.
    PerRow(&'a [T], usize),
}

/// `out = start + sum_t a_t b_t`: `a_t: [m, k_t]`, strided as it likes; `b_t: [k_t, n]`, its rows contiguous; `out: [m, n]`, its rows
/// `out_stride` apart.
///
/// One thread; the order of the sums depends on the shapes alone.
///
/// # Panics
/// If the shapes do not fit.
pub fn sum_of_products<T: Real>(out: &mut [T], out_stride: usize, terms: &[(View<T>, View<T>)], start: Start<T>) {
    let Some((a, b)) = terms.first() else { return };
    let (m, n) = (a.rows, b.cols);
    if m == 0 || n == 0 {
        return;
    }
    for (a, b) in terms {
        assert!(a.rows == m && b.cols == n && a.cols == b.rows, "shapes differ");
        assert_eq!(b.col_stride, 1, "the second factor's rows must be contiguous");
    }
    assert!(n <= out_stride && (m - 1) * out_stride + n <= out.len(), "the output is too small");
    if let Start::PerRow(values, stride) = start {
        assert!((m - 1) * stride < values.len(), "too few numbers to start from");
    }
    T::by_type::<SumOfProducts>(Terms { out, out_stride, m, n, terms, start });
}

compiled_here!(
    /// The forms of [`sum_of_products`].
    SumOfProducts<'a, T>: Terms<'a, T>
);

/// A checked call of [`sum_of_products`].
struct Terms<'a, T> {
    out: &'a mut [T],
    out_stride: usize,
    m: usize,
    n: usize,
    terms: &'a [(View<'a, T>, View<'a, T>)],
    start: Start<'a, T>,
}

impl<T: Lanes> WithSimd for Terms<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { out, out_stride, m, n, terms, start } = self;
        let out = Out { data: out.as_mut_ptr(), stride: out_stride };
        // SAFETY: `sum_of_products` checked shapes and lengths.
        unsafe {
            match terms {
                // A long product goes in pieces, each added to what is there.
                [(a, b)] => {
                    let mut start = start;
                    for first in (0..b.rows.max(1)).step_by(DEPTH) {
                        let piece = first..b.rows.min(first + DEPTH);
                        strips(simd, &[(a.columns(piece.clone()), b.rows(piece))], start, out, m, n);
                        start = Start::Out;
                    }
                }
                _ => strips(simd, terms, start, out, m, n),
            }
        }
    }
}

/// All of a product, a strip of columns after the other.
///
/// # Safety
/// As for [`tile`], for all rows and columns.
#[inline(always)]
unsafe fn strips<S: Simd, T: Lanes>(
    simd: S,
    terms: &[(View<T>, View<T>)],
    start: Start<T>,
    out: Out<T>,
    m: usize,
    n: usize,
) {
    let lanes = T::lanes::<S>();
    // As wide as the registers allow, and as equal as possible; the widest first, as the last one may need a register for its mask.
    let vectors = n.div_ceil(lanes);
    let strips = vectors.div_ceil(if S::REGISTER_COUNT >= 32 { 4 } else { 2 });
    let begin = |at: usize| (vectors * at).div_ceil(strips);
    for at in 0..strips {
        let (first, end) = (begin(at), begin(at + 1));
        let col = first * lanes;
        // SAFETY: the caller's promise; the mask ends with the last column.
        unsafe {
            if end * lanes <= n {
                strip_of::<S, T, false>(simd, terms, start, out, m, (col, end - first), T::first::<S>(simd, lanes));
            } else {
                let tail = T::first::<S>(simd, n - (end - 1) * lanes);
                strip_of::<S, T, true>(simd, terms, start, out, m, (col, end - first), tail);
            }
        }
    }
}

/// A strip of `vectors` vectors of columns, from a column on; rows are taken by as many as there are registers for.
///
/// # Safety
/// As for [`tile`], for all rows.
#[inline(always)]
unsafe fn strip_of<S: Simd, T: Lanes, const MASKED: bool>(
    simd: S,
    terms: &[(View<T>, View<T>)],
    start: Start<T>,
    out: Out<T>,
    m: usize,
    (col, vectors): (usize, usize),
    tail: T::Mask<S>,
) {
    let many = S::REGISTER_COUNT >= 32;
    // SAFETY: the caller's promise.
    unsafe {
        match vectors {
            4 if many => strip::<S, T, 6, 4, MASKED>(simd, terms, start, out, m, col, tail),
            3 if many => strip::<S, T, 8, 3, MASKED>(simd, terms, start, out, m, col, tail),
            2 if many => strip::<S, T, 12, 2, MASKED>(simd, terms, start, out, m, col, tail),
            // With a mask or a third vector, compilers no longer find a place for everything in 16 registers.
            2 if MASKED => strip::<S, T, 5, 2, MASKED>(simd, terms, start, out, m, col, tail),
            2 => strip::<S, T, 6, 2, MASKED>(simd, terms, start, out, m, col, tail),
            _ => strip::<S, T, 8, 1, MASKED>(simd, terms, start, out, m, col, tail),
        }
    }
}

/// Where results go.
#[derive(Clone, Copy)]
struct Out<T> {
    data: *mut T,
    stride: usize,
}

/// `V` vectors of columns from `col`, all rows, `M` at a time.
///
/// # Safety
/// As for [`tile`], for all rows.
#[inline(always)]
unsafe fn strip<S: Simd, T: Lanes, const M: usize, const V: usize, const MASKED: bool>(
    simd: S,
    terms: &[(View<T>, View<T>)],
    start: Start<T>,
    out: Out<T>,
    m: usize,
    col: usize,
    tail: T::Mask<S>,
) {
    let mut row = 0;
    // SAFETY: rows stay below `m`.
    unsafe {
        while row + M <= m {
            tile::<S, T, M, V, MASKED>(simd, terms, start, out, row, col, tail);
            row += M;
        }
        while row + 4 <= m {
            tile::<S, T, 4, V, MASKED>(simd, terms, start, out, row, col, tail);
            row += 4;
        }
        if row + 2 <= m {
            tile::<S, T, 2, V, MASKED>(simd, terms, start, out, row, col, tail);
            row += 2;
        }
        if row < m {
            tile::<S, T, 1, V, MASKED>(simd, terms, start, out, row, col, tail);
        }
    }
}

/// Vector `v` of `V`, the last one masked if `MASKED`.
///
/// # Safety
/// The vector must be readable, the last one as far as its mask goes.
#[inline(always)]
unsafe fn load<S: Simd, T: Lanes, const V: usize, const MASKED: bool>(
    simd: S,
    v: usize,
    tail: T::Mask<S>,
    from: *const T,
) -> T::Vector<S> {
    // SAFETY: the caller's promise.
    unsafe { if MASKED && v + 1 == V { T::load_some::<S>(simd, tail, from) } else { T::load::<S>(from) } }
}

/// `M` rows and `V` vectors of columns of the result, in registers; `tail` masks the last vector if `MASKED`.
///
/// A mask takes a register: one too many, and a sum waits for its way through memory at every step.
///
/// # Safety
/// The rows and columns must exist in all matrices.
#[inline(always)]
unsafe fn tile<S: Simd, T: Lanes, const M: usize, const V: usize, const MASKED: bool>(
    simd: S,
    terms: &[(View<T>, View<T>)],
    start: Start<T>,
    out: Out<T>,
    row: usize,
    col: usize,
    tail: T::Mask<S>,
) {
    let lanes = T::lanes::<S>();
    let mut sums = [[T::splat(simd, T::ZERO); V]; M];
    // SAFETY: the caller promises that all rows and columns exist.
    unsafe {
        let corner = out.data.add(row * out.stride + col);
        match start {
            Start::Zero => (),
            Start::Out => {
                for (m, sums) in sums.iter_mut().enumerate() {
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = load::<S, T, V, MASKED>(simd, v, tail, corner.add(m * out.stride + v * lanes));
                    }
                }
            }
            Start::PerRow(values, stride) => {
                for (m, sums) in sums.iter_mut().enumerate() {
                    *sums = [T::splat(simd, *values.get_unchecked((row + m) * stride)); V];
                }
            }
        }
        for (a, b) in terms {
            let (a_row, a_col, b_row) = (a.row_stride, a.col_stride, b.row_stride);
            let mut from = a.data.as_ptr().add(row * a_row);
            let mut line = b.data.as_ptr().add(col);
            for _ in 0..b.rows {
                let mut vectors = [T::splat(simd, T::ZERO); V];
                for (v, vector) in vectors.iter_mut().enumerate() {
                    *vector = load::<S, T, V, MASKED>(simd, v, tail, line.add(v * lanes));
                }
                for (m, sums) in sums.iter_mut().enumerate() {
                    let factor = T::splat(simd, *from.add(m * a_row));
                    for (sum, vector) in sums.iter_mut().zip(vectors) {
                        *sum = T::fma(simd, factor, vector, *sum);
                    }
                }
                from = from.wrapping_add(a_col);
                line = line.wrapping_add(b_row);
            }
        }
        for (m, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                let to = corner.add(m * out.stride + v * lanes);
                if MASKED && v + 1 == V {
                    T::store_some::<S>(simd, tail, to, *sum);
                } else {
                    T::store::<S>(to, *sum);
                }
            }
        }
    }
}

/// `out[i, u] = start[u] + sum_k x[i, k] w[u, k]`: the rows of both contiguous; `start` is a number per row of `w`, `stride` elements
/// apart. `out: [rows of x, rows of w]`, row-major.
///
/// # Panics
/// If the shapes do not fit.
pub fn times_transpose<T: Real>(out: &mut [T], x: View<T>, w: View<T>, start: Option<(&[T], usize)>) {
    assert_eq!(x.cols, w.cols, "inner dimensions differ");
    assert!(x.col_stride == 1 && w.col_stride == 1, "rows must be contiguous");
    assert_eq!(out.len(), x.rows * w.rows, "the output has another size");
    if let Some((values, stride)) = start {
        assert!(w.rows == 0 || (w.rows - 1) * stride < values.len(), "too few numbers to start from");
    }
    T::by_type::<TimesTranspose>(RowProducts { out: out.as_mut_ptr(), x, w, start });
}

compiled_here!(
    /// The forms of [`times_transpose`].
    TimesTranspose<'a, T>: RowProducts<'a, T>
);

/// A checked call of [`times_transpose`].
struct RowProducts<'a, T> {
    out: *mut T,
    x: View<'a, T>,
    w: View<'a, T>,
    start: Option<(&'a [T], usize)>,
}

impl<T: Lanes> WithSimd for RowProducts<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut unit = 0;
        // SAFETY: units stay below the rows of `w`; the caller checked the lengths.
        unsafe {
            while unit + 6 <= self.w.rows && S::REGISTER_COUNT >= 32 {
                dot_rows::<S, T, 4, 6>(simd, &self, unit);
                unit += 6;
            }
            while unit + 3 <= self.w.rows {
                dot_rows::<S, T, 3, 3>(simd, &self, unit);
                unit += 3;
            }
            while unit < self.w.rows {
                dot_rows::<S, T, 4, 1>(simd, &self, unit);
                unit += 1;
            }
        }
    }
}

/// `N` units, all rows of `x`, `M` at a time.
///
/// # Safety
/// The units must exist.
#[inline(always)]
unsafe fn dot_rows<S: Simd, T: Lanes, const M: usize, const N: usize>(simd: S, work: &RowProducts<T>, unit: usize) {
    let mut row = 0;
    // SAFETY: rows stay below those of `x`.
    unsafe {
        while row + M <= work.x.rows {
            dot_tile::<S, T, M, N>(simd, work, row, unit);
            row += M;
        }
        while row < work.x.rows {
            dot_tile::<S, T, 1, N>(simd, work, row, unit);
            row += 1;
        }
    }
}

/// A vector, or what a mask leaves of it.
///
/// # Safety
/// What is left must be readable.
#[inline(always)]
pub(super) unsafe fn load_part<S: Simd, T: Lanes>(simd: S, mask: Option<T::Mask<S>>, from: *const T) -> T::Vector<S> {
    // SAFETY: the caller's promise.
    unsafe {
        match mask {
            None => T::load::<S>(from),
            Some(mask) => T::load_some(simd, mask, from),
        }
    }
}

/// A vector of every row: `sums += x w'`.
///
/// # Safety
/// A vector of `M` rows of `x` and `N` of `w`, strides apart, must be readable as far as the mask goes.
#[inline(always)]
unsafe fn dot_step<S: Simd, T: Lanes, const M: usize, const N: usize>(
    simd: S,
    sums: &mut [[T::Vector<S>; N]; M],
    (x, x_stride): (*const T, usize),
    (w, w_stride): (*const T, usize),
    mask: Option<T::Mask<S>>,
) {
    let mut vectors = [T::splat(simd, T::ZERO); N];
    // SAFETY: the caller's promise.
    unsafe {
        for (n, vector) in vectors.iter_mut().enumerate() {
            *vector = load_part(simd, mask, w.add(n * w_stride));
        }
        for (m, sums) in sums.iter_mut().enumerate() {
            let factor = load_part(simd, mask, x.add(m * x_stride));
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = T::fma(simd, factor, vector, *sum);
            }
        }
    }
}

/// `M` datapoints and `N` units, in registers.
///
/// # Safety
/// The rows and units must exist.
#[inline(always)]
unsafe fn dot_tile<S: Simd, T: Lanes, const M: usize, const N: usize>(
    simd: S,
    work: &RowProducts<T>,
    row: usize,
    unit: usize,
) {
    let RowProducts { out, x, w, start } = work;
    let (lanes, length, units) = (T::lanes::<S>(), x.cols, w.rows);
    let mut sums = [[T::splat(simd, T::ZERO); N]; M];
    // SAFETY: the caller promises that rows and units exist; masks end with the rows.
    unsafe {
        let (x_stride, w_stride) = (x.row_stride, w.row_stride);
        let x = x.data.as_ptr().add(row * x_stride);
        let w = w.data.as_ptr().add(unit * w_stride);
        let mut at = 0;
        while at + lanes <= length {
            dot_step(simd, &mut sums, (x.add(at), x_stride), (w.add(at), w_stride), None);
            at += lanes;
        }
        if at < length {
            let some = T::first::<S>(simd, length - at);
            dot_step(simd, &mut sums, (x.add(at), x_stride), (w.add(at), w_stride), Some(some));
        }
        let to = out.add(row * units + unit);
        for (m, sums) in sums.iter().enumerate() {
            for (n, sum) in sums.iter().enumerate() {
                let from = start.map_or(T::ZERO, |(values, stride)| *values.get_unchecked((unit + n) * stride));
                *to.add(m * units + n) = from + T::total(simd, *sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::simd::on_every_instruction_set;

    fn numbers<T: Real>(count: usize, factor: f64) -> Vec<T> {
        (0..count).map(|i| T::from_f64((i as f64 * factor).sin())).collect()
    }

    fn close<T: Real>(found: &[T], expected: &[T], tolerance: f64) {
        for (i, (a, b)) in found.iter().zip(expected).enumerate() {
            assert!((*a - *b).abs().to_f64() <= tolerance, "entry {i}: {a} instead of {b}");
        }
    }

    /// `out += a b` by three loops.
    fn add_product<T: Real>(out: &mut [T], stride: usize, a: View<T>, b: View<T>) {
        let (a_at, b_at) = (a.to_vec(), b.to_vec());
        for (i, j) in (0..a.rows).flat_map(|i| (0..b.cols).map(move |j| (i, j))) {
            out[i * stride + j] += (0..a.cols).map(|k| a_at[i * a.cols + k] * b_at[k * b.cols + j]).sum();
        }
    }

    fn products_agree<T: Real>(tolerance: f64) {
        for (m, k, n) in [(1, 1, 1), (7, 3, 5), (13, 40, 33), (32, 50, 51), (50, 300, 32), (30, 5, 785), (6, 0, 4)] {
            let (a, b) = (numbers::<T>(m * (k + 1), 0.37), numbers::<T>(k * n, 0.71));
            let (at, more) = (numbers::<T>(k * m, 0.53), numbers::<T>(k * n, 0.29));
            let stride = n + 3;
            let before = numbers::<T>(m * stride, 0.11);
            let first = (View::strided(&a, m, k, k + 1), View::new(&b, k, n));
            let second = (View::new(&at, k, m).t(), View::new(&more, k, n));
            for terms in [&[first][..], &[second], &[first, second]] {
                for start in [Start::Zero, Start::Out, Start::PerRow(&before, stride)] {
                    let mut expected = before.clone();
                    for (i, row) in expected.chunks_exact_mut(stride).enumerate() {
                        match start {
                            Start::Zero => row[..n].fill(T::ZERO),
                            Start::Out => (),
                            Start::PerRow(values, stride) => row[..n].fill(values[i * stride]),
                        }
                    }
                    for (a, b) in terms {
                        add_product(&mut expected, stride, *a, *b);
                    }
                    let mut out = before.clone();
                    sum_of_products(&mut out, stride, terms, start);
                    close(&out, &expected, tolerance);
                }
            }
        }
    }

    fn dots_agree<T: Real>(tolerance: f64) {
        for (rows, units, k) in [(1, 1, 1), (4, 6, 16), (7, 11, 45), (32, 50, 784), (3, 2, 0)] {
            let (x, w) = (numbers::<T>(rows * k, 0.37), numbers::<T>(units * (k + 1), 0.71));
            let bias = w.get(k..).unwrap_or_default();
            let (x, view) = (View::new(&x, rows, k), View::strided(&w, units, k, k + 1));
            for start in [None, Some((bias, k + 1))] {
                let mut expected = vec![T::ZERO; rows * units];
                if let Some((bias, stride)) = start {
                    expected.iter_mut().enumerate().for_each(|(i, out)| *out = bias[i % units * stride]);
                }
                add_product(&mut expected, units, x, view.t());
                let mut out = vec![T::ONE; rows * units];
                times_transpose(&mut out, x, view, start);
                close(&out, &expected, tolerance);
            }
        }
    }

    #[test]
    fn products_agree_with_general_ones_on_every_instruction_set() {
        on_every_instruction_set(|| {
            products_agree::<f64>(1e-12);
            products_agree::<f32>(1e-4);
        });
    }

    #[test]
    fn dot_products_agree_with_general_ones_on_every_instruction_set() {
        on_every_instruction_set(|| {
            dots_agree::<f64>(1e-12);
            dots_agree::<f32>(1e-4);
        });
    }

    #[test]
    #[should_panic(expected = "the output is too small")]
    fn an_output_that_is_too_small_is_refused() {
        let a = [0.0; 6];
        sum_of_products(&mut [0.0; 3], 2, &[(View::new(&a, 2, 3), View::new(&a, 3, 2))], Start::Zero);
    }
}
