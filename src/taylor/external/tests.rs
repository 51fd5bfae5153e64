//! Least squares and logistic losses of rounds as products from elsewhere, right ones and wrong ones.

use super::*;
use crate::taylor::{Comparators, StopReason, unit::Scale};
use std::{fmt, sync::Mutex};

const WIDTH: usize = 6;
const ROUNDS: usize = 5;

/// What goes wrong, if something does.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    Raises,
    Short,
    NotFinite,
    Negative,
    Curvature,
}

#[derive(Debug)]
struct Raised;

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("raised on purpose")
    }
}

impl Error for Raised {}

/// `T^n(u) = mean of phi(a'u - y)` over rows; `phi` is half a square, or `log(1 + e^s)`.
struct Rows {
    /// `[rounds, rows, WIDTH]` and `[rounds, rows]`.
    a: Vec<Vec<[f64; WIDTH]>>,
    y: Vec<Vec<f64>>,
    quadratic: bool,
    dense: bool,
    wrong: Wrong,
    at: Mutex<Vec<f64>>,
}

impl Rows {
    fn new(quadratic: bool, dense: bool, wrong: Wrong) -> Self {
        let number = |seed: usize| (seed as f64 * 12.9898).sin() * 1.7;
        let a = (0..ROUNDS)
            .map(|n| (0..9).map(|i| std::array::from_fn(|j| number(1 + j + WIDTH * (i + 9 * n)))).collect())
            .collect();
        let y = (0..ROUNDS).map(|n| (0..9).map(|i| number(1000 + i + 9 * n)).collect()).collect();
        Self { a, y, quadratic, dense, wrong, at: Mutex::new(vec![0.0; WIDTH]) }
    }

    /// Value, slope and curvature of `phi`.
    fn phi(&self, s: f64) -> [f64; 3] {
        if self.quadratic {
            return [0.5 * s * s, s, 1.0];
        }
        let p = 1.0 / (1.0 + (-s).exp());
        [s.max(0.0) + (-s.abs()).exp().ln_1p(), p, p * (1.0 - p)]
    }

    fn rows(&self, rounds: usize) -> f64 {
        self.y[..rounds].iter().map(Vec::len).sum::<usize>() as f64
    }

    fn each(&self, rounds: Range<usize>, u: &[f64], mut seen: impl FnMut(&[f64; WIDTH], [f64; 3])) {
        for n in rounds {
            for (a, y) in self.a[n].iter().zip(&self.y[n]) {
                seen(a, self.phi(dot(a, u) - y));
            }
        }
    }

    /// The optimum of all rounds in a ball, by projected gradient descent.
    fn slow_optimum(&self, radius: f64) -> f64 {
        let mut u = vec![0.0; WIDTH];
        let mut best = f64::INFINITY;
        for _ in 0..20_000 {
            let (value, gradient) = self.evaluate(ROUNDS, &u).unwrap();
            best = best.min(value);
            u.iter_mut().zip(&gradient).for_each(|(u, g)| *u -= 0.2 * g);
            let length = norm(&u);
            if length > radius {
                u.iter_mut().for_each(|u| *u *= radius / length);
            }
        }
        best
    }
}

impl Products for Rows {
    fn dimension(&self) -> usize {
        WIDTH
    }

    fn is_quadratic(&self) -> bool {
        self.quadratic
    }

    fn evaluate(&self, rounds: usize, u: &[f64]) -> Result<(f64, Vec<f64>), Failure> {
        let (mut value, mut gradient, scale) = (0.0, vec![0.0; WIDTH], 1.0 / self.rows(rounds));
        self.each(0..rounds, u, |a, [phi, slope, _]| {
            value += scale * phi;
            gradient.iter_mut().zip(a).for_each(|(g, a)| *g += scale * slope * a);
        });
        match self.wrong {
            Wrong::Negative => value -= 100.0,
            Wrong::NotFinite => value = f64::NAN,
            _ => {}
        }
        Ok((value, gradient))
    }

    fn linearize(&self, _rounds: usize, u: &[f64]) -> Result<(), Failure> {
        *self.at.lock().unwrap() = u.to_vec();
        Ok(())
    }

    fn ggn_products(&self, rounds: Range<usize>, directions: &[&[f32]]) -> Result<Vec<Vec<f32>>, Failure> {
        let (at, scale) = (self.at.lock().unwrap().clone(), 1.0 / self.rows(rounds.end));
        let sign = if self.wrong == Wrong::Curvature { -1.0 } else { 1.0 };
        let product = |direction: &&[f32]| {
            let (direction, mut out): (Vec<f64>, _) = (convert(direction), vec![0.0; WIDTH]);
            self.each(rounds.clone(), &at, |a, [.., curvature]| {
                let moved = sign * scale * curvature * dot(a, &direction);
                out.iter_mut().zip(a).for_each(|(o, a)| *o += moved * a);
            });
            convert(&out)
        };
        match self.wrong {
            Wrong::Raises => Err(Box::new(Raised)),
            Wrong::Short => Ok(directions.iter().map(|_| vec![0.0; WIDTH - 1]).collect()),
            _ => Ok(directions.iter().map(product).collect()),
        }
    }

