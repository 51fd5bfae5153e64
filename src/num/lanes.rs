//! Vectors of either element type, for kernels that are written once for both and for every instruction set.

use super::Real;
use pulp::{MemMask, Simd};

/// An element type of vectors.
///
/// Everything is for use inside [`pulp::WithSimd::with_simd`], where it compiles to single instructions.
pub trait Lanes: Real {
    type Vector<S: Simd>: Copy;
    /// Some elements of a vector.
    type Mask<S: Simd>: Copy;

    /// Elements of a vector.
    fn lanes<S: Simd>() -> usize;

    fn splat<S: Simd>(simd: S, value: Self) -> Self::Vector<S>;

    /// `a b + c`, rounded once where the machine has an instruction for it.
    fn fma<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>, c: Self::Vector<S>) -> Self::Vector<S>;

    /// The sum of the elements.
    fn total<S: Simd>(simd: S, a: Self::Vector<S>) -> Self;

    /// The first `count` elements.
    fn first<S: Simd>(simd: S, count: usize) -> Self::Mask<S>;

    /// # Safety
    /// A vector of elements behind `from` must be readable.
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> Self::Vector<S> {
        // SAFETY: the caller's promise; any bits are numbers.
        unsafe { from.cast::<Self::Vector<S>>().read_unaligned() }
    }

    /// # Safety
    /// A vector of elements behind `to` must be writable.
    #[inline(always)]
    unsafe fn store<S: Simd>(to: *mut Self, values: Self::Vector<S>) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<Self::Vector<S>>().write_unaligned(values) }
    }

    /// The elements of a mask, and zeros.
    ///
    /// # Safety
    /// The masked elements behind `from` must be readable.
    unsafe fn load_some<S: Simd>(simd: S, mask: Self::Mask<S>, from: *const Self) -> Self::Vector<S>;

    /// Writes the elements of a mask, and leaves the others.
    ///
    /// # Safety
    /// The masked elements behind `to` must be writable.
    unsafe fn store_some<S: Simd>(simd: S, mask: Self::Mask<S>, to: *mut Self, values: Self::Vector<S>);
}

macro_rules! lanes {
    ($type:ident, $bits:ident, $vector:ident, $mask:ident, $lanes:ident, $splat:ident, $mul_add:ident, $sum:ident, $between:ident, $load:ident, $store:ident) => {
        impl Lanes for $type {
            type Vector<S: Simd> = S::$vector;
            type Mask<S: Simd> = S::$mask;

            #[inline(always)]
            fn lanes<S: Simd>() -> usize {
                S::$lanes
            }

            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: Self) -> Self::Vector<S> {
                simd.$splat(value)
            }

            #[inline(always)]
            fn fma<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>, c: Self::Vector<S>) -> Self::Vector<S> {
                simd.$mul_add(a, b, c)
            }

            #[inline(always)]
            fn total<S: Simd>(simd: S, a: Self::Vector<S>) -> Self {
                simd.$sum(a)
            }

            #[inline(always)]
            fn first<S: Simd>(simd: S, count: usize) -> Self::Mask<S> {
                // The mask alone: with it come calls that would cost more than masked instructions.
                simd.$between(0, count as $bits).mask()
            }

            #[inline(always)]
            unsafe fn load_some<S: Simd>(simd: S, mask: Self::Mask<S>, from: *const Self) -> Self::Vector<S> {
                // SAFETY: the caller's promise.
                unsafe { simd.$load(MemMask::new(mask), from) }
            }

            #[inline(always)]
            unsafe fn store_some<S: Simd>(simd: S, mask: Self::Mask<S>, to: *mut Self, values: Self::Vector<S>) {
                // SAFETY: the caller's promise.
                unsafe { simd.$store(MemMask::new(mask), to, values) }
            }
        }
    };
}

lanes!(
    f32,
    u32,
    f32s,
    m32s,
    F32_LANES,
    splat_f32s,
    mul_add_e_f32s,
    reduce_sum_f32s,
    mask_between_m32s,
    mask_load_ptr_f32s,
    mask_store_ptr_f32s
);
lanes!(
    f64,
    u64,
    f64s,
    m64s,
    F64_LANES,
    splat_f64s,
    mul_add_e_f64s,
    reduce_sum_f64s,
    mask_between_m64s,
    mask_load_ptr_f64s,
    mask_store_ptr_f64s
);
