//! The secular equation `1 / radius - 1 / |u(lambda)| = 0`: which multiplier of the ball's constraint puts the minimizer on the sphere
//! (Moré and Sorensen, "Computing a trust region step", 1983; `docs/theory.md`, section 4).
//!
//! The length `|u(lambda)|` falls as the multiplier grows. Its inverse is nearly linear in the multiplier, so Newton's method takes few
//! steps, and a bracket keeps it safe.

/// Newton's steps at most.
const MAX_STEPS: usize = 60;
/// Multipliers are told apart down to this share of them.
const RESOLUTION: f64 = 1e-14;

/// Multipliers between which the path enters the ball: at `low` it is outside, at `high` inside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bracket {
    pub low: f64,
    pub high: f64,
}

impl Bracket {
    /// Takes in whether the point of a multiplier lies inside the ball.
    pub fn narrow(&mut self, multiplier: f64, inside: bool) {
        if inside {
            self.high = self.high.min(multiplier);
        } else {
            self.low = self.low.max(multiplier);
        }
    }

    /// Whether a multiplier lies strictly between the ends.
    pub fn contains(&self, multiplier: f64) -> bool {
        multiplier > self.low && multiplier < self.high
    }

    /// Where to look next: at `proposed` if that lies inside the bracket, else in its (geometric) middle.
    pub fn next(&self, proposed: f64) -> f64 {
        if self.contains(proposed) { proposed } else { (self.low * self.high).sqrt() }
    }

    /// Whether the ends are as close as multipliers can be told apart.
    pub fn is_closed(&self) -> bool {
        self.high <= self.low * (1.0 + RESOLUTION)
    }

    /// What of the bracket lies within a factor of `reach` of a multiplier.
    pub fn around(&self, multiplier: f64, reach: f64) -> Self {
        Self { low: self.low.max(multiplier / reach), high: self.high.min(multiplier * reach) }
    }
}

/// Whether a step from one multiplier to another is too short to tell them apart.
pub fn is_same(multiplier: f64, next: f64) -> bool {
    (next - multiplier).abs() <= RESOLUTION * multiplier
}

/// The length of a path of minimizers, `|u(lambda)|^2 = sum_j (weight_j / (value_j + lambda))^2`.
#[derive(Clone, Debug, Default)]
pub struct Secular {
    /// Eigenvalues of `H`.
    pub values: Vec<f64>,
    /// The linear term, negative, in its eigenvectors.
    pub weights: Vec<f64>,
}

impl Secular {
    /// `weight_j / (value_j + lambda)`: the coordinates of `u(lambda)` in the eigenvectors.
    pub fn coordinates(&self, multiplier: f64) -> impl Iterator<Item = f64> {
        self.weights.iter().zip(&self.values).map(move |(weight, value)| weight / (value + multiplier))
    }

    /// `|u(lambda)|`.
    pub fn length(&self, multiplier: f64) -> f64 {
        self.coordinates(multiplier).map(|u| u.powi(2)).sum::<f64>().sqrt()
    }

    /// Where Newton's step from a multiplier leads.
    pub fn newton(&self, radius: f64, multiplier: f64) -> f64 {
        let terms = self.weights.iter().zip(&self.values);
        // u' (H + lambda I)^-1 u
        let bend: f64 = terms.map(|(weight, value)| weight.powi(2) / (value + multiplier).powi(3)).sum();
        let length = self.length(multiplier);
        multiplier + (length / radius - 1.0) * length * length / bend
    }

    /// The multiplier in the bracket at which `|u| = radius`; its end on that side if there is none in it.
    pub fn root(&self, radius: f64, mut bracket: Bracket) -> f64 {
        if self.length(bracket.low) <= radius {
            return bracket.low;
        }
        let mut multiplier = bracket.low;
        for _ in 0..MAX_STEPS {
            bracket.narrow(multiplier, self.length(multiplier) <= radius);
            let next = bracket.next(self.newton(radius, multiplier));
            if is_same(multiplier, next) {
                break;
            }
            multiplier = next;
        }
        multiplier
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bracket_closes_in_on_what_it_holds() {
        let mut bracket = Bracket { low: 1e-8, high: 100.0 };
        assert!(bracket.contains(3.0) && !bracket.contains(1e-8) && !bracket.contains(100.0));
        assert_eq!((bracket.next(3.0), bracket.next(200.0)), (3.0, (1e-6f64).sqrt()));
        bracket.narrow(10.0, true);
        bracket.narrow(1.0, false);
        // What lies outside of the bracket already tells nothing.
        bracket.narrow(20.0, true);
        bracket.narrow(0.5, false);
        assert_eq!(bracket, Bracket { low: 1.0, high: 10.0 });
        assert_eq!(bracket.around(4.0, 2.0), Bracket { low: 2.0, high: 8.0 });
        assert!(!bracket.is_closed() && Bracket { low: 3.0, high: 3.0 }.is_closed());
    }

    /// With one eigenvalue `v` the length is `w / (v + lambda)`, so the root is `w / radius - v`.
    #[test]
    fn roots_of_one_term_are_found_in_closed_form() {
        let secular = Secular { values: vec![2.0], weights: vec![12.0] };
        let all = Bracket { low: 1e-10, high: 1e3 };
        for radius in [1e-1, 1.0, 3.0, 5.9] {
            let exact = 12.0 / radius - 2.0;
            assert!((secular.root(radius, all) - exact).abs() <= 1e-12 * exact, "{radius}");
            // One step from anywhere: the inverse length is linear.
            assert!((secular.newton(radius, 7.0) - exact).abs() <= 1e-11 * exact.max(1.0), "{radius}");
        }
        assert_eq!(secular.root(7.0, all), all.low, "inside the ball without a multiplier");
    }

    /// `(3 / (1 + x))^2 + (4 / (2 + x))^2` at `x = 2` is `1 + 1`.
    #[test]
    fn roots_of_two_terms_are_found_with_and_without_a_good_bracket() {
        let secular = Secular { values: vec![1.0, 2.0], weights: vec![3.0, -4.0] };
        let radius = 2f64.sqrt();
        for bracket in [Bracket { low: 1e-12, high: 1e12 }, Bracket { low: 1.9, high: 2.1 }] {
            assert!((secular.root(radius, bracket) - 2.0).abs() < 1e-13);
        }
        // The root lies above the bracket: its upper end is as near as it gets.
        assert!((secular.root(radius, Bracket { low: 0.1, high: 0.5 }) - 0.5).abs() < 1e-6);
    }

    /// Eigenvalues of zero make the length grow without bound as the multiplier falls, so there is a root for every radius.
    #[test]
    fn a_singular_hessian_has_a_root_for_every_radius() {
        let secular = Secular { values: vec![0.0, 5.0], weights: vec![1.0, 1.0] };
        for radius in [0.1, 10.0, 1e6] {
            let root = secular.root(radius, Bracket { low: 1e-12, high: 1e3 });
            assert!((secular.length(root) - radius).abs() <= 1e-10 * radius, "{radius}: {root}");
        }
    }
}
