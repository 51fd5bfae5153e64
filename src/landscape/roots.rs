//! Where a polynomial changes its sign on an interval.
//!
//! Bernstein coefficients bound a polynomial, and by Descartes' rule the number of its roots in an open interval is at
//! most the number of their sign changes and of the same parity (Lane and Riesenfeld 1981). Intervals are halved until
//! that number is 0 or 1, so no sign change is missed, except pairs that lie closer together than the tolerance: there
//! the polynomial touches zero as far as the tolerance can tell.

/// The sign changes of one polynomial.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SignChanges {
    /// The sign at the beginning: that of the first point where the polynomial is not zero, `0.0` if there is none.
    pub first: f64,
    /// Where the sign changes, increasing, in the open interval `(0, length)`.
    pub at: Vec<f64>,
}

/// Finds sign changes, keeping its buffers.
#[derive(Clone, Debug, Default)]
pub struct RootFinder {
    bernstein: Vec<f64>,
    /// Intervals that are left, the leftmost last: its ends as fractions of the length, and its coefficients.
    stack: Vec<(f64, f64, Vec<f64>)>,
    spare: Vec<Vec<f64>>,
}

impl RootFinder {
    /// The sign changes of `sum_k coefficients[k] t^k` for `0 < t < length`, each to within `tolerance`.
    pub fn sign_changes(&mut self, coefficients: &[f64], length: f64, tolerance: f64, found: &mut SignChanges) {
        found.at.clear();
        found.first = 0.0;
        self.load_bernstein(coefficients, length);
        // An overflowed polynomial has no signs to speak of, and halving it would not end.
        if !self.bernstein.iter().all(|b| b.is_finite()) {
            return;
        }
        match variations(&self.bernstein) {
            (sign, 0) => {
                found.first = sign;
                return;
            }
            (sign, _) if coefficients.len() == 2 => {
                found.first = sign;
                found.at.push(-coefficients[0] / coefficients[1]);
                return;
            }
            _ => {}
        }
        let root = self.fresh();
        self.stack.push((0.0, 1.0, root));
        let narrow = tolerance / length;
        let mut last = 0.0;
        while let Some((from, to, b)) = self.stack.pop() {
            let (sign, count) = variations(&b);
            if count >= 2 && to - from > narrow {
                self.halve(from, to, b);
                continue;
            }
            if sign != 0.0 {
                if last == 0.0 {
                    found.first = sign;
                } else if sign != last {
                    found.at.push(from * length);
                }
                last = sign;
                // An odd number of changes that cannot be told apart is one change.
                if count % 2 == 1 {
                    found.at.push(self.locate(&b, from, to, narrow) * length);
                    last = -sign;
                }
            }
            self.spare.push(b);
        }
    }

    fn load_bernstein(&mut self, coefficients: &[f64], length: f64) {
        let n = coefficients.len() - 1;
        self.bernstein.clear();
        // b_j = sum_{k <= j} C(j, k) / C(n, k) c_k length^k, where C(j, k) / C(n, k) = prod_{i < k} (j - i) / (n - i).
        for j in 0..=n {
            let (mut sum, mut weight) = (0.0, 1.0);
            for (k, c) in coefficients.iter().enumerate().take(j + 1) {
                sum += weight * c;
                weight *= length * (j - k) as f64 / (n - k).max(1) as f64;
            }
            self.bernstein.push(sum);
        }
    }

    fn fresh(&mut self) -> Vec<f64> {
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(&self.bernstein);
        copy
    }

    /// De Casteljau's subdivision at the middle.
    fn halve(&mut self, from: f64, to: f64, mut right: Vec<f64>) {
        let n = right.len();
        let mut left = self.spare.pop().unwrap_or_default();
        left.clear();
        for step in 0..n {
            left.push(right[0]);
            for j in 0..n - 1 - step {
                right[j] = 0.5 * (right[j] + right[j + 1]);
            }
        }
        // What is left in `right` are the last entries of each step, from the middle outwards.
        let middle = 0.5 * (from + to);
        self.stack.push((middle, to, right));
        self.stack.push((from, middle, left));
    }

    /// Bisects towards the one sign change of the Bernstein polynomial `b` between `from` and `to`.
    fn locate(&mut self, b: &[f64], from: f64, to: f64, narrow: f64) -> f64 {
        let first = variations(b).0;
        let (mut low, mut high) = (0.0, 1.0);
        while (high - low) * (to - from) > narrow {
            let middle = 0.5 * (low + high);
            if middle <= low || middle >= high {
                break;
            }
            match self.value(b, middle) * first {
                v if v > 0.0 => low = middle,
                v if v < 0.0 => high = middle,
                _ => return from + middle * (to - from),
            }
        }
        from + 0.5 * (low + high) * (to - from)
    }

