//! Rectifiers and pools on Burn tensors: the generic twin of [`crate::kernels::gate`].

use super::{Block, Pool, Pooling, Rectifier};
use burn_tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

/// The derivative of what stands between the pre-activations of a block and its output.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    /// `s'(a): [n, pre-activations]`.
    slopes: Tensor<2>,
    pool: Option<PoolGate>,
}

#[derive(Clone, Debug)]
enum PoolGate {
    /// For every output the pre-activation that won, `[n, outputs]`.
    Winners(Box<Tensor<2, Int>>),
    /// The pre-activations of every place in the windows, `[outputs]` each.
    Mean(Vec<Tensor<1, Int>>),
}

/// `s'(a)` of every pre-activation.
fn slopes(rectifier: Option<Rectifier>, a: &Tensor<2>) -> Tensor<2> {
    let Some(rectifier) = rectifier else { return a.ones_like() };
    let (negative, positive) = (a.clone().lower_elem(0.0), a.clone().greater_elem(0.0));
    a.clone()
        .full_like(rectifier.slope_at_zero())
        .mask_fill(negative, rectifier.negative_slope())
        .mask_fill(positive, 1.0)
}

/// For each place in the windows of a pool, the pre-activations there, in row-major order of places and outputs.
fn places(pool: &Pool, device: &Device) -> Vec<Tensor<1, Int>> {
    let channels = pool.input.channels;
    let at = |place: usize, to: usize| {
        let (position, channel) = (to / channels, to % channels);
        let (y, x) = (position / pool.output.width, position % pool.output.width);
        let (row, column) = (y * pool.stride + place / pool.size, x * pool.stride + place % pool.size);
        ((row * pool.input.width + column) * channels + channel) as i64
    };
    (0..pool.size * pool.size)
        .map(|place| {
            let all: Vec<i64> = (0..pool.output.len()).map(|to| at(place, to)).collect();
            Tensor::from_data(TensorData::new(all, [pool.output.len()]), device)
        })
        .collect()
}

impl Gate {
    /// The gate at the pre-activations `a: [n, pre-activations]`.
    pub(super) fn new(block: &Block, a: &Tensor<2>) -> Self {
        let slopes = slopes(block.rectifier, a);
        let pool = block.pool.map(|pool| {
            let places = places(&pool, &a.device());
            if pool.pooling == Pooling::Average {
                return PoolGate::Mean(places);
            }
            let z = a.clone() * slopes.clone();
            let candidate = |place: &Tensor<1, Int>| {
                let value = z.clone().select(1, place.clone());
                (value.clone(), place.clone().unsqueeze::<2>().expand(value.dims()))
            };
            let (mut best, mut winner) = candidate(&places[0]);
            for place in &places[1..] {
                let (value, index) = candidate(place);
                let better = value.clone().greater(best.clone());
                best = best.mask_where(better.clone(), value);
                winner = winner.mask_where(better, index);
            }
            PoolGate::Winners(Box::new(winner))
        });
        Self { slopes, pool }
    }

    pub(super) fn slopes(&self) -> Tensor<2> {
        self.slopes.clone()
    }

    /// Forward mode: `[n, pre-activations]` to `[n, outputs]`.
    pub(super) fn push(&self, a: Tensor<2>) -> Tensor<2> {
        let z = a * self.slopes.clone();
        match &self.pool {
            None => z,
            Some(PoolGate::Winners(winners)) => z.gather(1, *winners.clone()),
            Some(PoolGate::Mean(places)) => {
                let share = 1.0 / places.len() as f64;
                let values = places.iter().map(|place| z.clone().select(1, place.clone()));
                values.reduce(|a, b| a + b).expect("a window has a place") * share
            }
        }
    }

    /// Backward: `[n, outputs]` to `[n, pre-activations]`.
    pub(super) fn pull(&self, cotangent: Tensor<2>) -> Tensor<2> {
        let zeros = self.slopes.zeros_like();
        let z = match &self.pool {
            None => cotangent,
            Some(PoolGate::Winners(winners)) => zeros.scatter(1, *winners.clone(), cotangent, IndexingUpdateOp::Add),
            Some(PoolGate::Mean(places)) => {
                let share = cotangent * (1.0 / places.len() as f64);
                let add = |sum: Tensor<2>, place: &Tensor<1, Int>| {
                    sum.select_assign(1, place.clone(), share.clone(), IndexingUpdateOp::Add)
                };
                places.iter().fold(zeros, add)
            }
        };
        z * self.slopes.clone()
    }
}
