//! Many weighted Gram matrices of the same vectors at once: `H_p += sum_i q[i, p] x_i x_i'`, accumulated in `f64`.
//!
//! This is the work of the closed form at neuron scale (`docs/theory.md`, section 4): the neurons `p` of a layer share their inputs
//! `x_i` and differ in the curvature `q[i, p]`. Products of two inputs are formed once and used by all neurons. Inputs
//! of images and of rectifiers are mostly zero, so features are taken in tiles of two and a pair of tiles visits
//! only the datapoints at which both are nonzero. Where that is most of them, a matrix product does the same.

use super::{Symmetric, View, matmul};
use crate::num::{
    Lanes, Real, fast_paths,
    simd::{Simd, WithSimd, dispatch, fused, vectorized},
};
use rayon::prelude::*;
use std::{cell::Cell, ops::Range};

/// Features per tile.
const TILE: usize = 2;
/// Products per pair of tiles.
const PRODUCTS: usize = TILE * TILE;
/// `f64` lanes of a vector register.
const LANES: usize = 8;
/// Sums of a pair of tiles, for one plane per lane.
const PAIR: usize = PRODUCTS * LANES;
/// Vectors of planes whose sums are held in registers together where there are 32: `PRODUCTS` accumulators of each. Seven are the 50 units of the widest layer of the
/// paper's autoencoder.
const HELD: usize = 7;
/// How many rows ahead memory is prefetched: the rows that a pair of tiles visits lie apart, so the processor does not predict them.
const AHEAD: usize = 8;
/// Columns of the matrices that are read from the sums together.
const BLOCK: usize = 8;
/// From this share of rows at which two tiles meet on, products of whole matrices are faster.
const DENSE: f64 = 0.3;
/// Rows of a product of whole matrices.
const DENSE_ROWS: usize = 256;
/// Rows of weights that a thread takes at a time.
const PADDED_ROWS: usize = 128;

/// The Gram matrices of `planes` weightings of vectors of length `width`.
///
/// Memory: about `4 * planes * width^2` bytes (half of each symmetric matrix).
#[derive(Clone, Debug)]
pub struct WeightedGram {
    width: usize,
    planes: usize,
    /// `planes` rounded up to full vectors.
    padded: usize,
    /// `[vectors of planes, pairs of tiles t1 <= t2 by t1, PRODUCTS, LANES]`: the matrices of a few planes are one run of memory, row by row.
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

