//! Why recorded losses differ from recomputed ones: a guess at each of the usual mistakes is computed on a few rounds, and the one
//! that gives the recorded losses is named.

use super::{
    TargetKind,
    error::TraceError,
    motion::Findings,
    pair::Pair,
    read::{Trace, TraceTargets},
};
use crate::{
    loss::{Loss, Targets},
    network::{Block, Network, Shape, tensor_names::list},
    num::Real,
    passes::Tape,
    text::{nearest, rounds},
};
use std::collections::BTreeMap;

/// Rounds that guesses are computed on.
const SAMPLE: usize = 6;
/// Rounds that agree up to this are computed alike.
const CLOSELY: f64 = 1e-5;
/// Half precision is off by a small part of what the loss differs by from one minibatch to the next; another network by more.
const SMALL_PART: f64 = 0.05;
/// Errors of half precision, relative to the loss: at most, and the root of their mean square.
const HALF: [f64; 2] = [8e-2, 2e-2];

/// The likely cause, and what to do about it.
pub(super) fn likely<T: Real>(
    trace: &Trace<T>,
    network: &Network,
    pairs: &[Pair],
    wrong: &[usize],
    findings: &Findings,
    tolerance: f64,
) -> String {
    let sample = sample(wrong);
    // If states cannot be read any more, there is less to guess by.
    let states = states_about(trace, &sample).unwrap_or_default();
    let compared = Compared { trace, network, pairs, wrong, sample, states, tolerance };
    findings
        .unmoved()
        .or_else(|| compared.unused())
        .or_else(|| compared.not_finite())
        .or_else(|| compared.rounded())
        .or_else(|| compared.some_rounds())
        .or_else(|| compared.constant_factor())
        .or_else(|| compared.guessed())
        .or_else(|| compared.penalty())
        .or_else(|| compared.smoothing())
        .or_else(|| compared.running_mean())
        .or_else(|| compared.half_precision())
        .unwrap_or_else(|| compared.unknown())
}

struct Compared<'a, T> {
    trace: &'a Trace<T>,
    network: &'a Network,
    pairs: &'a [Pair],
    /// Indices of the rounds that disagree.
    wrong: &'a [usize],
    /// Some of them, on which guesses are computed.
    sample: Vec<usize>,
    /// The states of the sample, and those beside them.
    states: BTreeMap<usize, Vec<T>>,
    tolerance: f64,
}

/// Some of the rounds that disagree, evenly spaced.
fn sample(wrong: &[usize]) -> Vec<usize> {
    let (count, last) = (wrong.len().min(SAMPLE), wrong.len() - 1);
    (0..count).map(|i| wrong[i * last / count.saturating_sub(1).max(1)]).collect()
}

/// The states of these rounds, and those before and behind them.
fn states_about<T: Real>(trace: &Trace<T>, sample: &[usize]) -> Result<BTreeMap<usize, Vec<T>>, TraceError> {
    let mut reader = trace.states.reader();
    let about = sample.iter().flat_map(|at| at.saturating_sub(1)..trace.states.len().min(at + 2));
    about.map(|at| Ok((at, reader.get(at)?.to_vec()))).collect()
}

/// What outputs are compared with, in double precision.
enum Wanted {
    Values(Vec<f64>),
    Labels(Vec<u32>),
}

/// A mistake: the loss that it makes of a round, and how it reads.
type Guess<'a, T> = (&'static str, Box<dyn Fn(&Compared<T>, usize) -> Option<f64> + 'a>);

