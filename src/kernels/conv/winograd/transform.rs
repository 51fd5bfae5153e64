//! The transforms of Winograd's convolutions, on vectors of channels.

use crate::{
    kernels::skinny::load_part,
    num::{
        Lanes, Real,
        simd::{Simd, WithSimd, compiled_here},
    },
};

/// Points at which polynomials are evaluated, infinity the last.
pub const POINTS: usize = 8;
/// Pairs of points.
pub const PLANES: usize = POINTS * POINTS;
/// The points `p` of which `-p` is one, too; the others are 0 and infinity. In order: 0, 1, -1, 2, -2, 1/2, -1/2, infinity.
const PAIRS: [f64; 3] = [1.0, 2.0, 0.5];

/// A transform of windows in one direction.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// `B'`, of inputs.
    Interpolation,
    /// `A`, of this many outputs.
    Values(usize),
    /// `C A`, of a filter of that size.
    Weighted(usize),
}

impl Form {
    /// Rows and columns of the window.
    pub fn side(self) -> usize {
        match self {
            Form::Interpolation => POINTS,
            Form::Values(side) | Form::Weighted(side) => side,
        }
    }
}

pub enum Direction {
    /// From a window to the planes.
    Gather,
    /// From the planes to a window, by the adjoint.
    Scatter,
}

/// A transform of one window, all channels.
pub struct Transform<T> {
    pub direction: Direction,
    pub form: Form,
    /// Where the channels of the window's places are, row by row.
    pub places: [*mut T; PLANES],
    /// The row of the first plane.
    pub planes: *mut T,
    /// From the row of a plane to that of the next.
    pub stride: usize,
    pub channels: usize,
}

/// Does a transform.
pub(super) fn transform<T: Real>(work: Transform<T>) {
    T::by_type::<Transforms>(work);
}

compiled_here!(
    /// The forms of [`transform`].
    Transforms<'a, T>: Transform<T>
);

impl<T: Lanes> WithSimd for Transform<T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // SAFETY: the channels of all places and of the planes' rows were checked by those who make a `Transform`.
        unsafe {
            match self.form {
                Form::Interpolation => vectors::<S, T, Interpolation, POINTS>(simd, &self),
                Form::Values(4) => vectors::<S, T, Values, 4>(simd, &self),
                Form::Values(6) => vectors::<S, T, Values, 6>(simd, &self),
                Form::Weighted(3) => vectors::<S, T, Weighted, 3>(simd, &self),
                Form::Weighted(5) => vectors::<S, T, Weighted, 5>(simd, &self),
                form => unreachable!("{form:?} is of no tiling"),
            }
        }
    }
}

/// A linear map from `N` numbers to as many as there are points, and its adjoint.
trait Linear<const N: usize> {
    fn map<S: Simd, T: Lanes>(simd: S, v: [T::Vector<S>; N]) -> [T::Vector<S>; POINTS];
    fn adjoint<S: Simd, T: Lanes>(simd: S, v: [T::Vector<S>; POINTS]) -> [T::Vector<S>; N];
}

/// `k x`.
#[inline(always)]
fn scaled<S: Simd, T: Lanes>(simd: S, k: f64, x: T::Vector<S>) -> T::Vector<S> {
    T::fma(simd, T::splat(simd, T::from_f64(k)), x, T::splat(simd, T::ZERO))
}

/// `k x + y`.
#[inline(always)]
fn add<S: Simd, T: Lanes>(simd: S, k: f64, x: T::Vector<S>, y: T::Vector<S>) -> T::Vector<S> {
    T::fma(simd, T::splat(simd, T::from_f64(k)), x, y)
}

/// `x + y`.
#[inline(always)]
fn plus<S: Simd, T: Lanes>(simd: S, x: T::Vector<S>, y: T::Vector<S>) -> T::Vector<S> {
    add::<S, T>(simd, 1.0, x, y)
}

/// `x - y`.
#[inline(always)]
fn minus<S: Simd, T: Lanes>(simd: S, x: T::Vector<S>, y: T::Vector<S>) -> T::Vector<S> {
    add::<S, T>(simd, -1.0, y, x)
}