    fn quadratics(&self, prefixes: &[usize]) -> Result<Option<Vec<DenseQuadratic>>, Failure> {
        let quadratic = |rounds: &usize| {
            let (constant, linear) = self.evaluate(*rounds, &[0.0; WIDTH])?;
            let units: Vec<Vec<f32>> =
                (0..WIDTH).map(|j| (0..WIDTH).map(|i| f32::from(u8::from(i == j))).collect()).collect();
            let directions: Vec<&[f32]> = units.iter().map(|unit| &unit[..]).collect();
            let hessian = self.ggn_products(0..*rounds, &directions)?.concat();
            Ok(DenseQuadratic { constant, linear, hessian: convert(&hessian) })
        };
        if self.dense { prefixes.iter().map(quadratic).collect::<Result<_, _>>().map(Some) } else { Ok(None) }
    }
}

fn search(rows: &Rows) -> Result<Vec<UnitResult>, Failure> {
    let stop = AtomicBool::new(false);
    let settings = RegretSettings {
        scales: vec![Scale::Network],
        comparators: Comparators::Chosen(vec![Comparator::Ball]),
        ..RegretSettings::default()
    };
    let effort = Effort { tolerance: 1e-7, max_products: 200, basis: 48, stop: &stop, tick: &|_| () };
    let record =
        |rounds| UnitRecord { rounds, analysed: rounds, mean_loss: 1.0, displacement: 0.4, ..UnitRecord::default() };
    unit_optima(UnitId::NETWORK, rows, &[1, 3, ROUNDS], &settings, effort, &record)
}

#[test]
fn optima_by_products_from_elsewhere_are_those_of_a_slow_method() {
    for (quadratic, dense) in [(true, false), (true, true), (false, false)] {
        let rows = Rows::new(quadratic, dense, Wrong::Nothing);
        let found = search(&rows).unwrap();
        let last = found.last().unwrap();
        let best = rows.slow_optimum(0.8);
        assert_eq!((found.len(), last.record.rounds, last.stop), (3, ROUNDS, StopReason::Converged));
        assert!(last.gap <= 1e-7 && last.taylor_optimum < last.start);
        assert!((last.taylor_optimum - best).abs() < 1e-6, "{} is not {best}", last.taylor_optimum);
    }
}

#[test]
fn a_failure_is_handed_back_as_it_is() {
    for dense in [false, true] {
        let failure = search(&Rows::new(true, dense, Wrong::Raises)).unwrap_err();
        assert!(failure.downcast::<Raised>().is_ok());
    }
}

#[test]
fn numbers_that_no_convex_loss_has_are_errors() {
    let wrong = |wrong| *search(&Rows::new(true, false, wrong)).unwrap_err().downcast::<ExternalError>().unwrap();
    assert!(matches!(wrong(Wrong::Short), ExternalError::Length { found: 5, expected: 6, .. }));
    assert!(matches!(wrong(Wrong::NotFinite), ExternalError::NotFinite { .. }));
    assert!(matches!(wrong(Wrong::Negative), ExternalError::Negative { .. }));
    assert!(matches!(wrong(Wrong::Curvature), ExternalError::NotConvex { .. }));
}

#[test]
fn any_convex_function_is_minimized_though_its_values_are_negative() {
    for (quadratic, wrong) in [(true, Wrong::Nothing), (true, Wrong::Negative), (false, Wrong::Negative)] {
        let (rows, stop) = (Rows::new(quadratic, false, wrong), AtomicBool::new(false));
        // One round only, which `minimize` asks for.
        let one = Rows { a: vec![rows.a.concat()], y: vec![rows.y.concat()], ..rows };
        let asked = Minimization { radius: 0.8, tolerance: 1e-8, max_products: 100, start: &[0.0; WIDTH], stop: &stop };
        let found = minimize(&one, asked).unwrap();
        assert!(found.gap <= 1e-8 && found.stop == StopReason::Converged);
        // The certificate is right: no point of the ball is lower by more than the gap.
        for seed in 0..200 {
            let mut u: Vec<f64> = (0..WIDTH).map(|j| ((seed * WIDTH + j) as f64 * 78.233).sin()).collect();
            let length = norm(&u) / 0.8;
            u.iter_mut().for_each(|u| *u /= length.max(1.0));
            assert!(one.evaluate(1, &u).unwrap().0 >= found.value - found.gap - 1e-12);
        }
        assert!((one.evaluate(1, &found.displacement).unwrap().0 - found.value).abs() < 1e-9);
    }
}