    /// Bytes of the sums, without what pads the width to whole tiles.
    pub fn bytes(width: usize, planes: usize) -> usize {
        planes.next_multiple_of(LANES) * width * width * size_of::<f64>() / 2
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
        tiled.resize(tiles * rows * TILE, T::ZERO);
        let words = super::bits::words(rows);
        occupied.resize(tiles * words, 0);
        tiled.par_chunks_exact_mut(rows * TILE).zip(occupied.par_chunks_exact_mut(words)).enumerate().for_each(
            |(t, (tile, occupied))| {
                let features = t * TILE..self.width.min((t + 1) * TILE);
                occupied.fill(0);
                for (i, tile) in tile.chunks_exact_mut(TILE).enumerate() {
                    let source = &x[i * self.width..][features.clone()];
                    let (values, behind) = tile.split_at_mut(source.len());
                    values.copy_from_slice(source);
                    behind.fill(T::ZERO);
                    let any = source.iter().any(|v| *v != T::ZERO);
                    occupied[i / 64] |= u64::from(any) << (i % 64);
                }
            },
        );
        weights.resize(rows * self.padded, 0.0);
        let parts = weights.par_chunks_mut(PADDED_ROWS * self.padded).zip(q.par_chunks(PADDED_ROWS * self.planes));
        parts.for_each(|(weights, q)| {
            for (padded, row) in weights.chunks_exact_mut(self.padded).zip(q.chunks_exact(self.planes)) {
                let (values, behind) = padded.split_at_mut(row.len());
                values.iter_mut().zip(row).for_each(|(to, q)| *to = q.to_f64());
                behind.fill(0.0);
            }
        });
        let inputs =
            Inputs { rows, padded: self.padded, tiled: &tiled[..], occupied: &occupied[..], weights: &weights[..] };
        // One task per row of tile pairs (t1, t1..tiles): the first ones are the longest.
        let mut stripes: Vec<(usize, Vec<&mut [f64]>)> = (0..tiles).map(|t1| (t1, Vec::new())).collect();
        for mut rest in self.sums.chunks_exact_mut(tiles * (tiles + 1) / 2 * PAIR) {
            for (t1, parts) in &mut stripes {
                let (part, tail) = rest.split_at_mut((tiles - *t1) * PAIR);
                parts.push(part);
                rest = tail;
            }
        }
        stripes.into_par_iter().with_max_len(1).for_each(|(t1, mut stripe)| {
            let pairs = (t1..tiles).map(|t2| inputs.meetings(t1, t2)).sum::<usize>();
            if !fast_paths() || pairs as f64 > DENSE * (rows * (tiles - t1)) as f64 {
                inputs.add_dense(t1..tiles, &mut stripe);
            } else {
                inputs.add_sparse(t1..tiles, &mut stripe);
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
        let vectors = planes.end.div_ceil(LANES) - planes.start / LANES;
        let of_vector = |v: usize| {
            let first = planes.start + v * LANES;
            self.read(first / LANES, planes.end.min(first + LANES) - first, scale)
        };
        let parts: Vec<Vec<Symmetric>> = (0..vectors).into_par_iter().with_max_len(1).map(of_vector).collect();
        parts.into_iter().flatten().collect()
    }

    /// The first `count` matrices of a vector of planes.
    fn read(&self, vector: usize, count: usize, scale: f64) -> Vec<Symmetric> {
        let (width, tiles) = (self.width, self.width.div_ceil(TILE));
        let all = tiles * (tiles + 1) / 2 * PRODUCTS;
        let mut rest = &self.sums.as_chunks::<LANES>().0[vector * all..][..all];
        let mut entries: Vec<Vec<f64>> = (0..count).map(|_| Vec::with_capacity(width * (width + 1) / 2)).collect();
        for t1 in 0..tiles {
            let (stripe, below) = rest.split_at((tiles - t1) * PRODUCTS);
            rest = below;
            for row in t1 * TILE..width.min((t1 + 1) * TILE) {
                let at = |column: usize| &stripe[(column / TILE - t1) * PRODUCTS + row % TILE * TILE + column % TILE];
                for start in (row..width).step_by(BLOCK) {
                    let columns = BLOCK.min(width - start);
                    let mut turned = [[0.0; BLOCK]; LANES];
                    for c in 0..columns {
                        turned.iter_mut().zip(at(start + c)).for_each(|(to, sum)| to[c] = scale * sum);
                    }
                    entries.iter_mut().zip(&turned).for_each(|(to, turned)| to.extend_from_slice(&turned[..columns]));
                }
            }
        }
        entries.into_iter().map(|entries| Symmetric::from_rows(width, entries)).collect()
    }
}

thread_local! {
    /// Numbers that a task works on, kept from task to task: fresh memory would have to be cleared.
    static KEPT: Cell<[Vec<f64>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
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

    /// Pairs of the first tile with all of them, visiting only rows at which both are not zero.
    fn add_sparse(&self, tiles: Range<usize>, stripe: &mut [&mut [f64]]) {
        let (rows, padded, t1) = (self.rows, self.padded, tiles.start);
        // Each number of the first tile as often as it is needed.
        let first = self.tile(t1).chunks_exact(TILE);
        let first: Vec<[f64; PRODUCTS]> = first.map(|a| std::array::from_fn(|p| a[p / TILE].to_f64())).collect();
        let (mut list, mut products) = (vec![0; rows], vec![[0.0; PRODUCTS]; rows]);
        for (pair, t2) in tiles.enumerate() {
            let second = self.tile(t2).as_chunks::<TILE>().0;
            let mut count = 0;
            for (w, (a, b)) in self.occupied(t1).iter().zip(self.occupied(t2)).enumerate() {
                let mut both = a & b;
                while both != 0 {
                    let i = w * 64 + both.trailing_zeros() as usize;
                    both &= both - 1;
                    prefetch(&first[i]);
                    prefetch(&second[i]);
                    list[count] = i as u32;
                    count += 1;
                }
            }
            vectorized(
                #[inline(always)]
                || {
                    for (i, product) in list[..count].iter_mut().zip(&mut products) {
                        let (a, b) = (&first[*i as usize], &second[*i as usize]);
                        *product = std::array::from_fn(|p| a[p] * b[p % TILE].to_f64());
                        *i *= padded as u32;
                    }
                },
            );
            if count > 0 {
                add_products(stripe, pair * PAIR, padded, &list[..count], &products[..count], self.weights);
            }
        }
    }

    /// The same as a matrix product over all rows.
    fn add_dense(&self, tiles: Range<usize>, stripe: &mut [&mut [f64]]) {
        let (rows, padded, t1) = (self.rows, self.padded, tiles.start);
        let [mut products, mut sums] = KEPT.take();
        for start in (0..rows).step_by(DENSE_ROWS) {
            let range = start..rows.min(start + DENSE_ROWS);
            let inside = range.start * TILE..range.end * TILE;
            products.clear();
            for t2 in tiles.clone() {
                let (a, b) = (&self.tile(t1)[inside.clone()], &self.tile(t2)[inside.clone()]);
                for p in 0..PRODUCTS {
                    products.extend(
                        a.chunks_exact(TILE)
                            .zip(b.chunks_exact(TILE))
                            .map(|(a, b)| a[p / TILE].to_f64() * b[p % TILE].to_f64()),
                    );
                }
            }
            let lhs = View::new(&products, tiles.len() * PRODUCTS, range.len());
            let rhs = View::new(&self.weights[range.start * padded..range.end * padded], range.len(), padded);
            sums.resize(tiles.len() * PRODUCTS * padded, 0.0);
            matmul(&mut sums, padded, lhs, rhs, start > 0);
        }
        for (vector, part) in stripe.iter_mut().enumerate() {
            for (to, sums) in part.as_chunks_mut::<LANES>().0.iter_mut().zip(sums.chunks_exact(padded)) {
                to.iter_mut().zip(&sums[vector * LANES..]).for_each(|(to, sum)| *to += sum);
            }
        }
        KEPT.set([products, sums]);
    }
}

/// `sums[p, :] += sum_s products[s, p] * weights[list[s] .. + padded]` for the `PRODUCTS` products `p`; each vector of planes has a part of
/// `stripe`, and its sums begin at `pair` there.
fn add_products(
    stripe: &mut [&mut [f64]],
    pair: usize,
    padded: usize,
    list: &[u32],
    products: &[[f64; PRODUCTS]],
    weights: &[f64],
) {
    assert!(stripe.len() * LANES == padded && stripe.iter().all(|part| pair + PAIR <= part.len()));
    dispatch(AddProducts { stripe, pair, padded, list, products, weights });
}

/// A checked call of [`add_products`].
struct AddProducts<'a, 'b> {
    stripe: &'a mut [&'b mut [f64]],
    pair: usize,
    padded: usize,
    list: &'a [u32],
    products: &'a [[f64; PRODUCTS]],
    weights: &'a [f64],
}

impl WithSimd for AddProducts<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { stripe, pair, padded, list, products, weights } = self;
        let last = list.iter().fold(0, |last, start| last.max(*start)) as usize;
        assert!(last + padded <= weights.len(), "weights end before the row at {last} does");
        if S::F64_LANES != LANES {
            for (vector, part) in stripe.iter_mut().enumerate() {
                add_by_parts::<S>(&mut part[pair..], vector * LANES, list, products, weights);
            }
            return;
        }
        for (group, parts) in stripe.chunks_mut(HELD).enumerate() {
            let rows = Listed { offset: group * HELD * LANES, list, products, weights };
            // SAFETY: all rows of weights end inside, and `add_products` checked that the parts do not end before the pair does.
            unsafe {
                match parts.len() {
                    7 => add_held::<S, 7>(simd, parts, pair, rows),
                    6 => add_held::<S, 6>(simd, parts, pair, rows),
                    5 => add_held::<S, 5>(simd, parts, pair, rows),
                    4 => add_held::<S, 4>(simd, parts, pair, rows),
                    3 => add_held::<S, 3>(simd, parts, pair, rows),
                    2 => add_held::<S, 2>(simd, parts, pair, rows),
                    _ => add_held::<S, 1>(simd, parts, pair, rows),
                }
            }
        }
    }
}

/// The rows that a pair of tiles visits, for the planes from `offset` on.
#[derive(Clone, Copy)]
struct Listed<'a> {
    offset: usize,
    list: &'a [u32],
    products: &'a [[f64; PRODUCTS]],
    weights: &'a [f64],
}