/// The squares of the points of the other two pairs: their sum and product.
const fn others(pair: usize) -> (f64, f64) {
    let (p, q) = (PAIRS[(pair + 1) % 3], PAIRS[(pair + 2) % 3]);
    (p * p + q * q, p * p * q * q)
}

/// The coefficients of `(y - 1)(y - 4)(y - 1/4) = y^3 - e y^2 + e y - 1`.
const E: f64 = 5.25;

/// `B'`, with the coefficients of the polynomial that is zero at all points but one in a row: for `p` of a pair
/// `x (x + p) (x^4 - s x^2 + t)`, with `s` and `t` of [`others`]; for 0 and infinity that of all pairs, and `x` times it.
struct Interpolation;

impl Linear<POINTS> for Interpolation {
    #[inline(always)]
    fn map<S: Simd, T: Lanes>(simd: S, v: [T::Vector<S>; POINTS]) -> [T::Vector<S>; POINTS] {
        let mut out = v;
        out[0] = minus::<S, T>(simd, add::<S, T>(simd, E, minus::<S, T>(simd, v[2], v[4]), v[6]), v[0]);
        out[7] = minus::<S, T>(simd, add::<S, T>(simd, E, minus::<S, T>(simd, v[3], v[5]), v[7]), v[1]);
        for (pair, p) in PAIRS.into_iter().enumerate() {
            let (s, t) = others(pair);
            let even = add::<S, T>(simd, t, v[2], add::<S, T>(simd, -s, v[4], v[6]));
            let odd = add::<S, T>(simd, t, v[1], add::<S, T>(simd, -s, v[3], v[5]));
            out[2 * pair + 1] = add::<S, T>(simd, p, odd, even);
            out[2 * pair + 2] = add::<S, T>(simd, -p, odd, even);
        }
        out
    }

    #[inline(always)]
    fn adjoint<S: Simd, T: Lanes>(simd: S, v: [T::Vector<S>; POINTS]) -> [T::Vector<S>; POINTS] {
        let mut out = [v[0], v[7], v[0], v[7], v[0], v[7], v[0], v[7]];
        for (out, k) in out.iter_mut().zip([-1.0, -1.0, E, E, -E, -E, 1.0, 1.0]) {
            *out = scaled::<S, T>(simd, k, *out);
        }
        for (pair, p) in PAIRS.into_iter().enumerate() {
            let (s, t) = others(pair);
            let (at, opposite) = (v[2 * pair + 1], v[2 * pair + 2]);
            let even = plus::<S, T>(simd, at, opposite);
            let odd = scaled::<S, T>(simd, p, minus::<S, T>(simd, at, opposite));
            for (first, x) in [(1, odd), (2, even)] {
                out[first] = add::<S, T>(simd, t, x, out[first]);
                out[first + 2] = add::<S, T>(simd, -s, x, out[first + 2]);
                out[first + 4] = plus::<S, T>(simd, x, out[first + 4]);
            }
        }
        out
    }
}

/// `A`, the values of a polynomial with `N` coefficients; at infinity, the last coefficient.
struct Values;

impl<const N: usize> Linear<N> for Values {
    #[inline(always)]
    fn map<S: Simd, T: Lanes>(simd: S, v: [T::Vector<S>; N]) -> [T::Vector<S>; POINTS] {
        let mut out = [v[0]; POINTS];
        out[POINTS - 1] = v[N - 1];
        for (pair, p) in PAIRS.into_iter().enumerate() {
            // Horner's rule for the even and the odd powers; each begins with one of the last two coefficients.
            let [mut even, mut odd] = if N % 2 == 1 { [v[N - 1], v[N - 2]] } else { [v[N - 2], v[N - 1]] };
            for j in (0..N - 2).rev() {
                let sum = if j % 2 == 0 { &mut even } else { &mut odd };
                *sum = add::<S, T>(simd, p * p, *sum, v[j]);
            }
            out[2 * pair + 1] = add::<S, T>(simd, p, odd, even);
            out[2 * pair + 2] = add::<S, T>(simd, -p, odd, even);
        }
        out
    }

