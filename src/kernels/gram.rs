//! Many weighted Gram matrices of the same vectors at once: `H_p += sum_i q[i, p] x_i x_i'`, accumulated in `f64`.
//!
//! This is the work of the closed form at neuron scale (`docs/theory.md`, section 4): the neurons `p` of a layer share their inputs
//! `x_i` and differ in the curvature `q[i, p]`. Products of two inputs are formed once and used by all neurons. Inputs
//! of images and of rectifiers are mostly zero, so features are taken in tiles of two and a pair of tiles visits
//! only the datapoints at which both are nonzero. Where that is most of them, a matrix product does the same.

use super::{Real, Symmetric, View, matmul};
use rayon::prelude::*;
use std::{cell::Cell, ops::Range};

/// Features per tile.
const TILE: usize = 2;
/// Products per pair of tiles.
const PRODUCTS: usize = TILE * TILE;
/// `f64` lanes of a vector register.
const LANES: usize = 8;
/// Columns and rows of the matrices that are read from the sums together.
const BLOCK_COLUMNS: usize = 128;
const BLOCK_ROWS: usize = 8;
/// Planes that one kernel call holds in registers: `PRODUCTS * GROUP` vectors of accumulators.
const GROUP: usize = 7;
/// From this share of rows at which two tiles meet on, products of whole matrices are faster.
const DENSE: f64 = 0.3;
/// Rows of a product of whole matrices.
const DENSE_ROWS: usize = 256;

/// The Gram matrices of `planes` weightings of vectors of length `width`.
///
/// Memory: about `4 * planes * width^2` bytes (half of each symmetric matrix).
#[derive(Clone, Debug)]
pub struct WeightedGram {
    width: usize,
    planes: usize,
    /// `planes` rounded up to full vectors.
    padded: usize,
    /// `[pairs of tiles t1 >= t2, PRODUCTS, padded]`.
    sums: Vec<f64>,
}

/// Buffers for [`WeightedGram::accumulate`], to be kept from call to call.
#[derive(Clone, Debug, Default)]
pub struct GramScratch<T> {
    tiled: Vec<T>,
    occupied: Vec<u64>,
    /// In `f64`: converting them once costs less than converting them for every pair.
    weights: Vec<f64>,
}

impl WeightedGram {
    pub fn new(width: usize, planes: usize) -> Self {
        let tiles = width.div_ceil(TILE);
        let padded = planes.next_multiple_of(LANES);
        Self { width, planes, padded, sums: vec![0.0; tiles * (tiles + 1) / 2 * PRODUCTS * padded] }
    }

