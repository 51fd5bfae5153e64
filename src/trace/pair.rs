//! A recorded loss against the recomputed one.

/// A recorded loss and the recomputed one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    /// Of the round, from 0.
    pub index: usize,
    pub recorded: f64,
    pub recomputed: f64,
    pub rounding: f64,
}

impl Pair {
    /// The difference beyond rounding, relative to the loss.
    pub fn excess(&self) -> f64 {
        self.excess_of(self.recomputed)
    }

    /// The same if `loss` had been computed.
    pub fn excess_of(&self, loss: f64) -> f64 {
        if !self.recorded.is_finite() {
            return f64::INFINITY;
        }
        let beyond = ((self.recorded - loss).abs() - self.rounding).max(0.0);
        if beyond == 0.0 { 0.0 } else { beyond / self.recorded.abs().max(f64::MIN_POSITIVE) }
    }
}

#[cfg(test)]
mod tests {
    use super::Pair;

    #[test]
    fn rounding_near_zero_is_no_disagreement() {
        let pair = |recorded, recomputed, rounding| Pair { index: 0, recorded, recomputed, rounding };
        assert_eq!(pair(0.0, 2e-8, 5e-7).excess(), 0.0);
        assert!((pair(0.5, 0.501, 0.0).excess() - 2e-3).abs() < 1e-12);
        assert!(pair(0.0, 1.0, 1e-7).excess() > 1e300);
        assert_eq!([f64::NAN, f64::INFINITY].map(|loss| pair(loss, 1.0, 1e-7).excess()), [f64::INFINITY; 2]);
    }
}