/// `V` vectors of planes, all products, all listed rows, the sums in registers.
///
/// # Safety
/// A vector has `LANES` numbers; `V * LANES` weights from the offset after each listed start lie inside the weights, and there are `V` parts
/// with the sums of a pair from `pair` on.
#[inline(always)]
unsafe fn add_held<S: Simd, const V: usize>(simd: S, parts: &mut [&mut [f64]], pair: usize, rows: Listed) {
    assert_eq!(parts.len(), V);
    let mut accumulators = [[f64::splat(simd, 0.0); V]; PRODUCTS];
    // SAFETY: the caller's promise.
    unsafe {
        for (p, accumulators) in accumulators.iter_mut().enumerate() {
            for (v, accumulator) in accumulators.iter_mut().enumerate() {
                *accumulator = f64::load::<S>(parts[v].as_ptr().add(pair + p * LANES));
            }
        }
        for (start, products) in rows.list.iter().zip(rows.products) {
            let row = rows.weights.as_ptr().add(*start as usize + rows.offset);
            let mut factors = [f64::splat(simd, 0.0); PRODUCTS];
            for (factor, product) in factors.iter_mut().zip(products) {
                *factor = f64::splat(simd, *product);
            }
            for v in 0..V {
                let q = f64::load::<S>(row.add(v * LANES));
                for (accumulators, factor) in accumulators.iter_mut().zip(factors) {
                    accumulators[v] = f64::fma(simd, factor, q, accumulators[v]);
                }
            }
        }
        for (p, accumulators) in accumulators.iter().enumerate() {
            for (v, accumulator) in accumulators.iter().enumerate() {
                f64::store::<S>(parts[v].as_mut_ptr().add(pair + p * LANES), *accumulator);
            }
        }
    }
}