    pub fn planes(&self) -> usize {
        self.planes
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// All sums, in the order that they have in memory.
    pub fn sums_mut(&mut self) -> &mut [f64] {
        &mut self.sums
    }

    /// Adds `rows` vectors `x: [rows, width]` with weights `q: [rows, planes]`.
    ///
    /// Work is split over the pairs of tiles, each of which is summed in the order of the rows, so the result does not
    /// depend on the number of threads. Best called with a thousand rows or more at a time.
    pub fn accumulate<T: Real>(&mut self, x: &[T], q: &[T], rows: usize, scratch: &mut GramScratch<T>) {
        assert_eq!((x.len(), q.len()), (rows * self.width, rows * self.planes), "shapes differ");
        let tiles = self.width.div_ceil(TILE);
        // [tile][row][TILE], zero-padded, so that a pair reads two short contiguous runs.
        let GramScratch { tiled, occupied, weights } = scratch;
        tiled.clear();
        tiled.resize(tiles * rows * TILE, T::ZERO);
        let words = super::bits::words(rows);
        occupied.clear();
        occupied.resize(tiles * words, 0);
        tiled.par_chunks_exact_mut(rows * TILE).zip(occupied.par_chunks_exact_mut(words)).enumerate().for_each(
            |(t, (tile, occupied))| {
                let features = t * TILE..self.width.min((t + 1) * TILE);
                for i in 0..rows {
                    let source = &x[i * self.width..][features.clone()];
                    tile[i * TILE..i * TILE + source.len()].copy_from_slice(source);
                    let any = source.iter().any(|v| *v != T::ZERO);
                    occupied[i / 64] |= u64::from(any) << (i % 64);
                }
            },
        );
        weights.clear();
        weights.resize(rows * self.padded, 0.0);
        for (padded, row) in weights.chunks_exact_mut(self.padded).zip(q.chunks_exact(self.planes)) {
            padded.iter_mut().zip(row).for_each(|(to, q)| *to = q.f64());
        }
        let inputs =
            Inputs { rows, padded: self.padded, tiled: &tiled[..], occupied: &occupied[..], weights: &weights[..] };
        // One task per row of tile pairs (t1, 0..=t1); the last rows are the longest, so they start first.
        let mut stripes: Vec<(usize, &mut [f64])> = Vec::with_capacity(tiles);
        let mut rest = &mut self.sums[..];
        for t1 in 0..tiles {
            let (stripe, tail) = rest.split_at_mut((t1 + 1) * PRODUCTS * self.padded);
            stripes.push((t1, stripe));
            rest = tail;
        }
        stripes.into_par_iter().rev().with_max_len(1).for_each(|(t1, stripe)| {
            let pairs = (0..=t1).map(|t2| inputs.meetings(t1, t2)).sum::<usize>();
            if pairs as f64 > DENSE * (rows * (t1 + 1)) as f64 {
                inputs.add_dense(t1, stripe);
            } else {
                inputs.add_sparse(t1, stripe);
            }
        });
    }

    /// `scale * H_p` of all planes.
    pub fn matrices(&self, scale: f64) -> Vec<Symmetric> {
        self.matrices_of(0..self.planes, scale)
    }

    /// Planes that lie side by side: a multiple of it is a good place to begin with [`WeightedGram::matrices_of`].
    pub const TOGETHER: usize = LANES;

    /// `scale * H_p` of some planes, from a multiple of [`WeightedGram::TOGETHER`] on.
    ///
    /// Planes are shared out over the threads.
    ///
    /// # Panics
    /// If there are no such planes, or they begin elsewhere.
    pub fn matrices_of(&self, planes: Range<usize>, scale: f64) -> Vec<Symmetric> {
        assert!(
            planes.end <= self.planes && planes.start.is_multiple_of(LANES),
            "planes {planes:?} of {}",
            self.planes
        );
        let zeros = |_| Symmetric::zeros(self.width);
        let mut out: Vec<Symmetric> = planes.clone().into_par_iter().map(zeros).collect();
        let share = planes.len().div_ceil(rayon::current_num_threads()).max(1).next_multiple_of(LANES);
        let shares = out.par_chunks_mut(share).with_max_len(1).enumerate();
        shares.for_each(|(s, out)| self.read(planes.start + s * share, scale, out));
        out
    }

    /// Matrices of planes from `first` on, a multiple of [`LANES`].
    ///
    /// Planes lie side by side in memory, so a block of columns and rows is read for all of them while it is in the cache.
    fn read(&self, first: usize, scale: f64, out: &mut [Symmetric]) {
        let width = self.width;
        let mut sums = [[0.0; LANES]; BLOCK_COLUMNS];
        for left in (0..width).step_by(BLOCK_COLUMNS) {
            let right = width.min(left + BLOCK_COLUMNS);
            for top in (0..right).step_by(BLOCK_ROWS) {
                for (group, out) in out.chunks_mut(LANES).enumerate() {
                    let planes = first + group * LANES;
                    for row in top..right.min(top + BLOCK_ROWS) {
                        let start = left.max(row);
                        for (column, sums) in (start..right).zip(&mut sums) {
                            let (t1, t2) = (column / TILE, row / TILE);
                            let product = (t1 * (t1 + 1) / 2 + t2) * PRODUCTS + column % TILE * TILE + row % TILE;
                            *sums = self.sums.as_chunks().0[(product * self.padded + planes) / LANES];
                        }
                        for (p, matrix) in out.iter_mut().enumerate() {
                            let to = &mut matrix.row_mut(row)[start - row..right - row];
                            to.iter_mut().zip(&sums).for_each(|(to, sums)| *to = scale * sums[p]);
                        }
                    }
                }
            }
        }
    }
}

thread_local! {
    /// Numbers that a task works on, kept from task to task: fresh memory would have to be cleared.
    static KEPT: Cell<Vec<f64>> = const { Cell::new(Vec::new()) };
}

/// The vectors and weights of a call, rearranged.
struct Inputs<'a, T> {
    rows: usize,
    padded: usize,
    /// `[tile][row][TILE]`
    tiled: &'a [T],
    /// Per tile the rows at which it is not zero, as bits.
    occupied: &'a [u64],
    /// `[rows, padded]`
    weights: &'a [f64],
}

