//! How the states of a trace move: whether they do, whether they follow their gradients, and whether the steps are those of the
//! optimizer that the manifest names.

use super::read::Trace;
use crate::{
    network::{
        Network,
        file_layout::{bias_name, weight_name},
    },
    num::{
        Real,
        pieces::{CHUNK, Cut, PartialSum, add_in_pieces},
    },
    text::{nearest, rounds},
    train::{Observer, Round},
};
use Regressor::{Before, Gradient, Weights};
use faer::{Mat, linalg::solvers::Solve};

/// A step agrees with a rule if what is left of it is shorter than this share of it: gradients in half precision differ by less.
const AGREES: f64 = 1e-2;
/// Where rounding of the weights is more than this share of a step, the step tells nothing.
const DROWNED: f64 = 0.1;
/// Updates that do not go down their gradients in this share of the rounds are worth a word.
const DOWNHILL: f64 = 0.6;
/// Momentum below this counts as none.
const LEAST_MOMENTUM: f64 = 0.02;
/// What is left of steps is explained if less than this share of its square remains.
const SYSTEMATIC: f64 = 0.1;
/// Fewer updates than this say nothing about a share.
const FEW: usize = 20;

/// Inner products of a round: of the step `d = W^{n+1} - W^n`, the gradient `g`, the step before `p` and the weights `w`.
#[derive(Clone, Copy, Debug, Default)]
struct Products {
    dd: f64,
    dg: f64,
    gg: f64,
    ww: f64,
    dp: f64,
    gp: f64,
    pp: f64,
    dw: f64,
    gw: f64,
    pw: f64,
    /// `|d + rate g|^2`.
    off: f64,
}

impl Products {
    fn each(self) -> [f64; 11] {
        let Self { dd, dg, gg, ww, dp, gp, pp, dw, gw, pw, off } = self;
        [dd, dg, gg, ww, dp, gp, pp, dw, gw, pw, off]
    }

    /// What is left of the step when its part along the gradient is taken away, squared.
    fn beside_gradient(&self) -> f64 {
        if self.gg == 0.0 { self.dd } else { (self.dd - self.dg * self.dg / self.gg).max(0.0) }
    }
}

impl PartialSum for Products {
    fn add(&mut self, next: Self) {
        let mut sum = self.each();
        sum.iter_mut().zip(next.each()).for_each(|(a, b)| *a += b);
        let [dd, dg, gg, ww, dp, gp, pp, dw, gw, pw, off] = sum;
        *self = Self { dd, dg, gg, ww, dp, gp, pp, dw, gw, pw, off };
    }
}

/// Watches the rounds of a trace. A step is looked at when the state behind it comes.
pub struct Motion<'a, T> {
    trace: &'a Trace<T>,
    network: &'a Network,
    /// The constant step of plain SGD that the manifest tells.
    rate: Option<f64>,
    /// Of each block: whether its matrix and its biases have moved, and whether their gradients have not been 0.
    moved: Vec<[bool; 2]>,
    pulled: Vec<[bool; 2]>,
    steps: Vec<Products>,
    /// Rounds that were seen; the state and the gradient of the last, and the state before that.
    seen: usize,
    now: Vec<T>,
    gradient: Vec<T>,
    before: Vec<T>,
}

