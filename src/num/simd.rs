//! The one way to the vector instructions of the machine.
//!
//! Kernels are compiled for several instruction sets (plain, AVX2 with FMA, AVX-512; NEON on ARM), and the best that the machine has is chosen as the program
//! runs. A kernel is written once, as either
//!
//! - a loop for the compiler to vectorize: [`vectorized`]; or
//! - a [`WithSimd`], generic in the instruction set `S`, for [`dispatch`]: with vectors of its own ([`Lanes`](super::Lanes)), or as a loop that asks for a
//!   property of the set, such as [`fused`].
//!
//! `compiled_here` makes the forms of a kernel part of this package.
//!
//! Tests run kernels on every set that the machine has with `on_every_instruction_set`.

pub use pulp::{Simd, WithSimd};

use super::fast_paths;
use pulp::Arch;
use std::sync::OnceLock;

/// Does `work` with the best instructions of the machine.
#[inline]
pub fn dispatch<W: WithSimd>(work: W) -> W::Output {
    chosen().dispatch(work)
}

/// Has the forms of a kernel compiled with this package (see [`ByType`](super::ByType)): `compiled_here!(Name<'a, T>: Call<'a, T>)` is a type `Name`
/// such that `T::by_type::<Name>(call)` is `dispatch(call)`, for calls that have no output.
macro_rules! compiled_here {
    ($(#[$doc:meta])* $name:ident<$a:lifetime, $t:ident>: $call:ty) => {
        $(#[$doc])*
        struct $name;

        impl $crate::num::ByType for $name {
            type Input<$a, $t: $crate::num::Real> = $call;
            type Output<$a, $t: $crate::num::Real> = ();

            fn single(call: Self::Input<'_, f32>) -> Self::Output<'_, f32> {
                $crate::num::simd::dispatch(call)
            }

            fn double(call: Self::Input<'_, f64>) -> Self::Output<'_, f64> {
                $crate::num::simd::dispatch(call)
            }
        }
    };
}
pub(crate) use compiled_here;

/// Calls `work` compiled for the best instructions of the machine.
///
/// The compiler must see all of the work in one place: write `vectorized(#[inline(always)] || ...)`, or a large closure is compiled
/// for the plainest machine and called from there.
#[inline]
pub fn vectorized<R>(work: impl FnMut() -> R) -> R {
    struct Work<F>(F);

    impl<R, F: FnMut() -> R> WithSimd for Work<F> {
        type Output = R;

        // Not `FnOnce`, whose calls go through another function that is not inlined.
        #[inline(always)]
        fn with_simd<S: Simd>(mut self, _: S) -> R {
            (self.0)()
        }
    }
    dispatch(Work(work))
}

/// Whether an instruction set multiplies and adds with one rounding. Without one, [`Real::mul_add`](super::Real::mul_add) is a call for
/// every element.
#[inline(always)]
pub const fn fused<S: Simd>() -> bool {
    !S::IS_SCALAR || cfg!(target_arch = "aarch64")
}

/// The instruction set that [`dispatch`] takes.
#[inline]
fn chosen() -> Arch {
    #[cfg(test)]
    if let Some(forced) = FORCED.get() {
        return forced;
    }
    static CHOSEN: OnceLock<Arch> = OnceLock::new();
    *CHOSEN.get_or_init(|| if fast_paths() { Arch::new() } else { Arch::Scalar })
}

/// Whether [`dispatch`] takes AVX-512, and the machine has its instructions that count bits, too.
#[cfg(target_arch = "x86_64")]
pub fn counts_bits_by_512() -> bool {
    matches!(chosen(), Arch::V4(_)) && is_x86_feature_detected!("avx512vpopcntdq")
}

/// All instruction sets of the machine, the plainest first.
#[cfg(test)]
fn available() -> Vec<Arch> {
    let mut all = vec![Arch::Scalar];
    #[cfg(target_arch = "x86_64")]
    {
        all.extend(pulp::x86::V3::try_new().map(Arch::V3));
        all.extend(pulp::x86::V4::try_new().map(Arch::V4));
    }
    #[cfg(target_arch = "aarch64")]
    all.extend(pulp::aarch64::Neon::try_new().map(Arch::Neon));
    all
}

#[cfg(test)]
thread_local! {
    static FORCED: std::cell::Cell<Option<Arch>> = const { std::cell::Cell::new(None) };
}

/// Runs `test` once with each instruction set of the machine, on one thread.
#[cfg(test)]
pub(crate) fn on_every_instruction_set(test: impl Fn() + Sync) {
    for arch in available() {
        // Parallel work stays on the pool's only thread, where the choice is known.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread starts");
        pool.install(|| {
            FORCED.set(Some(arch));
            eprintln!("on {arch:?}");
            test();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Elements of a vector, and whether products and sums are fused.
    struct Properties;

    impl WithSimd for Properties {
        type Output = (usize, bool);

        fn with_simd<S: Simd>(self, _: S) -> (usize, bool) {
            (S::F64_LANES, fused::<S>())
        }
    }

    #[test]
    fn tests_reach_every_instruction_set_once() {
        let found = std::sync::Mutex::new(Vec::new());
        on_every_instruction_set(|| found.lock().unwrap().push(dispatch(Properties)));
        let found = found.into_inner().unwrap();
        assert_eq!(found[0], (1, cfg!(target_arch = "aarch64")));
        assert_eq!(found.last(), Some(&dispatch(Properties)), "the best one is what programs get");
        assert!(found.is_sorted() && found.len() == available().len());
    }

    #[test]
    fn closures_give_their_result() {
        on_every_instruction_set(|| assert_eq!(vectorized(|| (0..10).sum::<u32>()), 45));
    }
}