impl<T: Real> Inputs<'_, T> {
    fn tile(&self, t: usize) -> &[T] {
        &self.tiled[t * self.rows * TILE..][..self.rows * TILE]
    }

    fn occupied(&self, t: usize) -> &[u64] {
        let words = super::bits::words(self.rows);
        &self.occupied[t * words..][..words]
    }

    /// Rows at which both tiles are not zero.
    fn meetings(&self, t1: usize, t2: usize) -> usize {
        self.occupied(t1).iter().zip(self.occupied(t2)).map(|(a, b)| (a & b).count_ones() as usize).sum()
    }

    /// Pairs of tile `t1` with those up to itself, visiting only rows at which both are not zero.
    fn add_sparse(&self, t1: usize, stripe: &mut [f64]) {
        let (rows, padded) = (self.rows, self.padded);
        // Each number of the first tile as often as it is needed.
        let first = self.tile(t1).chunks_exact(TILE);
        let first: Vec<[f64; PRODUCTS]> = first.map(|a| std::array::from_fn(|p| a[p / TILE].f64())).collect();
        let (mut list, mut products) = (vec![0; rows], vec![[0.0; PRODUCTS]; rows]);
        for (t2, sums) in stripe.chunks_exact_mut(PRODUCTS * padded).enumerate() {
            let second = self.tile(t2);
            let both = self.occupied(t1).iter().zip(self.occupied(t2)).map(|(a, b)| a & b);
            let count = crate::kernels::vectorized(
                #[inline(always)]
                || {
                    let mut count = 0;
                    for (w, mut both) in both.clone().enumerate() {
                        while both != 0 {
                            let i = w * 64 + both.trailing_zeros() as usize;
                            both &= both - 1;
                            let (a, b) = (&first[i], &second[i * TILE..(i + 1) * TILE]);
                            let product: [f64; PRODUCTS] = std::array::from_fn(|p| a[p] * b[p % TILE].f64());
                            (list[count], products[count]) = ((i * padded) as u32, product);
                            count += 1;
                        }
                    }
                    count
                },
            );
            if count > 0 {
                add_products(sums, padded, &list[..count], products[..count].as_flattened(), self.weights);
            }
        }
    }

    /// The same as a matrix product over all rows.
    fn add_dense(&self, t1: usize, stripe: &mut [f64]) {
        let (rows, padded) = (self.rows, self.padded);
        let mut products = KEPT.take();
        for start in (0..rows).step_by(DENSE_ROWS) {
            let range = start..rows.min(start + DENSE_ROWS);
            let inside = range.start * TILE..range.end * TILE;
            products.clear();
            for t2 in 0..=t1 {
                let (a, b) = (&self.tile(t1)[inside.clone()], &self.tile(t2)[inside.clone()]);
                for p in 0..PRODUCTS {
                    products.extend(
                        a.chunks_exact(TILE)
                            .zip(b.chunks_exact(TILE))
                            .map(|(a, b)| a[p / TILE].f64() * b[p % TILE].f64()),
                    );
                }
            }
            let lhs = View::new(&products, (t1 + 1) * PRODUCTS, range.len());
            let rhs = View::new(&self.weights[range.start * padded..range.end * padded], range.len(), padded);
            matmul(stripe, padded, lhs, rhs, true);
        }
        KEPT.set(products);
    }
}

