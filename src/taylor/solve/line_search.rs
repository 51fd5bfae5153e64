//! A line search that never increases the objective (Armijo, "Minimization of functions having Lipschitz continuous first partial
//! derivatives", 1966).

/// A step is long enough if the value falls by this share of what the slope promises.
const SUFFICIENT: f64 = 1e-4;
/// What a step that is too long is multiplied with.
const SHORTER: f64 = 0.5;

/// Halves a step until the value falls enough.
#[derive(Clone, Debug)]
pub struct Armijo {
    value: f64,
    slope: f64,
    shortest: f64,
    length: f64,
}

/// What the value at the end of a step says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The value falls enough.
    Accepted,
    /// The step was halved.
    TooLong,
    /// It cannot be halved any more: rounding hides the descent.
    Exhausted,
}

impl Armijo {
    /// Begins with the whole step, from a point with this `value`; `slope` is the inner product of gradient and step. Steps shorter than
    /// `shortest`, as a part of the whole one, are not tried.
    pub fn new(value: f64, slope: f64, shortest: f64) -> Self {
        Self { value, slope: slope.min(0.0), shortest, length: 1.0 }
    }

    /// The part of the step to try.
    pub fn length(&self) -> f64 {
        self.length
    }

    /// Judges the value at [`Armijo::length`], and shortens the step if it is too long.
    pub fn judge(&mut self, value: f64) -> Verdict {
        if value <= self.value + SUFFICIENT * self.length * self.slope {
            return Verdict::Accepted;
        }
        self.length *= SHORTER;
        if self.length < self.shortest { Verdict::Exhausted } else { Verdict::TooLong }
    }
}

/// The first of ever shorter steps that is accepted: the value at its end, and what was found there; `None` if none is. `value_at` gives the value at the end of a step, with
/// anything else to be kept of it.
pub fn backtrack<E>(mut search: Armijo, mut value_at: impl FnMut(f64) -> (f64, E)) -> Option<(f64, E)> {
    loop {
        let (value, found) = value_at(search.length());
        match search.judge(value) {
            Verdict::Accepted => return Some((value, found)),
            Verdict::TooLong => {}
            Verdict::Exhausted => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `x^2` from 1 along -4: the whole step leads to 9, half of it to 1, a quarter to 0.
    #[test]
    fn a_step_is_halved_until_the_value_falls() {
        let parabola = |x: f64| x * x;
        let mut tried = Vec::new();
        let found = backtrack(Armijo::new(1.0, -8.0, 1e-8), |length| {
            tried.push(length);
            (parabola(1.0 - 4.0 * length), length)
        });
        assert_eq!(found, Some((0.0, 0.25)));
        assert_eq!(tried, [1.0, 0.5, 0.25]);
    }

    #[test]
    fn a_value_that_does_not_fall_enough_is_not_accepted() {
        let mut search = Armijo::new(1.0, -8.0, 1e-8);
        assert_eq!(search.clone().judge(1.0), Verdict::TooLong);
        assert_eq!(search.clone().judge(1.0 - 7.9e-4), Verdict::TooLong);
        assert_eq!(search.judge(1.0 - 8.1e-4), Verdict::Accepted);
    }

    #[test]
    fn an_ascent_ends_at_the_shortest_step() {
        let mut count = 0;
        let none = backtrack(Armijo::new(1.0, -1.0, 0.1), |length| {
            count += 1;
            (1.0 + length, ())
        });
        assert_eq!((none, count), (None, 4), "1, 1/2, 1/4 and 1/8");
        // A slope upward asks for no descent, but for no ascent either.
        let mut upward = Armijo::new(1.0, 3.0, 0.1);
        assert_eq!(upward.judge(1.0), Verdict::Accepted);
        assert_eq!(upward.judge(1.1), Verdict::TooLong);
        assert_eq!(upward.judge(f64::NAN), Verdict::TooLong);
    }
}
