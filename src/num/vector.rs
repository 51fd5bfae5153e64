//! Sums over vectors, in `f64` and in a fixed order.

use super::Real;

/// The sum of squares in `f64`, in eight running sums so that it vectorizes.
#[inline(always)]
pub fn sum_of_squares<T: Real>(values: &[T]) -> f64 {
    let mut sums = [0.0f64; 8];
    let chunks = values.chunks_exact(8);
    let rest: f64 = chunks.remainder().iter().map(|v| v.to_f64() * v.to_f64()).sum();
    for chunk in chunks {
        for (sum, v) in sums.iter_mut().zip(chunk) {
            *sum += v.to_f64() * v.to_f64();
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
        let d = x.to_f64() - y.to_f64();
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
