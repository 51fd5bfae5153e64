//! What stands between the pre-activations of a block and its output, or behind a sum: a rectifier and a pool.
//!
//! Both only select and scale, so the derivative of a max-pool with the rectifier before it is one byte per output: the argmax index in
//! the window, in row-major order, and which slope the rectifier has there. All functions take one image at a time:
//! pre-activations `a: [positions, units]` and outputs `[output positions, units]`.

use crate::network::{Activation, Block, Pool, Rectifier};
use crate::num::Real;

/// The derivative of a rectifier and a pool at the recorded pre-activations, for linear passes.
#[derive(Clone, Copy, Debug)]
pub enum ActivationDerivative<'a, T> {
    /// There is neither rectifier nor pool.
    Identity,
    /// `s'(a)`, of every pre-activation.
    Elementwise(&'a [T]),
    /// For a max-pool, per output: `argmax + size * size * side`, where `side` is 0, 1 or 2 if the largest value is positive (or there is no
    /// rectifier), negative or zero.
    Argmax(&'a [u8]),
}

/// The index in the window, in row-major order, that a code of [`ActivationDerivative::Argmax`] names.
pub fn argmax_index(pool: &Pool, code: u8) -> usize {
    usize::from(code) % pool.places()
}

impl<T> ActivationDerivative<'_, T> {
    /// The derivative of one datapoint of several, with `before` values before it and `behind` values behind it each.
    pub fn part(&self, row: usize, before: usize, behind: usize) -> Self {
        match self {
            ActivationDerivative::Identity => ActivationDerivative::Identity,
            ActivationDerivative::Elementwise(derivatives) => {
                ActivationDerivative::Elementwise(&derivatives[row * before..(row + 1) * before])
            }
            ActivationDerivative::Argmax(argmax) => {
                ActivationDerivative::Argmax(&argmax[row * behind..(row + 1) * behind])
            }
        }
    }

    /// The derivative of one datapoint of several.
    pub fn row(&self, row: usize, block: &Block) -> Self {
        self.part(row, block.activations(), block.features_out())
    }
}

/// The slopes of a rectifier on the three sides that a code tells apart.
pub(super) fn sides<T: Real>(rectifier: Option<Rectifier>) -> [T; 3] {
    match rectifier {
        Some(rectifier) => [T::ONE, T::from_f64(rectifier.negative_slope()), T::from_f64(rectifier.slope_at_zero())],
        None => [T::ONE; 3],
    }
}

/// Output and argmax codes of one image behind a max-pool.
pub fn max_pool<T: Real>(rectifier: Option<Rectifier>, pool: &Pool, a: &[T], out: &mut [T], argmax: &mut [u8]) {
    let [_, negative, zero] = sides::<T>(rectifier);
    // Without branches, or there will be no vectors.
    crate::num::vectorized(
        #[inline(always)]
        || match rectifier {
            None => select(pool, a, out, argmax, |a| (a, 0)),
            // The side of a largest value of 0 has the same slope as that of a negative one.
            Some(Rectifier::Relu) => select(pool, a, out, argmax, move |a| {
                let (flat, positive) = (a * zero, a > T::ZERO);
                (if positive { a } else { flat }, u32::from(!positive))
            }),
            Some(_) => select(pool, a, out, argmax, move |a| {
                let (below, flat) = (negative * a, zero * a);
                let side = if a > T::ZERO { 0 } else { 2 - u32::from(a < T::ZERO) };
                (
                    if a > T::ZERO {
                        a
                    } else if a < T::ZERO {
                        below
                    } else {
                        flat
                    },
                    side,
                )
            }),
        },
    );
}

/// Channels that go through a window together: enough for the compiler to make vectors of them instead of unrolling them one by one.
const CHANNELS: usize = 64;

#[inline(always)]
fn select<T: Real>(pool: &Pool, a: &[T], out: &mut [T], argmax: &mut [u8], unit: impl Fn(T) -> (T, u32)) {
    let (units, places) = (pool.input.channels, pool.places() as u32);
    // Codes as wide as single-precision numbers, so that a comparison selects both.
    let (mut best, mut codes) = ([T::ZERO; CHANNELS], [0; CHANNELS]);
    for (at, (out, argmax)) in out.chunks_exact_mut(units).zip(argmax.chunks_exact_mut(units)).enumerate() {
        let window = &a[pool.corner(at) * units..];
        let chunks = out.chunks_mut(CHANNELS).zip(argmax.chunks_mut(CHANNELS));
        for (chunk, (out, argmax)) in chunks.enumerate() {
            let (best, codes) = (&mut best[..out.len()], &mut codes[..out.len()]);
            for i in 0..pool.size {
                for j in 0..pool.size {
                    let place = (i * pool.size + j) as u32;
                    let values = &window[(i * pool.input.width + j) * units + chunk * CHANNELS..];
                    for ((value, best), code) in values.iter().zip(&mut *best).zip(&mut *codes) {
                        let (z, side) = unit(*value);
                        let better = (place == 0) | (z > *best);
                        *best = if better { z } else { *best };
                        *code = if better { place + places * side } else { *code };
                    }
                }
            }
            out.copy_from_slice(best);
            argmax.iter_mut().zip(codes).for_each(|(to, code)| *to = *code as u8);
        }
    }
}

/// `s'(a)` of every pre-activation.
fn derivatives_of<T: Real>(rectifier: Option<Rectifier>, a: &[T], derivatives: &mut [T]) {
    crate::num::vectorized(
        #[inline(always)]
        || match rectifier {
            Some(rectifier) => rectifier.derivatives(a, derivatives),
            None => derivatives.fill(T::ONE),
        },
    );
}