    #[inline(always)]
    fn adjoint<S: Simd, T: Lanes>(simd: S, v: [T::Vector<S>; POINTS]) -> [T::Vector<S>; N] {
        let mut out = [T::splat(simd, T::ZERO); N];
        out[0] = v[0];
        out[N - 1] = v[POINTS - 1];
        for (pair, p) in PAIRS.into_iter().enumerate() {
            let (at, opposite) = (v[2 * pair + 1], v[2 * pair + 2]);
            let sums = [plus::<S, T>(simd, at, opposite), minus::<S, T>(simd, at, opposite)];
            let mut power = 1.0;
            for (j, out) in out.iter_mut().enumerate() {
                *out = add::<S, T>(simd, power, sums[j % 2], *out);
                power *= p;
            }
        }
        out
    }
}

/// `C A`: the values times the weights of the interpolation, one over the value of a point's polynomial at the point.
struct Weighted;

impl Weighted {
    #[inline(always)]
    fn weigh<S: Simd, T: Lanes>(simd: S, v: &mut [T::Vector<S>; POINTS]) {
        v[0] = scaled::<S, T>(simd, -1.0, v[0]);
        for (pair, p) in PAIRS.into_iter().enumerate() {
            let ((s, t), y) = (others(pair), p * p);
            let weight = 1.0 / (2.0 * y * (y * y - s * y + t));
            for v in &mut v[2 * pair + 1..2 * pair + 3] {
                *v = scaled::<S, T>(simd, weight, *v);
            }
        }
    }
}

impl<const N: usize> Linear<N> for Weighted {
    #[inline(always)]
    fn map<S: Simd, T: Lanes>(simd: S, v: [T::Vector<S>; N]) -> [T::Vector<S>; POINTS] {
        let mut out = Values::map::<S, T>(simd, v);
        Self::weigh::<S, T>(simd, &mut out);
        out
    }

    #[inline(always)]
    fn adjoint<S: Simd, T: Lanes>(simd: S, v: [T::Vector<S>; POINTS]) -> [T::Vector<S>; N] {
        let mut v = v;
        Self::weigh::<S, T>(simd, &mut v);
        Values::adjoint::<S, T>(simd, v)
    }
}

/// # Safety
/// As for [`Lanes::store`], as far as the mask goes.
#[inline(always)]
unsafe fn store<S: Simd, T: Lanes>(simd: S, mask: Option<T::Mask<S>>, to: *mut T, values: T::Vector<S>) {
    // SAFETY: the caller's promise.
    unsafe {
        match mask {
            None => T::store::<S>(to, values),
            Some(mask) => T::store_some::<S>(simd, mask, to, values),
        }
    }
}

// Closures would not be compiled for the instructions that the functions around them are.

/// All channels, a vector after the other.
///
/// # Safety
/// The channels of the window's places and of the planes' rows must be readable, and writable where the transform goes.
#[inline(always)]
unsafe fn vectors<S: Simd, T: Lanes, L: Linear<N>, const N: usize>(simd: S, work: &Transform<T>) {
    let lanes = T::lanes::<S>();
    let whole = work.channels - work.channels % lanes;
    // SAFETY: the caller's promise; the mask ends with the channels.
    unsafe {
        for channel in (0..whole).step_by(lanes) {
            vector::<S, T, L, N>(simd, work, channel, None);
        }
        if whole < work.channels {
            vector::<S, T, L, N>(simd, work, whole, Some(T::first::<S>(simd, work.channels - whole)));
        }
    }
}

/// A vector of channels, as far as the mask goes.
///
/// # Safety
/// As for [`vectors`].
#[inline(always)]
unsafe fn vector<S: Simd, T: Lanes, L: Linear<N>, const N: usize>(
    simd: S,
    work: &Transform<T>,
    channel: usize,
    mask: Option<T::Mask<S>>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match work.direction {
            Direction::Gather => gather::<S, T, L, N>(simd, work, channel, mask),
            Direction::Scatter => scatter::<S, T, L, N>(simd, work, channel, mask),
        }
    }
}