impl<'a, T: Real> Motion<'a, T> {
    /// `rate` is the constant step of plain SGD, if that is what the steps are to be compared with.
    pub fn new(trace: &'a Trace<T>, network: &'a Network, rate: Option<f64>) -> Self {
        let none = vec![[false; 2]; network.blocks().len()];
        let (now, gradient, before) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            trace,
            network,
            rate,
            moved: none.clone(),
            pulled: none,
            steps: Vec::new(),
            seen: 0,
            now,
            gradient,
            before,
        }
    }

    /// Looks at the step from the last round that was seen to the next state.
    fn step_to(&mut self, next: &[T]) {
        let Some(index) = self.seen.checked_sub(1) else { return };
        self.watch(next);
        // Where rounds are missing, the states are not those of one step.
        if self.trace.number(index + 1) == self.trace.number(index) + 1 {
            let products = self.products(next);
            self.steps.push(products);
        }
    }

    fn products(&self, next: &[T]) -> Products {
        let Self { now, gradient, before, .. } = self;
        let rate = self.rate.unwrap_or(0.0);
        let mut products = Products::default();
        add_in_pieces(&mut products, now.len(), Cut::Every(CHUNK), |piece| {
            let mut sum = Products::default();
            for j in piece {
                let (w, g) = (now[j].to_f64(), gradient[j].to_f64());
                let d = next[j].to_f64() - w;
                sum.dd += d * d;
                sum.dg += d * g;
                sum.gg += g * g;
                sum.ww += w * w;
                if self.rate.is_some() {
                    // The first step has none before it.
                    let p = before.get(j).map_or(0.0, |before| w - before.to_f64());
                    sum.dp += d * p;
                    sum.gp += g * p;
                    sum.pp += p * p;
                    sum.dw += d * w;
                    sum.gw += g * w;
                    sum.pw += p * w;
                    sum.off += (d + rate * g) * (d + rate * g);
                }
            }
            sum
        });
        products
    }

    /// Looks for what has not moved and not been pulled yet.
    fn watch(&mut self, next: &[T]) {
        let (now, gradient) = (&self.now, &self.gradient);
        let changed = |j: usize| next[j] != now[j];
        let pulls = |j: usize| gradient[j] != T::ZERO;
        for (l, block) in self.network.blocks().iter().enumerate() {
            let (width, start) = (block.width(), block.range().start);
            let is_bias = |j: &usize| (j - start) % width == block.inputs;
            for (bias, (moved, pulled)) in self.moved[l].iter_mut().zip(&mut self.pulled[l]).enumerate() {
                let mut own = block.range().filter(|j| is_bias(j) == (bias == 1));
                *moved = *moved || own.clone().any(changed);
                *pulled = *pulled || own.any(pulls);
            }
        }
    }

    /// What was found.
    pub fn findings(self) -> Findings {
        let names = |block| [weight_name(block), bias_name(block)];
        let tensors = self.network.blocks().iter().map(names).zip(self.moved.iter().zip(&self.pulled));
        let frozen = tensors
            .flat_map(|(names, (moved, pulled))| names.into_iter().zip(moved.iter().zip(pulled)))
            .filter(|(_, (moved, pulled))| !**moved && **pulled)
            .map(|(name, _)| name)
            .collect();
        let pulled: Vec<&Products> = self.steps.iter().filter(|step| step.gg > 0.0).collect();
        let going: Vec<&&Products> = pulled.iter().filter(|step| step.dd > 0.0).collect();
        let downhill = going.iter().filter(|step| step.dg < 0.0).count();
        Findings {
            states: self.trace.states.len(),
            never: self.pulled.iter().flatten().any(|pulled| *pulled)
                && self.moved.iter().flatten().all(|moved| !moved),
            frozen,
            still: pulled.len() - going.len(),
            updates: pulled.len(),
            downhill: (going.len() >= FEW).then(|| downhill as f64 / going.len() as f64),
            steps: self.rate.map(|rate| Steps::of(&self.steps, rate, self.trace.stored.rounding())),
            gradient_steps: gradient_steps(&self.steps, self.trace.stored.rounding()),
        }
    }
}

impl<T: Real> Observer<T> for Motion<'_, T> {
    fn observe(&mut self, round: &Round<T>) {
        self.step_to(round.weights);
        std::mem::swap(&mut self.before, &mut self.now);
        for (kept, new) in [(&mut self.now, round.weights), (&mut self.gradient, round.gradient)] {
            kept.clear();
            kept.extend_from_slice(new);
        }
        self.seen += 1;
    }

    fn finish(&mut self, final_weights: &[T], updates: usize) {
        // A trace without its final weights has no last update.
        if updates == self.seen {
            self.step_to(final_weights);
        }
    }
}

/// What the states of a trace show.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    states: usize,
    /// No weight ever changes, although gradients are not 0.
    pub never: bool,
    /// Tensors that never change although their gradients are not 0.
    pub frozen: Vec<String>,
    /// Updates that change nothing although the gradient is not 0, of how many.
    still: usize,
    updates: usize,
    /// The share of updates that go down their minibatch's gradient, of those that go anywhere; empty for few.
    downhill: Option<f64>,
    /// What the steps are, where the manifest tells plain SGD.
    pub steps: Option<Steps>,
    /// The constant rate of steps that are all along the gradient, as those of plain SGD are.
    pub gradient_steps: Option<f64>,
}

impl Findings {
    /// Why states that never move are not a trace of training.
    pub fn unmoved(&self) -> Option<String> {
        self.never.then(|| {
            format!(
                "all {} states are equal, although the gradients are not 0: state_dict() gives references to the weights, \
                 not copies; save w.detach().clone() of each",
                self.states
            )
        })
    }

