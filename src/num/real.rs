//! The element types of all computation.

use super::Scalar;
use std::{
    fmt::{Debug, Display},
    iter::Sum,
    ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign},
};

/// `f32` or `f64`.
pub trait Real:
    Scalar
    + crate::kernels::Lanes
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
    /// As far above that as numbers are precise: times a learning rate, a number above it is normal still.
    const NEGLIGIBLE: Self;
    /// Whether convolutions may go through transforms, which round ten times as much.
    const TRANSFORMS: bool;
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
    /// The values themselves if they have this type already.
    fn as_own(values: &[f32]) -> Option<&[Self]>;
    /// `self * factor + addend`, rounded once. Slow on machines without an instruction for it.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
}

macro_rules! real {
    ($type:ident, $transforms:literal, $as_own:expr) => {
        impl Real for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const MIN_POSITIVE: Self = $type::MIN_POSITIVE;
            const NEGLIGIBLE: Self = $type::MIN_POSITIVE / $type::EPSILON;
            const TRANSFORMS: bool = $transforms;
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
            fn as_own(values: &[f32]) -> Option<&[Self]> {
                ($as_own)(values)
            }
            #[inline(always)]
            fn mul_add(self, factor: Self, addend: Self) -> Self {
                self.mul_add(factor, addend)
            }
        }
    };
}

real!(f32, true, Some);
real!(f64, false, |_| None);
