//! Where matrices are factorized, and systems with their Cholesky factors.

use crate::num::Real;
use faer::{
    MatMut, MatRef, Par,
    linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place},
};
use std::{cell::RefCell, thread::LocalKey};

thread_local! {
    /// The matrix that is factorized, kept from system to system: fresh memory costs a tenth of the work.
    static SYSTEM: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
    static SYSTEM_IN_SINGLE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A type that systems are solved in.
pub(super) trait Number: Real + faer::traits::RealField {
    fn system() -> &'static LocalKey<RefCell<Vec<Self>>>;
}

impl Number for f64 {
    fn system() -> &'static LocalKey<RefCell<Vec<f64>>> {
        &SYSTEM
    }
}

impl Number for f32 {
    fn system() -> &'static LocalKey<RefCell<Vec<f32>>> {
        &SYSTEM_IN_SINGLE
    }
}

/// Solves `L L' u = u` in place.
pub(super) fn solve<T: Number>(lower: MatRef<T>, u: &mut [T]) {
    let n = u.len();
    solve_lower_triangular_in_place(lower, MatMut::from_column_major_slice_mut(u, n, 1), Par::Seq);
    solve_upper_triangular_in_place(lower.transpose(), MatMut::from_column_major_slice_mut(u, n, 1), Par::Seq);
}