/// From a window to the planes.
///
/// # Safety
/// As for [`vectors`].
#[inline(always)]
unsafe fn gather<S: Simd, T: Lanes, L: Linear<N>, const N: usize>(
    simd: S,
    work: &Transform<T>,
    channel: usize,
    mask: Option<T::Mask<S>>,
) {
    let mut columns = [[T::splat(simd, T::ZERO); POINTS]; N];
    // SAFETY: the caller's promise.
    unsafe {
        for (j, column) in columns.iter_mut().enumerate() {
            let mut v = [T::splat(simd, T::ZERO); N];
            for (i, v) in v.iter_mut().enumerate() {
                *v = load_part::<S, T>(simd, mask, work.places[i * N + j].add(channel));
            }
            *column = L::map::<S, T>(simd, v);
        }
        for i in 0..POINTS {
            let mut v = [T::splat(simd, T::ZERO); N];
            for (v, column) in v.iter_mut().zip(&columns) {
                *v = column[i];
            }
            for (j, value) in L::map::<S, T>(simd, v).iter().enumerate() {
                store::<S, T>(simd, mask, work.planes.add((i * POINTS + j) * work.stride + channel), *value);
            }
        }
    }
}

/// From the planes to a window, which it is added to.
///
/// # Safety
/// As for [`vectors`].
#[inline(always)]
unsafe fn scatter<S: Simd, T: Lanes, L: Linear<N>, const N: usize>(
    simd: S,
    work: &Transform<T>,
    channel: usize,
    mask: Option<T::Mask<S>>,
) {
    let mut rows = [[T::splat(simd, T::ZERO); N]; POINTS];
    // SAFETY: the caller's promise.
    unsafe {
        for (i, row) in rows.iter_mut().enumerate() {
            let mut v = [T::splat(simd, T::ZERO); POINTS];
            for (j, v) in v.iter_mut().enumerate() {
                *v = load_part::<S, T>(simd, mask, work.planes.add((i * POINTS + j) * work.stride + channel));
            }
            *row = L::adjoint::<S, T>(simd, v);
        }
        for j in 0..N {
            let mut v = [T::splat(simd, T::ZERO); POINTS];
            for (v, row) in v.iter_mut().zip(&rows) {
                *v = row[j];
            }
            for (i, value) in L::adjoint::<S, T>(simd, v).iter().enumerate() {
                let to = work.places[i * N + j].add(channel);
                let sum = plus::<S, T>(simd, *value, load_part::<S, T>(simd, mask, to));
                store::<S, T>(simd, mask, to, sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::simd::on_every_instruction_set;

    const ALL: [f64; POINTS - 1] = [0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5];

    /// The coefficients of the polynomial with these zeros, the constant first.
    fn with_zeros(zeros: impl Iterator<Item = f64>) -> [f64; POINTS] {
        let mut coefficients = [0.0; POINTS];
        coefficients[0] = 1.0;
        for zero in zeros {
            for j in (0..POINTS).rev() {
                let below = if j > 0 { coefficients[j - 1] } else { 0.0 };
                coefficients[j] = below - zero * coefficients[j];
            }
        }
        coefficients
    }

    /// Toom and Cook's matrices, by their definition.
    fn matrix(form: Form) -> Vec<Vec<f64>> {
        let side = form.side();
        let row = |point: usize| {
            let polynomial = with_zeros(ALL.into_iter().enumerate().filter(|(q, _)| *q != point).map(|(_, zero)| zero));
            let Some(p) = ALL.get(point) else {
                return match form {
                    Form::Interpolation => polynomial.to_vec(),
                    _ => (0..side).map(|j| if j + 1 == side { 1.0 } else { 0.0 }).collect(),
                };
            };
            let value: f64 = polynomial.iter().enumerate().map(|(j, c)| c * p.powi(j as i32)).sum();
            match form {
                Form::Interpolation => polynomial.to_vec(),
                Form::Values(_) => (0..side).map(|j| p.powi(j as i32)).collect(),
                Form::Weighted(_) => (0..side).map(|j| p.powi(j as i32) / value).collect(),
            }
        };
        (0..POINTS).map(row).collect()
    }

    const FORMS: [Form; 5] =
        [Form::Interpolation, Form::Values(4), Form::Values(6), Form::Weighted(3), Form::Weighted(5)];

    #[test]
    fn the_matrices_are_an_algorithm_for_convolutions() {
        for (values, weighted) in [(4, 5), (6, 3)] {
            let (a, c) = (matrix(Form::Values(values)), matrix(Form::Weighted(weighted)));
            let b = matrix(Form::Interpolation);
            for (i, j, k) in
                (0..values).flat_map(|i| (0..weighted).flat_map(move |j| (0..POINTS).map(move |k| (i, j, k))))
            {
                let product: f64 = (0..POINTS).map(|p| a[p][i] * c[p][j] * b[p][k]).sum();
                let expected = if i + j == k { 1.0 } else { 0.0 };
                assert!((product - expected).abs() < 1e-13, "{values} {weighted}: {i} {j} {k} gives {product}");
            }
        }
    }

    fn both_directions<T: Real>(tolerance: f64) {
        let (channels, gap) = (37, 5);
        let stride = channels + gap;
        let numbers = |count: usize, speed: f64| -> Vec<T> {
            (0..count).map(|i| T::from_f64((i as f64 * speed + 0.3).sin())).collect()
        };
        for form in FORMS {
            let (matrix, side) = (matrix(form), form.side());
            let (window, planes) = (numbers(side * side * channels, 0.7), numbers(PLANES * stride, 0.4));
            let sum = |channel: usize, at: usize, gather: bool| -> f64 {
                let term = |i: usize, j: usize, a: usize, b: usize| {
                    let factor = matrix[i][a] * matrix[j][b];
                    match gather {
                        true => factor * window[(a * side + b) * channels + channel].to_f64(),
                        false => factor * planes[(i * POINTS + j) * stride + channel].to_f64(),
                    }
                };
                let size = if gather { side } else { POINTS };
                (0..size * size)
                    .map(|other| match gather {
                        true => term(at / POINTS, at % POINTS, other / size, other % size),
                        false => term(other / size, other % size, at / side, at % side),
                    })
                    .sum()
            };
            {
                let (mut window_out, mut planes_out) = (window.clone(), planes.clone());
                let work = |direction, window: &mut [T], planes: &mut [T]| {
                    let mut places = [std::ptr::null_mut(); PLANES];
                    for (place, channels) in places.iter_mut().zip(window.chunks_exact_mut(channels)) {
                        *place = channels.as_mut_ptr();
                    }
                    transform(Transform { direction, form, places, planes: planes.as_mut_ptr(), stride, channels });
                };
                work(Direction::Gather, &mut window.clone(), &mut planes_out);
                work(Direction::Scatter, &mut window_out, &mut planes.clone());
                for channel in 0..channels {
                    for at in 0..PLANES {
                        let (found, expected) = (planes_out[at * stride + channel], sum(channel, at, true));
                        assert!((found.to_f64() - expected).abs() < tolerance, "{form:?}: {found} {expected}");
                    }
                    for at in 0..side * side {
                        let place = at * channels + channel;
                        let (found, expected) = (window_out[place], window[place].to_f64() + sum(channel, at, false));
                        assert!((found.to_f64() - expected).abs() < tolerance, "{form:?}, back: {found} {expected}");
                    }
                }
                for plane in 0..PLANES {
                    let between = plane * stride + channels..(plane + 1) * stride;
                    assert_eq!(planes_out[between.clone()], planes[between], "what lies between planes must stay");
                }
            }
        }
    }

    #[test]
    fn transforms_are_their_matrices_on_every_instruction_set() {
        on_every_instruction_set(|| {
            both_directions::<f64>(1e-11);
            both_directions::<f32>(5e-3);
        });
    }
}
