//! Learning-rate schedules: how the step size changes over the rounds of a run.

use serde::{Deserialize, Serialize};

/// The shape of a schedule, as a factor on the learning rate in round `n` of `N` (both counted from 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// 1.
    #[default]
    Constant,
    /// `1 / sqrt n`, the rate of online convex optimization (Zinkevich 2003).
    InverseSqrt,
    /// `(1 + cos(pi (n - 1) / N)) / 2` (Loshchilov and Hutter, "SGDR", ICLR 2017, one period down to 0).
    Cosine,
}

/// A learning rate with its schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// What the factor multiplies.
    pub base: f64,
    pub schedule: Schedule,
    /// Rounds of linear warm-up: a further factor `n / warmup` in the first ones (Goyal et al. 2017); 0 for none.
    pub warmup: usize,
    /// Rounds `N` of the run; only the cosine needs them.
    pub rounds: usize,
}

impl Rate {
    /// A rate that does not change.
    pub fn constant(base: f64) -> Self {
        Self { base, schedule: Schedule::Constant, warmup: 0, rounds: 0 }
    }

    /// The factor in round `round`, counted from 1.
    pub fn factor(&self, round: usize) -> f64 {
        let n = round.max(1) as f64;
        let shape = match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::InverseSqrt => 1.0 / n.sqrt(),
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * (n - 1.0) / self.rounds as f64).cos()),
        };
        if round < self.warmup { shape * n / self.warmup as f64 } else { shape }
    }

    /// The learning rate in round `round`, counted from 1.
    pub fn at(&self, round: usize) -> f64 {
        self.base * self.factor(round)
    }

    /// The learning rate if it is the same in every round.
    pub fn if_constant(&self) -> Option<f64> {
        (self.schedule == Schedule::Constant && self.warmup <= 1).then_some(self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_have_their_known_values() {
        let rate = |schedule, warmup| Rate { base: 2.0, schedule, warmup, rounds: 100 };
        assert_eq!(rate(Schedule::Constant, 0).at(77), 2.0);
        assert_eq!(rate(Schedule::InverseSqrt, 0).at(16), 0.5);
        let cosine = rate(Schedule::Cosine, 0);
        assert_eq!(cosine.at(1), 2.0);
        assert!((cosine.at(51) - 1.0).abs() < 1e-15, "half way");
        assert!(cosine.at(100) > 0.0 && cosine.at(100) < 1e-3, "nearly zero at the end");
        let warm = rate(Schedule::Constant, 10);
        assert_eq!((warm.at(1), warm.at(5), warm.at(10), warm.at(11)), (0.2, 1.0, 2.0, 2.0));
        assert_eq!((warm.if_constant(), rate(Schedule::Constant, 1).if_constant()), (None, Some(2.0)));
    }
}