impl<T: Real> Compared<'_, T> {
    /// Tensors of layers that are not in the list.
    fn unused(&self) -> Option<String> {
        let unused = &self.trace.unused;
        (!unused.is_empty()).then(|| {
            format!(
                "no layer of the list uses {}, so another network was trained: complete the list; a network with layers that it \
                 cannot have, like a normalization, cannot be analysed",
                list(unused)
            )
        })
    }

    fn not_finite(&self) -> Option<String> {
        let first = self.pairs[self.wrong[0]];
        (!first.recorded.is_finite()).then(|| {
            "losses after it are finite, so training did not diverge there: correct losses.npy, or leave that round out of \
             weights, batches and losses alike"
                .to_owned()
        })
    }

    /// Losses with few decimals, as logs have them.
    fn rounded(&self) -> Option<String> {
        let is_whole = |value: f64| (value - value.round()).abs() <= 1e-6 * value.abs().max(1.0);
        let digits = (1..=5).find(|digits| {
            let scale = 10f64.powi(*digits);
            self.pairs.iter().all(|pair| is_whole(pair.recorded * scale))
        })?;
        let half = 0.5 * 10f64.powi(-digits);
        let explains = |pair: &Pair| (pair.recorded - pair.recomputed).abs() <= 1.0001 * half + pair.rounding;
        self.pairs.iter().all(explains).then(|| {
            let worst = self.pairs.iter().map(Pair::excess).fold(0.0, f64::max);
            format!(
                "the recorded losses are rounded to {digits} decimals: record loss.item() in full, or allow the difference \
                 with --loss-tolerance {}",
                nearest(2.0 * worst, 1)
            )
        })
    }

    /// Losses that were averaged over rounds: over all so far, or with weights that fade.
    fn running_mean(&self) -> Option<String> {
        let advice = "record the loss of each round alone";
        let mut sum = 0.0;
        let mean = self.pairs.iter().enumerate().all(|(n, pair)| {
            sum += pair.recomputed;
            pair.excess_of(sum / (n + 1) as f64) <= self.tolerance
        });
        if mean {
            return Some(format!("the recorded losses are means over all rounds so far: {advice}"));
        }
        // recorded = beta * the one before + (1 - beta) * recomputed
        let steps = self.pairs.windows(2).map(|two| (two[0].recorded, two[1]));
        let (above, below) = steps.clone().fold((0.0, 0.0), |(above, below), (before, pair)| {
            let x = before - pair.recomputed;
            (above + (pair.recorded - pair.recomputed) * x, below + x * x)
        });
        let beta = above / below;
        let fades = (0.05..1.0).contains(&beta)
            && self.pairs.len() > 3
            && steps
                .clone()
                .all(|(before, pair)| pair.excess_of(beta * before + (1.0 - beta) * pair.recomputed) <= self.tolerance);
        fades.then(|| {
            format!("the recorded losses are a running mean with weight {beta:.3} of the one before: {advice}")
        })
    }

    /// Most rounds agree, and closely: it is not the network.
    fn some_rounds(&self) -> Option<String> {
        let agreeing = self.pairs.iter().map(Pair::excess).filter(|excess| *excess <= self.tolerance);
        if 2 * self.wrong.len() > self.pairs.len() || agreeing.fold(0.0, f64::max) > CLOSELY {
            return None;
        }
        let padded = self.wrong.iter().all(|index| ends_with_repeats(self.trace.batch(*index)));
        let differ = format!("{} of {} rounds differ ({})", self.wrong.len(), self.pairs.len(), rounds(self.wrong));
        Some(if padded {
            format!(
                "{differ}, whose rows end with the same one again and again: short minibatches that were filled up? All have \
                 one size in a trace: leave those rounds out of weights, batches and losses alike"
            )
        } else {
            format!(
                "{differ}, the others agree: their rows in batches.npy, weights or losses are those of another round, or damaged"
            )
        })
    }

    /// All recorded losses are the same multiple of the recomputed ones: another mean.
    fn constant_factor(&self) -> Option<String> {
        let telling = self.pairs.iter().filter(|pair| pair.rounding < 1e-3 * pair.recomputed);
        let mut factors: Vec<f64> = telling.map(|pair| pair.recorded / pair.recomputed).collect();
        if 2 * factors.len() < self.pairs.len() || factors.is_empty() {
            return None;
        }
        factors.sort_by(f64::total_cmp);
        let factor = factors[factors.len() / 2];
        let spread = |at: f64| (at / factor - 1.0).abs() <= 2.0 * self.tolerance;
        // So near to 1 it is rounding, not a convention.
        let is_one = (factor - 1.0).abs() <= 10.0 * self.tolerance;
        if !factor.is_finite() || factor <= 0.0 || is_one || !factors.iter().all(|at| spread(*at)) {
            return None;
        }
        let (batch, outputs) = (self.trace.manifest.batch_size as f64, self.network.outputs() as f64);
        let is = |value: f64| (factor / value - 1.0).abs() <= 2.0 * self.tolerance;
        let quadratic = self.trace.manifest.loss.is_quadratic();
        let scaler = 2f64.powf(factor.log2().round());
        let steps = (2..=64).map(f64::from).find(|steps| is(1.0 / steps));
        let (value, meaning) = match () {
            () if quadratic && is(batch * outputs) => {
                (batch * outputs, "the sum over minibatch and outputs".to_owned())
            }
            () if quadratic && is(outputs) => {
                (outputs, "the sum over the outputs, and the mean over the minibatch".to_owned())
            }
            () if quadratic && is(outputs / 2.0) => {
                (outputs / 2.0, "half the sum over the outputs, and the mean over the minibatch".to_owned())
            }
            () if is(batch) => (batch, "the sum over the minibatch".to_owned()),
            () if quadratic && is(0.5) => (0.5, "half the mean, or divided by 2 accumulation steps".to_owned()),
            () if is(1.0 / 2f64.ln()) => (1.0 / 2f64.ln(), "in bits instead of nats".to_owned()),
            () if factor >= 128.0 && is(scaler) => (scaler, "multiplied by a loss scaler (AMP)".to_owned()),
            () => match steps {
                Some(steps) => (1.0 / steps, format!("divided by {steps} accumulation steps")),
                None => (factor, "another mean, or weighted".to_owned()),
            },
        };
        let value = format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned();
        Some(format!(
            "recorded / recomputed is {value} in all rounds: the recorded loss is {meaning}. A trace records the mean over outputs \
             and datapoints: divide losses.npy by {value}. Where gradients were of that other loss, learning rates are, too"
        ))
    }

    /// A mistake that explains the recorded losses.
    fn guessed(&self) -> Option<String> {
        let groups = [Self::other_rounds(), Self::other_losses(), Self::other_data(), Self::other_layers()];
        let guesses: Vec<Guess<T>> = groups.into_iter().flatten().collect();
        let sample = &self.sample;
        let explains = |(_, loss): &&Guess<T>| {
            let checked: Vec<bool> = sample
                .iter()
                .filter_map(|index| Some(self.pairs[*index].excess_of(loss(self, *index)?) <= self.tolerance))
                .collect();
            // A guess about neighbours has nothing to say of the first or last round.
            2 * checked.len() > sample.len() && checked.iter().all(|agrees| *agrees)
        };
        guesses.iter().find(explains).map(|(text, _)| format!("that explains the recorded losses: {text}"))
    }

    /// Weights, rows or losses of the rounds before or behind.
    fn other_rounds<'a>() -> Vec<Guess<'a, T>> {
        vec![
            (
                "the weights of each round are those after its update: save W^n before the optimizer's step",
                Box::new(|c, n| c.loss_at(n.checked_sub(1)?, n)),
            ),
            (
                "the losses are those after each round's update: record them before the optimizer's step",
                Box::new(|c, n| c.loss_at(n + 1, n)),
            ),
            (
                "batches.npy is one round late: its row n holds the rows of round n - 1",
                Box::new(|c, n| c.loss_at(n, n + 1)),
            ),
            (
                "batches.npy is one round early: its row n holds the rows of round n + 1",
                Box::new(|c, n| c.loss_at(n, n.checked_sub(1)?)),
            ),
            (
                "losses.npy is one round late: its entry n is the loss of round n - 1",
                Box::new(|c, n| c.loss_at(n.checked_sub(1)?, n.checked_sub(1)?)),
            ),
            (
                "losses.npy is one round early: its entry n is the loss of round n + 1",
                Box::new(|c, n| c.loss_at(n + 1, n + 1)),
            ),
        ]
    }

    /// Losses by another formula.
    fn other_losses<'a>() -> Vec<Guess<'a, T>> {
        vec![
            (
                "the root of the mean squared error was recorded: record the mean squared error",
                Box::new(|c, n| c.trace.manifest.loss.is_quadratic().then(|| c.pairs[n].recomputed.sqrt())),
            ),
            (
                "the mean absolute error was recorded, another loss than \"mse\": a trace has mse or cross_entropy",
                Box::new(|c, n| c.absolute_error(n)),
            ),
        ]
    }

    /// Inputs, targets or matrices in other units or another order.
    fn other_data<'a>() -> Vec<Guess<'a, T>> {
        vec![
            (
                "training saw the inputs divided by 255: save them so, not as bytes",
                Box::new(|c, n| c.scaled(n, 1.0 / 255.0, 0.0)),
            ),
            ("training saw the inputs multiplied by 255: save them so", Box::new(|c, n| c.scaled(n, 255.0, 0.0))),
            ("training saw the inputs in [-1, 1], 2 x - 1: save them so", Box::new(|c, n| c.scaled(n, 2.0, -1.0))),
            (
                "training saw bytes as x / 127.5 - 1: save the inputs so",
                Box::new(|c, n| c.scaled(n, 1.0 / 127.5, -1.0)),
            ),
            (
                "square matrices are transposed, as JAX and Keras keep kernels: save numpy.swapaxes(w, -1, -2)",
                Box::new(|c, n| c.transposed(n)),
            ),
            ("the inputs have their channels last: save numpy.moveaxis(x, -1, 1)", Box::new(|c, n| c.channels_last(n))),
            ("labels are one too high: subtract 1", Box::new(|c, n| c.shifted_labels(n, -1))),
            ("labels are one too low: add 1", Box::new(|c, n| c.shifted_labels(n, 1))),
        ]
    }

    /// Layers that are not in the list.
    fn other_layers<'a>() -> Vec<Guess<'a, T>> {
        vec![
            (
                "a softmax stands before the loss, which has one of its own: such a network cannot be analysed; train without it",
                Box::new(|c, n| c.after(n, Loss::CrossEntropy, softmax)),
            ),
            (
                "a sigmoid stands behind the last layer, a layer that is not in the list and cannot be analysed",
                Box::new(|c, n| c.after(n, Loss::Mse, |f| map(f, |v| 1.0 / (1.0 + (-v).exp())))),
            ),
            (
                "a tanh stands behind the last layer, a layer that is not in the list and cannot be analysed",
                Box::new(|c, n| c.after(n, Loss::Mse, |f| map(f, f64::tanh))),
            ),
            (
                "a ReLU stands behind the last layer, where the list cannot have one",
                Box::new(|c, n| c.after(n, Loss::Mse, |f| map(f, |v| v.max(0.0)))),
            ),
            (
                "the outputs are added to the inputs: a skip connection, a layer that is not in the list and cannot be analysed",
                Box::new(|c, n| c.residual(n)),
            ),
            (
                "the targets were broadcast: outputs [rows, 1] against targets [rows] make [rows, rows] errors, so training did not do what it should; give the targets the outputs' shape",
                Box::new(|c, n| c.broadcast(n)),
            ),
        ]
    }

    /// The recorded losses are larger by a multiple of the weights' squares.
    fn penalty(&self) -> Option<String> {
        let squares = |index: usize, biases: bool| -> Option<f64> {
            let state = self.state(index)?;
            let of = |block: &Block| -> f64 {
                let rows = state[block.range()].chunks_exact(block.width());
                rows.flat_map(|row| &row[..if biases { block.width() } else { block.inputs }])
                    .map(|w| w.to_f64() * w.to_f64())
                    .sum()
            };
            Some(self.network.blocks().iter().map(of).sum())
        };
        [true, false].into_iter().find_map(|biases| {
            let lambda = self.coefficient(|index| squares(index, biases))?;
            (lambda > 0.0).then(|| {
                format!(
                    "the recorded losses are larger by {lambda:.3e} times the squares of the weights: a penalty in the loss, which a \
                     trace cannot have. Record the loss without it; regret is then that of the loss alone, which training did not \
                     minimize"
                )
            })
        })
    }

    /// Cross-entropy with smoothed labels: a share of it is the mean over all classes.
    fn smoothing(&self) -> Option<String> {
        if self.trace.manifest.loss != Loss::CrossEntropy {
            return None;
        }
        let extra = |index: usize| {
            let outputs = self.outputs(self.state(index)?, &self.inputs(index));
            let classes = self.network.outputs() as u32;
            let rows = outputs.len() / classes as usize;
            let mean = (0..classes).map(|class| {
                mean_loss(Loss::CrossEntropy, &outputs, classes as usize, &Wanted::Labels(vec![class; rows]))
            });
            Some(mean.sum::<f64>() / f64::from(classes) - self.pairs[index].recomputed)
        };
        let share = self.coefficient(extra)?;
        (0.0..1.0).contains(&share).then(|| {
            format!(
                "the recorded losses are those of labels smoothed by {share:.3}, which a trace cannot have: record the loss without \
                 smoothing; regret is then that of the loss alone, which training did not minimize"
            )
        })
    }

    /// `c` with `recorded = recomputed + c * of(round)` in all rounds of the sample.
    fn coefficient(&self, of: impl Fn(usize) -> Option<f64>) -> Option<f64> {
        let sample = &self.sample;
        let pairs: Vec<(Pair, f64)> =
            sample.iter().filter_map(|index| Some((self.pairs[*index], of(*index)?))).collect();
        if pairs.len() < 3 {
            return None;
        }
        let (above, below) = pairs.iter().fold((0.0, 0.0), |(above, below), (pair, x)| {
            (above + (pair.recorded - pair.recomputed) * x, below + x * x)
        });
        let c = above / below;
        (c.is_finite() && pairs.iter().all(|(pair, x)| pair.excess_of(pair.recomputed + c * x) <= self.tolerance))
            .then_some(c)
    }

    /// Small differences in both directions.
    fn half_precision(&self) -> Option<String> {
        let relative: Vec<f64> =
            self.pairs.iter().map(|pair| pair.recorded / pair.recomputed.max(f64::MIN_POSITIVE) - 1.0).collect();
        let worst = self.pairs.iter().map(Pair::excess).fold(0.0, f64::max);
        let squares = relative.iter().map(|r| r * r).sum::<f64>() / relative.len() as f64;
        let mean = relative.iter().sum::<f64>() / relative.len() as f64;
        let [most, typical] = HALF;
        (worst <= most && squares.sqrt() <= typical && mean.abs() <= 0.5 * squares.sqrt()).then(|| {
            let agreement = format!("the losses agree to {worst:.0e} of the loss at worst, off in both directions");
            let allow = format!("allow that with --loss-tolerance {}", nearest(2.0 * worst, 1));
            if squares.sqrt() <= SMALL_PART * self.variation() {
                return format!("{agreement}: were they computed in half precision or TF32? If so, {allow}");
            }
            format!(
                "{agreement}, which is much compared with how they differ from round to round. Likely causes: dropout, noise or \
                 augmentation, another activation than those of the list, inputs or rows in another order; or half \
                 precision. Compute a few losses in float32 where you trained: only if those agree, {allow}"
            )
        })
    }

    /// How much the loss differs from one round to the next, relative to it: the root of the mean square.
    fn variation(&self) -> f64 {
        let steps = self.pairs.windows(2).map(|two| two[1].recomputed / two[0].recomputed.max(f64::MIN_POSITIVE) - 1.0);
        let squares: f64 = steps.map(|step| step * step).sum();
        (squares / (2 * self.pairs.len().saturating_sub(1).max(1)) as f64).sqrt()
    }

    fn unknown(&self) -> String {
        let factors = self.wrong.iter().map(|index| self.pairs[*index].recorded / self.pairs[*index].recomputed);
        let (least, most) = factors.fold((f64::INFINITY, 0.0f64), |(a, b), factor| (a.min(factor), b.max(factor)));
        format!(
            "{} of {} rounds differ, recorded / recomputed from {least:.3} to {most:.3}. Likely causes: a layer that is not in the list \
             (dropout, normalization, a skip connection, another rectifier), augmented or otherwise scaled data, W^n saved after its \
             update, rows of batches.npy that are not those of the round, or a loss that is not the mean over outputs and datapoints",
            self.wrong.len(),
            self.pairs.len()
        )
    }

    // What guesses are made of. Rounds count from 0.

    /// A state that guesses are computed with.
    fn state(&self, index: usize) -> Option<&[T]> {
        self.states.get(&index).map(Vec::as_slice)
    }

    fn inputs(&self, round: usize) -> Vec<T> {
        let features = self.network.inputs();
        let rows = self.trace.batch(round).iter();
        rows.flat_map(|row| self.trace.inputs[*row as usize * features..][..features].iter().copied()).collect()
    }

    fn wanted(&self, round: usize, inputs: &[T]) -> Wanted {
        let (rows, outputs) = (self.trace.batch(round), self.network.outputs());
        match &self.trace.targets {
            TraceTargets::Inputs => Wanted::Values(inputs.iter().map(|v| v.to_f64()).collect()),
            TraceTargets::Values(values) => Wanted::Values(
                rows.iter().flat_map(|row| &values[*row as usize * outputs..][..outputs]).map(|v| v.to_f64()).collect(),
            ),
            TraceTargets::Labels(labels) => Wanted::Labels(rows.iter().map(|row| labels[*row as usize]).collect()),
        }
    }

    fn outputs(&self, weights: &[T], inputs: &[T]) -> Vec<f64> {
        let tape = Tape::record(self.network, weights, inputs, inputs.len() / self.network.inputs());
        tape.output.iter().map(|f| f.to_f64()).collect()
    }

    fn mean(&self, outputs: &[f64], wanted: &Wanted) -> f64 {
        mean_loss(self.trace.manifest.loss, outputs, self.network.outputs(), wanted)
    }

    /// The loss with the weights of one round and the minibatch of another.
    fn loss_at(&self, weights: usize, batch: usize) -> Option<f64> {
        let weights = self.state(weights)?;
        if batch >= self.trace.manifest.rounds {
            return None;
        }
        let inputs = self.inputs(batch);
        Some(self.mean(&self.outputs(weights, &inputs), &self.wanted(batch, &inputs)))
    }

    /// The loss with other inputs; targets that are the inputs change with them.
    fn with_inputs(&self, round: usize, inputs: &[T]) -> Option<f64> {
        Some(self.mean(&self.outputs(self.state(round)?, inputs), &self.wanted(round, inputs)))
    }

    fn scaled(&self, round: usize, factor: f64, shift: f64) -> Option<f64> {
        let inputs: Vec<T> = self.inputs(round).iter().map(|v| T::from_f64(factor * v.to_f64() + shift)).collect();
        self.with_inputs(round, &inputs)
    }

    fn channels_last(&self, round: usize) -> Option<f64> {
        let Shape::Image(image) = self.network.input() else { return None };
        let positions = image.height * image.width;
        let stored = self.inputs(round);
        let mut inputs = Vec::with_capacity(stored.len());
        for x in stored.chunks_exact(image.len()) {
            let channels = 0..image.channels;
            inputs.extend(channels.flat_map(|c| (0..positions).map(move |p| x[p * image.channels + c])));
        }
        self.with_inputs(round, &inputs).filter(|_| image.channels > 1)
    }

    fn transposed(&self, round: usize) -> Option<f64> {
        let mut weights = self.state(round)?.to_vec();
        let square = |block: &&Block| block.images().is_none() && block.units == block.inputs;
        for block in self.network.blocks().iter().filter(square) {
            let (own, width) = (block.range(), block.width());
            for (i, j) in (0..block.units).flat_map(|i| (0..i).map(move |j| (i, j))) {
                weights[own.clone()].swap(i * width + j, j * width + i);
            }
        }
        self.network.blocks().iter().any(|block| square(&block)).then(|| {
            let inputs = self.inputs(round);
            self.mean(&self.outputs(&weights, &inputs), &self.wanted(round, &inputs))
        })
    }

    fn shifted_labels(&self, round: usize, by: i64) -> Option<f64> {
        let inputs = self.inputs(round);
        let Wanted::Labels(labels) = self.wanted(round, &inputs) else { return None };
        let shifted = labels.iter().map(|label| u32::try_from(i64::from(*label) + by).ok());
        let labels = shifted.collect::<Option<Vec<u32>>>()?;
        let inside = labels.iter().all(|label| (*label as usize) < self.network.outputs());
        let state = self.state(round).filter(|_| inside)?;
        Some(self.mean(&self.outputs(state, &inputs), &Wanted::Labels(labels)))
    }

    /// The loss with something behind the last layer, `[rows, outputs]` in place.
    fn after(&self, round: usize, loss: Loss, change: impl Fn(&mut [f64])) -> Option<f64> {
        if self.trace.manifest.loss != loss {
            return None;
        }
        let inputs = self.inputs(round);
        let mut outputs = self.outputs(self.state(round)?, &inputs);
        outputs.chunks_exact_mut(self.network.outputs()).for_each(change);
        Some(self.mean(&outputs, &self.wanted(round, &inputs)))
    }

    fn absolute_error(&self, round: usize) -> Option<f64> {
        let inputs = self.inputs(round);
        let Wanted::Values(values) = self.wanted(round, &inputs) else { return None };
        let outputs = self.outputs(self.state(round)?, &inputs);
        let errors: f64 = outputs.iter().zip(&values).map(|(f, y)| (f - y).abs()).sum();
        Some(errors / outputs.len() as f64)
    }

    fn residual(&self, round: usize) -> Option<f64> {
        if self.network.inputs() != self.network.outputs() {
            return None;
        }
        let inputs = self.inputs(round);
        let mut outputs = self.outputs(self.state(round)?, &inputs);
        outputs.iter_mut().zip(&inputs).for_each(|(f, x)| *f += x.to_f64());
        Some(self.mean(&outputs, &self.wanted(round, &inputs)))
    }

    fn broadcast(&self, round: usize) -> Option<f64> {
        let inputs = self.inputs(round);
        let Wanted::Values(values) = self.wanted(round, &inputs) else { return None };
        if self.network.outputs() != 1 || self.trace.manifest.target == TargetKind::Input {
            return None;
        }
        let outputs = self.outputs(self.state(round)?, &inputs);
        let errors = outputs.iter().flat_map(|f| values.iter().map(move |y| (f - y) * (f - y)));
        Some(errors.sum::<f64>() / (outputs.len() * values.len()) as f64)
    }
}

/// Whether a minibatch ends with the same row at least twice, and has others.
fn ends_with_repeats(rows: &[u32]) -> bool {
    let last = rows.last();
    rows.iter().rev().take_while(|row| Some(*row) == last).count() > 1 && rows.first() != last
}

fn mean_loss(loss: Loss, outputs: &[f64], width: usize, wanted: &Wanted) -> f64 {
    let targets = match wanted {
        Wanted::Values(values) => Targets::Values(&values[..]),
        Wanted::Labels(labels) => Targets::Labels(&labels[..]),
    };
    loss.value_gradient(outputs, width, targets, 1.0, &mut Vec::new()) / (outputs.len() / width) as f64
}

fn map(values: &mut [f64], to: impl Fn(f64) -> f64) {
    values.iter_mut().for_each(|v| *v = to(*v));
}

fn softmax(f: &mut [f64]) {
    let most = f.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    map(f, |v| (v - most).exp());
    let sum: f64 = f.iter().sum();
    map(f, |v| v / sum);
}
