//! How shattered a gradient is: its autocorrelation along a segment, exact for piecewise constant gradients.
//!
//! Balduzzi, Frean, Leary, Lewis, Ma and McWilliams, "The shattered gradients problem" (ICML 2017): the gradients of deep
//! rectifier networks decorrelate like white noise, those of shallow ones like Brownian motion.

use super::Path;

/// Sums of autocovariances over many segments, from which the autocorrelation is taken.
///
/// For the derivative `g` of an output along a segment of length 1, centred by its mean, the autocovariance at lag `s` is
/// the mean of `g(t) g(t + s)` over `0 <= t <= 1 - s`. Covariances are added over outputs and segments before the division by
/// the variance, as expectations over random networks are.
#[derive(Clone, Debug, PartialEq)]
pub struct Autocorrelation {
    lags: Vec<f64>,
    covariance: Vec<f64>,
    variance: f64,
}

impl Autocorrelation {
    /// For these lags, fractions of the segment in `[0, 1)`.
    pub fn new(lags: Vec<f64>) -> Self {
        Self { covariance: vec![0.0; lags.len()], lags, variance: 0.0 }
    }

    /// Adds the outputs of a segment along which the network is piecewise linear.
    ///
    /// # Panics
    /// If the outputs are not piecewise linear, or the segment has no length.
    pub fn add(&mut self, path: &Path) {
        let pieces = path.outputs();
        assert!(pieces.degree() <= 1, "the gradient is not piecewise constant");
        if pieces.degree() == 0 {
            return;
        }
        let (from, to) = (pieces.bounds()[0], pieces.bounds()[pieces.len()]);
        assert!(to > from, "the segment has no length");
        let ends: Vec<f64> = pieces.bounds().iter().map(|t| (t - from) / (to - from)).collect();
        let width = pieces.width();
        let mut g = pieces.plane(1).to_vec();
        for output in 0..width {
            let mean: f64 = (0..pieces.len()).map(|p| (ends[p + 1] - ends[p]) * g[p * width + output]).sum();
            (0..pieces.len()).for_each(|p| g[p * width + output] -= mean);
        }
        self.variance += lagged_product(&ends, &g, width, 0.0);
        for (lag, sum) in self.lags.iter().zip(&mut self.covariance) {
            *sum += lagged_product(&ends, &g, width, *lag) / (1.0 - lag);
        }
    }

    /// Adds what another one has summed for the same lags.
    ///
    /// # Panics
    /// If the lags differ.
    pub fn merge(&mut self, other: &Autocorrelation) {
        assert_eq!(self.lags, other.lags, "the lags differ");
        self.variance += other.variance;
        self.covariance.iter_mut().zip(&other.covariance).for_each(|(a, b)| *a += b);
    }

    /// Lags and autocorrelations; zero everywhere if no gradient varied.
    pub fn values(&self) -> Vec<(f64, f64)> {
        let divided = |sum: &f64| if self.variance > 0.0 { sum / self.variance } else { 0.0 };
        self.lags.iter().zip(&self.covariance).map(|(lag, sum)| (*lag, divided(sum))).collect()
    }
}

/// `sum over outputs of the integral of g(t) g(t + lag)`; `g: [pieces, width]` is constant between `ends`.
fn lagged_product(ends: &[f64], g: &[f64], width: usize, lag: f64) -> f64 {
    let row = |p: usize| &g[p * width..(p + 1) * width];
    let last = ends.len() - 2;
    let (mut p, mut t, mut sum) = (0, 0.0, 0.0);
    let mut q = ends.partition_point(|end| *end <= lag).clamp(1, last + 1) - 1;
    while t < 1.0 - lag {
        let next = ends[p + 1].min(ends[q + 1] - lag).min(1.0 - lag);
        let product: f64 = row(p).iter().zip(row(q)).map(|(a, b)| a * b).sum();
        sum += (next - t).max(0.0) * product;
        t = t.max(next);
        // At least one of the two moves on; rounding cannot hold both.
        let (here, there) = (ends[p + 1], ends[q + 1] - lag);
        if here <= there && p < last {
            p += 1;
        } else if q < last {
            q += 1;
        } else {
            break;
        }
    }
    sum
}

/// The same for Brownian motion on `[0, 1]`, centred by its mean over the segment; for white noise it is 0 at every lag
/// but 0.
///
/// With `c(s, t) = min(s, t) - s + s^2 / 2 - t + t^2 / 2 + 1/3` the covariance of the centred motion, this is the mean of
/// `c(t, t + lag)` over `t`, divided by its variance `1/6`.
pub fn brownian(lag: f64) -> f64 {
    let rest = 1.0 - lag;
    let covariance = (1.0 - lag.powi(3) + rest.powi(3)) / 6.0 - rest * rest / 2.0 - lag * rest + rest / 3.0;
    6.0 * covariance / rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        landscape::{Propagation, Segment, tent::tent},
        network::{LayerSpec, Network, Rectifier},
    };

    #[test]
    fn the_tent_maps_gradient_is_a_square_wave() {
        let (network, weights) = tent(3);
        let path = Propagation::new(&network, &weights, None).path(&Segment {
            input: &[0.0],
            step: Some(&[1.0]),
            from: 0.0,
            to: 1.0,
        });
        // Slopes +8, -8, ... on eighths: at lag s the wave agrees with itself on a share of the time.
        let mut found = Autocorrelation::new(vec![0.0, 0.0625, 0.125, 0.25, 0.5]);
        found.add(&path);
        let expected = [(0.0, 1.0), (0.0625, 1.0 / 15.0), (0.125, -1.0), (0.25, 1.0), (0.5, 1.0)];
        for ((lag, r), (at, value)) in found.values().into_iter().zip(expected) {
            assert!(lag == at && f64::abs(r - value) < 1e-12, "{lag}: {r}, expected {value}");
        }
    }

    /// A sum of many rectifiers with random signs and places has Brownian motion as its derivative.
    #[test]
    fn a_wide_shallow_network_is_like_brownian_motion() {
        let units = 400;
        let network =
            Network::new(1, &[LayerSpec::dense(units), LayerSpec::Rectifier(Rectifier::Relu), LayerSpec::dense(200)])
                .unwrap();
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1u32 << 31)
        };
        let mut weights = Vec::new();
        (0..units).for_each(|_| weights.extend([1.0, -random()]));
        for _ in 0..200 {
            weights.extend((0..units).map(|_| random() - 0.5));
            weights.push(0.0);
        }
        let path = Propagation::new(&network, &weights, None).path(&Segment {
            input: &[0.0],
            step: Some(&[1.0]),
            from: 0.0,
            to: 1.0,
        });
        let lags: Vec<f64> = (0..9).map(|i| 0.1 * f64::from(i)).collect();
        let mut found = Autocorrelation::new(lags);
        found.add(&path);
        for (lag, r) in found.values() {
            assert!((r - brownian(lag)).abs() < 0.12, "lag {lag}: {r}, Brownian motion has {}", brownian(lag));
        }
    }
}