    /// What casts doubt on the trace: a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.frozen.is_empty() {
            let (verb, gradients, them) = match self.frozen.len() {
                1 => ("never changes", "its gradient is", "it as"),
                _ => ("never change", "their gradients are", "them as"),
            };
            let biases = if self.frozen.iter().all(|name| name.ends_with("bias")) {
                " (a layer without bias is declared with \"bias\": false)"
            } else {
                ""
            };
            warnings.push(format!(
                "{} {verb}, although {gradients} not 0: frozen, left out of the optimizer, or references instead of copies; \
                 regret counts {them} weights that training could have moved{biases}",
                self.frozen.join(", "),
            ));
        }
        if self.still > 0 {
            warnings.push(format!(
                "{} of {} updates change nothing, although the gradient is not 0: skipped steps, or states saved less often \
                 than every round",
                self.still, self.updates
            ));
        }
        if let Some(share) = self.downhill.filter(|share| *share < DOWNHILL) {
            warnings.push(format!(
                "only {:.0}% of the updates go down their minibatch's gradient: network, axes, data, minibatches or the order \
                 of states may not be those of training",
                100.0 * share
            ));
        }
        if let Some(Steps::Other { rate, what } | Steps::Untold { rate, what }) = &self.steps {
            warnings.push(format!(
                "the manifest tells plain SGD with learning rate {rate}, but {what}; bound_sgd is left out"
            ));
        }
        warnings
    }
}

/// Whether steps are those of plain SGD at the told rate.
#[derive(Clone, Debug, PartialEq)]
pub enum Steps {
    /// Every one of them.
    Plain,
    /// Some are missing, or they are too short to tell; in words.
    Untold { rate: f64, what: String },
    /// They are those of something else; what they look like, in words.
    Other { rate: f64, what: String },
}

impl Steps {
    /// `rounding` is the relative error of a stored weight.
    fn of(steps: &[Products], rate: f64, rounding: f64) -> Self {
        let error = |step: &Products| (2.0 * rounding).powi(2) * step.ww;
        let length = |step: &Products| step.dd.max(rate * rate * step.gg);
        let telling: Vec<(usize, &Products)> =
            steps.iter().enumerate().filter(|(_, step)| error(step) < DROWNED * DROWNED * length(step)).collect();
        let fits = |step: &Products| step.off <= AGREES * AGREES * length(step) + 4.0 * error(step);
        if telling.is_empty() {
            let what = "no update is larger than the rounding of the weights, so that cannot be checked".to_owned();
            return Self::Untold { rate, what };
        }
        let wrong: Vec<usize> = telling.iter().filter(|(_, step)| !fits(step)).map(|(index, _)| *index).collect();
        if wrong.is_empty() {
            return decay(steps, error).map_or(Self::Plain, |what| Self::Other { rate, what });
        }
        let along =
            |step: &Products| step.beside_gradient() <= AGREES * AGREES * step.dd + 4.0 * error(step) && step.dg < 0.0;
        if telling.iter().all(|(_, step)| along(step)) {
            return Self::Other { rate, what: rates(&telling) };
        }
        if let Some(what) = fitted(steps, error) {
            return Self::Other { rate, what };
        }
        if 2 * wrong.len() <= telling.len() {
            let what = format!(
                "that does not lead from round {} to the next ({} of {}): updates between them are missing, or their gradients were computed otherwise (half \
                 precision, clipping)",
                rounds(&wrong),
                wrong.len(),
                telling.len()
            );
            return Self::Untold { rate, what };
        }
        let first = &steps[wrong[0]];
        let what = format!(
            "W^{} - W^{} is not -{rate} times the gradient (off by {:.0}%), nor a step of another length along it: \
             another optimizer, or other gradients than those of training",
            wrong[0] + 2,
            wrong[0] + 1,
            100.0 * (first.off / length(first)).sqrt()
        );
        Self::Other { rate, what }
    }
}

/// The lengths of steps that all go along their gradients.
fn rates(telling: &[(usize, &Products)]) -> String {
    let rates: Vec<f64> = telling.iter().map(|(_, step)| -step.dg / step.gg).collect();
    let (least, most) = rates.iter().fold((f64::INFINITY, 0.0f64), |(a, b), rate| (a.min(*rate), b.max(*rate)));
    let (first, last) = (rates[0], rates[rates.len() - 1]);
    if most - least <= AGREES * most {
        format!("the updates are steps of {} along the gradient", three(first))
    } else if rates.windows(2).all(|pair| pair[1] <= pair[0] * (1.0 + AGREES)) {
        format!("the learning rate falls from {} to {}", three(first), three(last))
    } else {
        format!(
            "the updates are steps between {} and {} along the gradient: a schedule, or gradients that were clipped",
            three(least),
            three(most)
        )
    }
}

/// What steps may be made of.
#[derive(Clone, Copy)]
enum Regressor {
    Gradient,
    Before,
    Weights,
}