/// `sums[p, :] += sum_s products[s, p] * weights[list[s] .. + padded]` for the `PRODUCTS` products `p`.
fn add_products(sums: &mut [f64], padded: usize, list: &[u32], products: &[f64], weights: &[f64]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        let (vectors, step) = (padded / LANES, GROUP);
        for start in (0..vectors).step_by(step) {
            let offset = start * LANES;
            // SAFETY: the feature was just detected; `list` holds starts of rows of `padded` weights, and a call
            // touches `count * LANES` elements from `offset`, which end inside a row and inside `sums`.
            unsafe {
                match (vectors - start).min(step) {
                    7 => avx512::add::<7>(sums, padded, offset, list, products, weights),
                    6 => avx512::add::<6>(sums, padded, offset, list, products, weights),
                    5 => avx512::add::<5>(sums, padded, offset, list, products, weights),
                    4 => avx512::add::<4>(sums, padded, offset, list, products, weights),
                    3 => avx512::add::<3>(sums, padded, offset, list, products, weights),
                    2 => avx512::add::<2>(sums, padded, offset, list, products, weights),
                    _ => avx512::add::<1>(sums, padded, offset, list, products, weights),
                }
            }
        }
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the features were just detected.
        unsafe { add_avx2(sums, padded, list, products, weights) };
        return;
    }
    add_scalar::<false>(sums, padded, list, products, weights);
}

