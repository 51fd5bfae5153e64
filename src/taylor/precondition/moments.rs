//! What a block's preconditioner is made of.

use super::kronecker::{Eigen, KroneckerFactors};
use crate::{network::Block, num::pieces::PartialSum};

/// Sums of `M` and `x x'` over datapoints, for one block.
#[derive(Clone)]
pub(in crate::taylor) struct Moments {
    pub(in crate::taylor) units: usize,
    pub(in crate::taylor) width: usize,
    /// Sum of `M`, `[units, units]`; empty as long as all curvatures are multiples of the identity.
    pub(in crate::taylor) m: Vec<f64>,
    /// The sum of those multiples.
    pub(in crate::taylor) multiple: f64,
    /// Datapoints whose curvature has been added, counted by weight.
    pub(in crate::taylor) curved: usize,
    /// Sum of `x x'`, `[width, width]`, over this many datapoints.
    pub(in crate::taylor) x: Vec<f64>,
    pub(in crate::taylor) rows: usize,
    /// With the output block, for a hidden one at network scale.
    pub(in crate::taylor) shared: Option<SharedMoments>,
}

/// Sums that couple a hidden block to the output block.
#[derive(Clone)]
pub(in crate::taylor) struct SharedMoments {
    /// Of `x h'`: `[width, width of the output block]`.
    pub(in crate::taylor) x: Vec<f64>,
    /// Of the output Jacobian, `[outputs, units]`, over this many datapoints.
    pub(in crate::taylor) jacobian: Vec<f64>,
    pub(in crate::taylor) count: usize,
}

impl Moments {
    pub(in crate::taylor) fn zero(units: usize, width: usize) -> Self {
        let x = vec![0.0; width * width];
        Self { units, width, m: Vec::new(), multiple: 0.0, curved: 0, x, rows: 0, shared: None }
    }

    pub(in crate::taylor) fn sharing_with(self, output: &Block) -> Self {
        let shared = SharedMoments {
            x: vec![0.0; self.width * output.width()],
            jacobian: vec![0.0; output.units * self.units],
            count: 0,
        };
        Self { shared: Some(shared), ..self }
    }

    /// The Kronecker factors of the means; `exact` if the curvature is their product.
    pub(in crate::taylor) fn factors(&self, exact: bool) -> KroneckerFactors {
        let mean = 1.0 / self.curved.max(1) as f64;
        let units = if self.m.is_empty() {
            Eigen::multiple(self.multiple * mean, self.units)
        } else {
            Eigen::new(&self.m, self.units, mean)
        };
        let inputs = Eigen::new(&self.x, self.width, 1.0 / self.rows.max(1) as f64);
        KroneckerFactors::of(units, inputs, exact)
    }
}

/// `sum += next`.
pub(in crate::taylor) fn add(sum: &mut [f64], next: &[f64]) {
    sum.iter_mut().zip(next).for_each(|(sum, next)| *sum += next);
}

impl PartialSum for Moments {
    fn add(&mut self, next: Self) {
        if self.m.is_empty() {
            self.m = next.m;
        } else {
            add(&mut self.m, &next.m);
        }
        self.multiple += next.multiple;
        self.curved += next.curved;
        self.rows += next.rows;
        add(&mut self.x, &next.x);
        if let (Some(shared), Some(next)) = (&mut self.shared, next.shared) {
            add(&mut shared.x, &next.x);
            add(&mut shared.jacobian, &next.jacobian);
            shared.count += next.count;
        }
    }
}