/// The coefficients with which the regressors come nearest to the steps, and the squares that they leave.
fn least_squares(sum: &Products, regressors: &[Regressor]) -> (Vec<f64>, f64) {
    let gram = [[sum.gg, sum.gp, sum.gw], [sum.gp, sum.pp, sum.pw], [sum.gw, sum.pw, sum.ww]];
    let right = [sum.dg, sum.dp, sum.dw];
    let chosen: Vec<usize> = regressors.iter().map(|regressor| *regressor as usize).collect();
    let matrix = Mat::from_fn(chosen.len(), chosen.len(), |i, j| gram[chosen[i]][chosen[j]]);
    let side = Mat::from_fn(chosen.len(), 1, |i, _| right[chosen[i]]);
    let solution = matrix.partial_piv_lu().solve(&side);
    let x: Vec<f64> = (0..chosen.len()).map(|i| solution[(i, 0)]).collect();
    let explained: f64 = chosen.iter().zip(&x).map(|(i, x)| right[*i] * x).sum();
    (x, sum.dd - explained)
}

/// The sums over all steps.
fn total(steps: &[Products]) -> Products {
    let mut sum = Products::default();
    steps.iter().for_each(|step| sum.add(*step));
    sum
}

/// Momentum, weight decay or both, if they explain the steps: least squares of all steps on the gradients, the steps before and
/// the weights.
fn fitted(steps: &[Products], error: impl Fn(&Products) -> f64) -> Option<String> {
    // The first step has none before it.
    let rest = steps.get(1..)?;
    let sum = total(rest);
    let rounding: f64 = rest.iter().map(error).sum();
    let solve = |regressors: &[Regressor]| {
        let (x, left) = least_squares(&sum, regressors);
        (left.is_finite() && left <= AGREES * AGREES * sum.dd + 4.0 * rounding).then_some(x)
    };
    let shown = |value: f64| format!("{}", (1000.0 * value).round() / 1000.0);
    let rate = |x: &[f64]| three(-x[0]);
    if let Some(x) = solve(&[Gradient, Weights]).filter(|x| x[0] < 0.0 && x[1] < 0.0) {
        let decay = three(x[1] / x[0]);
        return Some(format!("the updates are those of weight decay {decay} with learning rate {}", rate(&x)));
    }
    let moving = |x: &Vec<f64>| x[0] < 0.0 && (LEAST_MOMENTUM..1.5).contains(&x[1]);
    if let Some(x) = solve(&[Gradient, Before]).filter(moving) {
        return Some(format!("the updates are those of momentum {} with learning rate {}", shown(x[1]), rate(&x)));
    }
    let x = solve(&[Gradient, Before, Weights]).filter(moving)?;
    let decay = three(x[2] / x[0]);
    Some(format!(
        "the updates are those of momentum {} and weight decay {decay} with learning rate {}",
        shown(x[1]),
        rate(&x)
    ))
}

/// Weight decay that is too weak to show in a single step: what the gradients leave over of all steps lies along the weights.
fn decay(steps: &[Products], error: impl Fn(&Products) -> f64) -> Option<String> {
    let sum = total(steps);
    let rounding: f64 = steps.iter().map(error).sum();
    let (_, left_alone) = least_squares(&sum, &[Gradient]);
    let (x, left) = least_squares(&sum, &[Gradient, Weights]);
    let (along_gradient, along_weights) = (x[0], x[1]);
    let weak = 4.0 * rounding + 1e-12 * sum.dd;
    (left_alone > weak && left < SYSTEMATIC * left_alone && along_gradient < 0.0 && along_weights < 0.0).then(|| {
        format!(
            "the updates are those of weight decay {} with learning rate {}",
            three(along_weights / along_gradient),
            three(-along_gradient)
        )
    })
}

/// The rate of steps that all go along their gradients, if it is constant.
fn gradient_steps(steps: &[Products], rounding: f64) -> Option<f64> {
    let error = |step: &Products| (2.0 * rounding).powi(2) * step.ww;
    let telling: Vec<&Products> = steps.iter().filter(|step| error(step) < DROWNED * DROWNED * step.dd).collect();
    let along =
        |step: &&Products| step.dg < 0.0 && step.beside_gradient() <= AGREES * AGREES * step.dd + 4.0 * error(step);
    let rates = telling.iter().map(|step| -step.dg / step.gg);
    let (least, most) = rates.fold((f64::INFINITY, 0.0f64), |(a, b), rate| (a.min(rate), b.max(rate)));
    (telling.len() >= FEW && telling.iter().all(along) && most - least <= AGREES * most).then_some(most)
}

/// Three digits.
pub fn three(value: f64) -> f64 {
    nearest(value, 3)
}
