//! What the machine can do: products of large matrices, popcounts of words in the cache, reading memory.

use super::{Answer, THREADS, answer, timed};
use anyhow::{Result, bail};
use faer::{Accum, Mat, Par, linalg::matmul::matmul};
use rayon::prelude::*;
use serde_json::json;
use std::hint::black_box;
use taylorscope::num::sum_of_squares;

/// Side of the matrices of the product.
const SIDE: usize = 2048;
/// Words that are counted over and over: they stay in the first-level cache.
const WORDS: usize = 2048;
const POPCOUNTS: usize = 200_000;
/// Numbers read from memory, far more than the caches hold.
const NUMBERS: usize = 1 << 26;

/// The bits that are on, by the machine's popcount where there is one.
fn ones(words: &[u64]) -> u64 {
    #[inline(always)]
    fn sum(words: &[u64]) -> u64 {
        words.iter().map(|word| u64::from(word.count_ones())).sum()
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vpopcntdq")]
        fn vectors(words: &[u64]) -> u64 {
            sum(words)
        }
        #[target_feature(enable = "popcnt")]
        fn scalars(words: &[u64]) -> u64 {
            sum(words)
        }
        if is_x86_feature_detected!("avx512vpopcntdq") && is_x86_feature_detected!("avx512f") {
            // SAFETY: the features were just detected.
            return unsafe { vectors(words) };
        }
        if is_x86_feature_detected!("popcnt") {
            // SAFETY: the feature was just detected.
            return unsafe { scalars(words) };
        }
    }
    sum(words)
}

/// A word of random-looking bits.
fn scrambled(index: u64) -> u64 {
    index.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Commands: `gemm`, `gemm64`, `popcount`, `memory`; the fact is the rate, in FLOP/s or bytes/s.
pub fn serve() -> Result<()> {
    let single = [0.5f32, 0.25].map(|v| Mat::from_fn(SIDE, SIDE, |i, j| v + ((i * 7 + j) % 11) as f32));
    let double = [0.5f64, 0.25].map(|v| Mat::from_fn(SIDE, SIDE, |i, j| v + ((i * 7 + j) % 11) as f64));
    let numbers = vec![1.0f32; NUMBERS];
    answer(|command| {
        let flops = 2.0 * (SIDE as f64).powi(3);
        let (seconds, amount) = match command {
            "gemm" => {
                let mut out = Mat::<f32>::zeros(SIDE, SIDE);
                let par = Par::rayon(THREADS);
                (timed(|| matmul(&mut out, Accum::Replace, &single[0], &single[1], 1.0, par)).0, flops)
            }
            "gemm64" => {
                let mut out = Mat::<f64>::zeros(SIDE, SIDE);
                let par = Par::rayon(THREADS);
                (timed(|| matmul(&mut out, Accum::Replace, &double[0], &double[1], 1.0, par)).0, flops)
            }
            "popcount" => {
                let (seconds, ()) = timed(|| {
                    (0..THREADS).into_par_iter().with_max_len(1).for_each(|thread| {
                        let row: Vec<u64> = (thread as u64..).map(scrambled).take(WORDS).collect();
                        for _ in 0..POPCOUNTS {
                            black_box(ones(black_box(&row)));
                        }
                    });
                });
                (seconds, (THREADS * POPCOUNTS * WORDS * 8) as f64)
            }
            "memory" => {
                let share = NUMBERS / THREADS;
                let (seconds, ()) = timed(|| {
                    numbers.par_chunks(share).with_max_len(1).for_each(|part| {
                        let sum = pulp::Arch::new().dispatch(|| sum_of_squares(part));
                        black_box(sum);
                    });
                });
                (seconds, (NUMBERS * 4) as f64)
            }
            _ => bail!("there is no command {command}"),
        };
        Ok(Answer { seconds, facts: json!({"rate": amount / seconds}) })
    })
}