/// The scalar twin, vectorized by the compiler: eight planes at a time. `FUSED` rounds as the SIMD kernel does.
#[inline(always)]
fn add_scalar<const FUSED: bool>(sums: &mut [f64], padded: usize, list: &[u32], products: &[f64], weights: &[f64]) {
    for offset in (0..padded).step_by(LANES) {
        let mut accumulators = [[0.0f64; LANES]; PRODUCTS];
        for (p, accumulator) in accumulators.iter_mut().enumerate() {
            accumulator.copy_from_slice(&sums[p * padded + offset..][..LANES]);
        }
        for (start, products) in list.iter().zip(products.chunks_exact(PRODUCTS)) {
            let row = &weights[*start as usize + offset..][..LANES];
            for (accumulator, product) in accumulators.iter_mut().zip(products) {
                for (sum, q) in accumulator.iter_mut().zip(row) {
                    *sum = if FUSED { product.mul_add(*q, *sum) } else { *sum + product * q };
                }
            }
        }
        for (p, accumulator) in accumulators.iter().enumerate() {
            sums[p * padded + offset..][..LANES].copy_from_slice(accumulator);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn add_avx2(sums: &mut [f64], padded: usize, list: &[u32], products: &[f64], weights: &[f64]) {
    add_scalar::<true>(sums, padded, list, products, weights);
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{LANES, PRODUCTS};
    use std::arch::x86_64::*;

    /// `V` vectors of planes from `offset`, all products, all listed rows.
    ///
    /// # Safety
    /// Needs AVX-512F; see the call for the bounds.
    #[target_feature(enable = "avx512f,avx")]
    pub unsafe fn add<const V: usize>(
        sums: &mut [f64],
        padded: usize,
        offset: usize,
        list: &[u32],
        products: &[f64],
        weights: &[f64],
    ) {
        assert!(offset + V * LANES <= padded && sums.len() >= PRODUCTS * padded);
        assert!(products.len() >= list.len() * PRODUCTS);
        // SAFETY: bounds asserted above; each listed start plus `padded` lies inside `weights`.
        unsafe {
            let mut accumulators = [[_mm512_setzero_pd(); V]; PRODUCTS];
            for (p, accumulators) in accumulators.iter_mut().enumerate() {
                for (v, accumulator) in accumulators.iter_mut().enumerate() {
                    *accumulator = _mm512_loadu_pd(sums.as_ptr().add(p * padded + offset + v * LANES));
                }
            }
            for (s, start) in list.iter().enumerate() {
                let row = weights.as_ptr().add(*start as usize + offset);
                let factors: [__m512d; PRODUCTS] =
                    std::array::from_fn(|p| _mm512_set1_pd(*products.as_ptr().add(s * PRODUCTS + p)));
                for v in 0..V {
                    let q = _mm512_loadu_pd(row.add(v * LANES));
                    for (accumulators, factor) in accumulators.iter_mut().zip(factors) {
                        accumulators[v] = _mm512_fmadd_pd(factor, q, accumulators[v]);
                    }
                }
            }
            for (p, accumulators) in accumulators.iter().enumerate() {
                for (v, accumulator) in accumulators.iter().enumerate() {
                    _mm512_storeu_pd(sums.as_mut_ptr().add(p * padded + offset + v * LANES), *accumulator);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a zero in every three inputs, or all but one in 11: tiles meet almost everywhere, or at few rows.
    fn data(rows: usize, width: usize, planes: usize, mostly_zero: bool) -> (Vec<f32>, Vec<f32>) {
        let zero = |i: usize| if mostly_zero { !i.is_multiple_of(11) } else { i.is_multiple_of(3) };
        let input = |i: usize| if zero(i) { 0.0 } else { (i as f32 * 0.37).sin() + 0.1 };
        let x = (0..rows * width).map(input).collect();
        let q = (0..rows * planes).map(|i| (i as f32 * 0.61).cos().abs()).collect();
        (x, q)
    }

    #[test]
    fn every_plane_agrees_with_the_plain_sum() {
        let shapes = [(1, 1, 1), (70, 5, 3), (130, 9, 60), (65, 4, 17), (30, 21, 2), (300, 25, 9)];
        for ((rows, width, planes), mostly_zero) in shapes.into_iter().flat_map(|s| [(s, false), (s, true)]) {
            let (x, q) = data(rows, width, planes, mostly_zero);
            let mut gram = WeightedGram::new(width, planes);
            let mut scratch = GramScratch::default();
            gram.accumulate(&x, &q, rows, &mut scratch);
            gram.accumulate(&x, &q, rows, &mut scratch);
            let matrices = gram.matrices(0.5);
            for plane in 0..planes {
                let matrix = &matrices[plane];
                for (j, k) in (0..width).flat_map(|j| (j..width).map(move |k| (j, k))) {
                    let value = matrix.get(j, k);
                    let expected: f64 = (0..rows)
                        .map(|i| {
                            f64::from(q[i * planes + plane]) * f64::from(x[i * width + j]) * f64::from(x[i * width + k])
                        })
                        .sum();
                    assert!((value - expected).abs() < 1e-11, "{rows} {width} {planes}: {value} {expected}");
                }
            }
        }
    }

    #[test]
    fn simd_and_scalar_kernels_agree_to_rounding() {
        let padded = 64;
        let wide = |values: Vec<f32>| -> Vec<f64> { values.into_iter().map(f64::from).collect() };
        let (products, weights) = data(40, PRODUCTS, padded, false);
        let (products, weights) = (wide(products), wide(weights));
        let list: Vec<u32> = (0..40).map(|i| i * padded as u32).collect();
        let mut fast = vec![0.5; PRODUCTS * padded];
        let mut slow = fast.clone();
        add_products(&mut fast, padded, &list, &products, &weights);
        add_scalar::<false>(&mut slow, padded, &list, &products, &weights);
        for (a, b) in fast.iter().zip(&slow) {
            assert!((a - b).abs() < 1e-13);
        }
    }
}
