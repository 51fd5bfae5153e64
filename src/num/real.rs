//! The element types of all computation.

use super::Scalar;
use std::{
    fmt::{Debug, Display},
    iter::Sum,
    ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign},
};

/// `f32` or `f64`: arithmetic and conversions.
pub trait Real:
    Scalar
    + Debug
    + Display
    + PartialOrd
    + Send
    + Sync
    + Sum
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + 'static
{
    const ZERO: Self;
    const ONE: Self;
    /// The smallest normal number. Arithmetic with numbers below it takes a hundred times as long on many machines.
    const MIN_POSITIVE: Self;
    /// The distance from 1 to the next larger number.
    const EPSILON: Self;
    /// The name in safetensors files and error texts, `f32` or `f64`.
    const NAME: &'static str;
    fn from_f64(value: f64) -> Self;
    fn to_f64(self) -> f64;
    fn sqrt(self) -> Self;
    fn exp(self) -> Self;
    fn abs(self) -> Self;
    fn is_finite(self) -> bool;
    /// Zero instead of a number below `floor` in size: decaying means would stay among the subnormal numbers for long.
    #[inline(always)]
    fn or_zero(self, floor: Self) -> Self {
        if self.abs() < floor { Self::ZERO } else { self }
    }
    /// `self * factor + addend`, rounded once. Slow on machines without an instruction for it.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// Does work that is written for each type apart, in the form for this one.
    fn by_type<W: ByType>(input: W::Input<'_, Self>) -> W::Output<'_, Self>;
}

/// Work with a form for each element type, which generic code reaches through [`Real::by_type`].
///
/// For what differs between the types; and for kernels that the compiler makes many forms of: as neither method here is generic, these are compiled
/// with this package only, and not again with every package that calls a generic function of it.
pub trait ByType {
    type Input<'a, T: Real>;
    type Output<'a, T: Real>;

    fn single(input: Self::Input<'_, f32>) -> Self::Output<'_, f32>;
    fn double(input: Self::Input<'_, f64>) -> Self::Output<'_, f64>;
}

macro_rules! real {
    ($type:ident, $form:ident) => {
        impl Real for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const MIN_POSITIVE: Self = $type::MIN_POSITIVE;
            const EPSILON: Self = $type::EPSILON;
            const NAME: &'static str = stringify!($type);
            #[inline]
            fn from_f64(value: f64) -> Self {
                value as $type
            }
            #[inline]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline]
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            #[inline]
            fn exp(self) -> Self {
                self.exp()
            }
            #[inline]
            fn abs(self) -> Self {
                self.abs()
            }
            #[inline]
            fn is_finite(self) -> bool {
                self.is_finite()
            }
            #[inline(always)]
            fn mul_add(self, factor: Self, addend: Self) -> Self {
                self.mul_add(factor, addend)
            }
            #[inline(always)]
            fn by_type<W: ByType>(input: W::Input<'_, Self>) -> W::Output<'_, Self> {
                W::$form(input)
            }
        }
    };
}

real!(f32, single);
real!(f64, double);