/// Prefetches a value that is needed soon.
#[inline(always)]
fn prefetch<V>(value: &V) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every processor of this architecture has the instruction, which changes nothing that a program can see.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// The products of one vector of planes from `offset` on, vectorized by the compiler: `sums` begin at the pair.
#[inline(always)]
fn add_by_parts<S: Simd>(sums: &mut [f64], offset: usize, list: &[u32], products: &[[f64; PRODUCTS]], weights: &[f64]) {
    let (sums, after) = sums.as_chunks_mut::<LANES>().0.split_at_mut(PRODUCTS);
    // Those of the next pair.
    after.iter().take(PRODUCTS).for_each(prefetch);
    let mut accumulators: [[f64; LANES]; PRODUCTS] = std::array::from_fn(|p| sums[p]);
    for (at, (start, products)) in list.iter().zip(products).enumerate() {
        if let Some(soon) = list.get(at + AHEAD) {
            prefetch(&weights[*soon as usize + offset]);
        }
        let row = &weights[*start as usize + offset..][..LANES];
        for (accumulator, product) in accumulators.iter_mut().zip(products) {
            for (sum, q) in accumulator.iter_mut().zip(row) {
                *sum = if fused::<S>() { product.mul_add(*q, *sum) } else { *sum + product * q };
            }
        }
    }
    sums.copy_from_slice(&accumulators);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::simd::on_every_instruction_set;

    /// With a zero in every three inputs, or all but one in 11: tiles meet almost everywhere, or at few rows.
    fn data(rows: usize, width: usize, planes: usize, mostly_zero: bool) -> (Vec<f32>, Vec<f32>) {
        let zero = |i: usize| if mostly_zero { !i.is_multiple_of(11) } else { i.is_multiple_of(3) };
        let input = |i: usize| if zero(i) { 0.0 } else { (i as f32 * 0.37).sin() + 0.1 };
        let x = (0..rows * width).map(input).collect();
        let q = (0..rows * planes).map(|i| (i as f32 * 0.61).cos().abs()).collect();
        (x, q)
    }

    #[test]
    fn every_plane_agrees_with_the_plain_sum_on_every_instruction_set() {
        on_every_instruction_set(every_plane_agrees);
    }

    fn every_plane_agrees() {
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
    fn sums_of_a_pair_go_to_its_place_only() {
        on_every_instruction_set(|| {
            let padded = 64;
            let wide = |values: Vec<f32>| -> Vec<f64> { values.into_iter().map(f64::from).collect() };
            let (products, weights) = data(40, PRODUCTS, padded, false);
            let (products, weights) = (wide(products), wide(weights));
            let products = products.as_chunks::<PRODUCTS>().0;
            let list: Vec<u32> = (0..40).map(|i| i * padded as u32).collect();
            // Two pairs of tiles, of which the second is added to.
            let mut found = vec![vec![0.5; 2 * PAIR]; padded / LANES];
            let mut stripe: Vec<&mut [f64]> = found.iter_mut().map(Vec::as_mut_slice).collect();
            add_products(&mut stripe, PAIR, padded, &list, products, &weights);
            for (vector, part) in found.iter().enumerate() {
                assert_eq!(part[..PAIR], [0.5; PAIR]);
                for (at, sum) in part[PAIR..].iter().enumerate() {
                    let (p, plane) = (at / LANES, vector * LANES + at % LANES);
                    let expected: f64 = (0..40).map(|i| products[i][p] * weights[i * padded + plane]).sum();
                    assert!((sum - 0.5 - expected).abs() < 1e-13, "{p} {plane}: {sum} {expected}");
                }
            }
        });
    }
}