/// Output and derivatives of one image, without a max-pool.
pub fn rectify<T: Real>(activation: &Activation, a: &[T], out: &mut [T], derivatives: &mut [T]) {
    derivatives_of(activation.rectifier, a, derivatives);
    jvp(activation, ActivationDerivative::Elementwise(derivatives), a, out);
}

/// Output and derivatives where there is no pool; `values` are pre-activations before and outputs after.
pub fn rectify_in_place<T: Real>(rectifier: Option<Rectifier>, values: &mut [T], derivatives: &mut [T]) {
    let Some(rectifier) = rectifier else { return derivatives.fill(T::ONE) };
    crate::num::vectorized(
        #[inline(always)]
        || {
            rectifier.derivatives(values, derivatives);
            values.iter_mut().zip(derivatives.iter()).for_each(|(a, slope)| *a *= *slope);
        },
    );
}

/// `out = G a` for one image, with `G` the derivative of the output in the pre-activations: forward mode, and also the value itself.
pub fn jvp<T: Real>(activation: &Activation, derivative: ActivationDerivative<T>, a: &[T], out: &mut [T]) {
    crate::num::vectorized(
        #[inline(always)]
        || match (derivative, &activation.pool) {
            (ActivationDerivative::Identity, _) => out.copy_from_slice(a),
            (ActivationDerivative::Elementwise(derivatives), None) => {
                for ((out, a), slope) in out.iter_mut().zip(a).zip(derivatives) {
                    *out = *a * *slope;
                }
            }
            (ActivationDerivative::Elementwise(derivatives), Some(pool)) => {
                let units = pool.input.channels;
                let share = T::ONE / T::from_f64(pool.places() as f64);
                out.fill(T::ZERO);
                pool.each_place(|to, _, from| {
                    let out = &mut out[to * units..][..units];
                    let values = a[from * units..][..units].iter().zip(&derivatives[from * units..][..units]);
                    for (out, (a, slope)) in out.iter_mut().zip(values) {
                        *out += *a * *slope;
                    }
                });
                out.iter_mut().for_each(|out| *out *= share);
            }
            (ActivationDerivative::Argmax(argmax), Some(pool)) => {
                let units = pool.input.channels;
                out.fill(T::ZERO);
                each_side(activation.rectifier, pool, |side, slope: T| {
                    pool.each_place(|to, place, from| {
                        let code = place as u8 + side;
                        let out = &mut out[to * units..][..units];
                        let values = a[from * units..][..units].iter().zip(&argmax[to * units..][..units]);
                        for (out, (a, recorded)) in out.iter_mut().zip(values) {
                            *out = if *recorded == code { slope * *a } else { *out };
                        }
                    });
                });
            }
            (ActivationDerivative::Argmax(_), None) => unreachable!("argmax indices are of a pool"),
        },
    );
}

/// `delta = G' cotangent` for one image: the cotangent of the pre-activations from that of the output.
pub fn vjp<T: Real>(activation: &Activation, derivative: ActivationDerivative<T>, cotangent: &[T], delta: &mut [T]) {
    crate::num::vectorized(
        #[inline(always)]
        || match (derivative, &activation.pool) {
            (ActivationDerivative::Identity, _) => delta.copy_from_slice(cotangent),
            (ActivationDerivative::Elementwise(derivatives), None) => {
                for ((delta, g), slope) in delta.iter_mut().zip(cotangent).zip(derivatives) {
                    *delta = *g * *slope;
                }
            }
            (ActivationDerivative::Elementwise(derivatives), Some(pool)) => {
                let units = pool.input.channels;
                let share = T::ONE / T::from_f64(pool.places() as f64);
                delta.fill(T::ZERO);
                pool.each_place(|to, _, from| {
                    let delta = &mut delta[from * units..][..units];
                    for (delta, g) in delta.iter_mut().zip(&cotangent[to * units..][..units]) {
                        *delta += *g * share;
                    }
                });
                delta.iter_mut().zip(derivatives).for_each(|(delta, slope)| *delta *= *slope);
            }
            (ActivationDerivative::Argmax(argmax), Some(pool)) => {
                let units = pool.input.channels;
                delta.fill(T::ZERO);
                each_side(activation.rectifier, pool, |side, slope: T| {
                    pool.each_place(|to, place, from| {
                        let code = place as u8 + side;
                        let delta = &mut delta[from * units..][..units];
                        let values = cotangent[to * units..][..units].iter().zip(&argmax[to * units..][..units]);
                        for (delta, (g, recorded)) in delta.iter_mut().zip(values) {
                            *delta += if *recorded == code { slope * *g } else { T::ZERO };
                        }
                    });
                });
            }
            (ActivationDerivative::Argmax(_), None) => unreachable!("argmax indices are of a pool"),
        },
    );
}

/// Calls `visit` with the offset of the codes and the slope of every side whose slope may differ from 0.
#[inline(always)]
fn each_side<T: Real>(rectifier: Option<Rectifier>, pool: &Pool, mut visit: impl FnMut(u8, T)) {
    let places = pool.places() as u8;
    let used = match rectifier {
        None | Some(Rectifier::Relu) => 1,
        Some(_) => 3,
    };
    for (side, slope) in sides::<T>(rectifier).into_iter().enumerate().take(used) {
        visit(places * side as u8, slope);
    }
}