    fn value(&mut self, b: &[f64], t: f64) -> f64 {
        self.bernstein.clear();
        self.bernstein.extend_from_slice(b);
        for n in (1..b.len()).rev() {
            for j in 0..n {
                self.bernstein[j] += t * (self.bernstein[j + 1] - self.bernstein[j]);
            }
        }
        self.bernstein[0]
    }
}

/// The first sign that is not zero, and the number of sign changes, zeros left out.
fn variations(b: &[f64]) -> (f64, usize) {
    let (mut first, mut last, mut count) = (0.0, 0.0, 0);
    for v in b.iter().filter(|v| **v != 0.0) {
        let sign = v.signum();
        if last == 0.0 {
            first = sign;
        } else if sign != last {
            count += 1;
        }
        last = sign;
    }
    (first, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn changes(coefficients: &[f64], length: f64) -> SignChanges {
        let mut found = SignChanges::default();
        RootFinder::default().sign_changes(coefficients, length, 1e-13, &mut found);
        found
    }

    /// The coefficients of `scale (t - r_1) (t - r_2) ...`.
    fn from_roots(roots: &[f64], scale: f64) -> Vec<f64> {
        let mut c = vec![scale];
        for r in roots {
            c.push(0.0);
            for k in (0..c.len()).rev() {
                c[k] = if k > 0 { c[k - 1] } else { 0.0 } - r * c[k];
            }
        }
        c
    }

    #[test]
    fn roots_at_the_ends_at_halves_and_double_ones() {
        assert_eq!(changes(&[0.0, 0.0, 0.0], 1.0), SignChanges::default());
        assert_eq!(changes(&[0.0, -2.0], 1.0), SignChanges { first: -1.0, at: vec![] });
        assert_eq!(changes(&[-1.0, 1.0], 1.0), SignChanges { first: -1.0, at: vec![] });
        assert_eq!(changes(&[-1.0, 2.0], 1.0), SignChanges { first: -1.0, at: vec![0.5] });
        // Roots at 1/4, 1/2 and 3/4 meet the ends of halved intervals.
        let quarters = changes(&from_roots(&[0.25, 0.5, 0.75], 1.0), 1.0);
        assert!(
            quarters.at.len() == 3 && quarters.at.iter().zip([0.25, 0.5, 0.75]).all(|(a, b)| (a - b).abs() < 1e-12)
        );
        // A double root is touched, a triple one crossed once; where they are not dyadic numbers, rounding may split them.
        assert_eq!(changes(&from_roots(&[0.375, 0.375], 1.0), 1.0), SignChanges { first: 1.0, at: vec![] });
        assert_eq!(changes(&from_roots(&[0.375, 0.375, 0.375], 1.0), 1.0).at.len(), 1);
        for (roots, odd) in [(&[0.3, 0.3][..], false), (&[0.3, 0.3, 0.3], true)] {
            let found = changes(&from_roots(roots, 1.0), 1.0);
            assert_eq!(found.at.len() % 2 == 1, odd);
            assert!(found.at.iter().all(|at| (at - 0.3).abs() < 1e-4), "{found:?}");
        }
        // Overflowed: no sign, and no endless search.
        assert_eq!(changes(&[1.0, f64::INFINITY, f64::NAN], 1.0), SignChanges::default());
        // Constant and without a change.
        assert_eq!(changes(&[-3.0], 2.0), SignChanges { first: -1.0, at: vec![] });
    }

    #[test]
    fn chosen_roots_are_found() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut tried = 0;
        while tried < 300 {
            let mut roots: Vec<f64> = (0..random.random_range(0..7)).map(|_| random.random_range(-0.5..2.5)).collect();
            let length = random.random_range(0.1..2.0);
            let scale = if random.random() { 1.0 } else { -1.0 };
            roots.sort_by(f64::total_cmp);
            // Nearly equal roots are ill-conditioned in power form; that is the tolerance's matter.
            let apart = roots.windows(2).all(|w| w[1] - w[0] > 0.05);
            if !apart || roots.iter().any(|r| r.abs() < 1e-3 || (r - length).abs() < 1e-3) {
                continue;
            }
            tried += 1;
            let found = changes(&from_roots(&roots, scale), length);
            let expected: Vec<f64> = roots.iter().copied().filter(|r| *r > 0.0 && *r < length).collect();
            assert_eq!(found.at.len(), expected.len(), "{roots:?}, {length}");
            for (a, b) in found.at.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-8, "{a} {b}, {roots:?}, {length}");
            }
            let above = roots.iter().filter(|r| **r > 0.0).count();
            assert_eq!(found.first, if above % 2 == 0 { scale } else { -scale }, "{roots:?}, {length}");
        }
    }
}
