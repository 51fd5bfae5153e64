//! The element types of the kernels.

use std::{
    borrow::Cow,
    fmt::{Debug, Display},
    iter::Sum,
    ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign},
};

/// A number with a fixed layout in files: little-endian bytes.
pub trait Scalar: Copy + Default {
    /// The name of its type in safetensors files.
    const DTYPE: &'static str;
    /// Its size in bytes.
    const BYTES: usize;
    fn put(self, bytes: &mut Vec<u8>);
    /// From exactly [`Scalar::BYTES`] bytes.
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! scalar {
    ($type:ident, $dtype:literal) => {
        impl Scalar for $type {
            const DTYPE: &'static str = $dtype;
            const BYTES: usize = size_of::<$type>();
            #[inline]
            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
            #[inline]
            fn get(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<$type>()];
                own.copy_from_slice(bytes);
                Self::from_le_bytes(own)
            }
        }
    };
}

scalar!(f32, "F32");
scalar!(f64, "F64");
scalar!(u32, "U32");
scalar!(u64, "U64");

/// `f32` or `f64`.
pub trait Real:
    Scalar
    + super::Lanes
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
    fn of(value: f64) -> Self;
    fn f64(self) -> f64;
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
            fn of(value: f64) -> Self {
                value as $type
            }
            #[inline]
            fn f64(self) -> f64 {
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

/// Converts a slice between element types (through `f64`, exactly when the target is wider).
pub fn convert<S: Real, T: Real>(values: &[S]) -> Vec<T> {
    values.iter().map(|v| T::of(v.f64())).collect()
}

/// The same, without a copy where the type is the same.
pub fn converted<T: Real>(values: &[f32]) -> Cow<'_, [T]> {
    T::as_own(values).map_or_else(|| Cow::Owned(convert(values)), Cow::Borrowed)
}

/// [`convert`] into a buffer, whose contents it replaces.
pub fn convert_into<S: Real, T: Real>(values: &[S], out: &mut Vec<T>) {
    out.clear();
    out.extend(values.iter().map(|v| T::of(v.f64())));
}

/// The sum of squares in `f64`, in eight running sums so that it vectorizes.
#[inline(always)]
pub fn sum_of_squares<T: Real>(values: &[T]) -> f64 {
    let mut sums = [0.0f64; 8];
    let chunks = values.chunks_exact(8);
    let rest: f64 = chunks.remainder().iter().map(|v| v.f64() * v.f64()).sum();
    for chunk in chunks {
        for (sum, v) in sums.iter_mut().zip(chunk) {
            *sum += v.f64() * v.f64();
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// The sum of squared differences in `f64`.
#[inline(always)]
pub fn sum_of_squared_differences<T: Real>(a: &[T], b: &[T]) -> f64 {
    let mut sums = [0.0f64; 8];
    let (chunks_a, chunks_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let square = |x: &T, y: &T| {
        let d = x.f64() - y.f64();
        d * d
    };
    let rest: f64 = chunks_a.remainder().iter().zip(chunks_b.remainder()).map(|(x, y)| square(x, y)).sum();
    for (chunk_a, chunk_b) in chunks_a.zip(chunks_b) {
        for (sum, (x, y)) in sums.iter_mut().zip(chunk_a.iter().zip(chunk_b)) {
            *sum += square(x, y);
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// The inner product in `f64`, in eight running sums so that it vectorizes.
#[inline(always)]
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0f64; 8];
    let (chunks_a, chunks_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = chunks_a.remainder().iter().zip(chunks_b.remainder()).map(|(x, y)| x * y).sum();
    for (chunk_a, chunk_b) in chunks_a.zip(chunks_b) {
        for (sum, (x, y)) in sums.iter_mut().zip(chunk_a.iter().zip(chunk_b)) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// `y += alpha x`.
#[inline(always)]
pub fn axpy(alpha: f64, x: &[f64], y: &mut [f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += alpha * x;
    }
}

/// The Euclidean norm.
pub fn norm(v: &[f64]) -> f64 {
    dot(v, v).sqrt()
}
