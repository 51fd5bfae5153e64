//! How kinks grow with a network, and how gradients lose their memory along a segment: constructed and random networks.

use super::{
    LandscapeError, Quantity,
    rows::{AutocorrelationRow, FunctionRow, GrowthRow, Origin, columns},
};
use crate::{
    landscape::{Autocorrelation, Ended, Limits, Path as LandscapePath, Propagation, Segment, kink::KINK_BYTES, tent},
    network::{LayerSpec, Network, Rectifier, he_uniform},
    study::{error::StudyError, statistics::mean, tables::write_rows},
    train::Examples,
};
use rayon::prelude::*;
use std::{path::Path, sync::atomic::AtomicBool};

/// Which networks to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct GrowthSettings {
    /// Depths of the tent networks.
    pub tents: usize,
    /// Depths and widths of the random networks.
    pub depths: Vec<usize>,
    pub widths: Vec<usize>,
    /// Random networks of each shape, each with a segment of its own.
    pub samples: usize,
    /// The shapes, depth and width, whose function is shown.
    pub shown: Vec<(usize, usize)>,
    /// The width whose autocorrelations are taken.
    pub autocorrelation_width: usize,
    pub seed: u64,
}

impl GrowthSettings {
    pub fn new(samples: usize, seed: u64) -> Self {
        Self {
            tents: 12,
            depths: vec![1, 2, 4, 8, 16, 32],
            widths: vec![16, 64],
            samples,
            shown: vec![(1, 64), (4, 64), (32, 64)],
            autocorrelation_width: 64,
            seed,
        }
    }
}

/// Outputs of the random networks.
const OUTPUTS: usize = 10;
/// Lags of the autocorrelation.
const LAGS: usize = 50;

/// A random ReLU network, He-uniform with zero biases.
fn random_network(inputs: usize, depth: usize, width: usize) -> Network {
    let mut layers = Vec::new();
    for _ in 0..depth {
        layers.extend([LayerSpec::dense(width), LayerSpec::Rectifier(Rectifier::Relu)]);
    }
    layers.push(LayerSpec::dense(OUTPUTS));
    Network::new(inputs, &layers).expect("the layers fit")
}

/// The segment from one row of the data to another, for the random network of a sample.
fn with_sample<T>(
    data: &Examples<f64>,
    (depth, width): (usize, usize),
    seed: u64,
    sample: usize,
    limits: &Limits,
    use_it: impl FnOnce(&Propagation, &Segment) -> Result<T, Ended>,
) -> Result<T, Ended> {
    let network = random_network(data.features, depth, width);
    let weights = he_uniform::<f64>(&network, seed + sample as u64);
    let row = |i: usize| &data.inputs[i % data.len() * data.features..][..data.features];
    let (input, other) = (row(2 * sample), row(2 * sample + 1));
    let step: Vec<f64> = other.iter().zip(input).map(|(b, a)| b - a).collect();
    let segment = Segment { input, step: Some(&step), from: 0.0, to: 1.0 };
    use_it(&Propagation::new(&network, &weights, None).within(limits), &segment)
}

/// What was found, to be written to a folder.
#[derive(Clone, Debug, Default)]
pub struct Growth {
    growth: Vec<GrowthRow>,
    autocorrelations: Vec<AutocorrelationRow>,
    functions: Vec<FunctionRow>,
}

impl Growth {
    /// Writes `growth.csv`, `autocorrelation.csv` and `functions.csv`.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&self, out: &Path) -> Result<(), LandscapeError> {
        write_rows(&out.join("growth.csv"), columns::GROWTH, &self.growth).map_err(StudyError::from)?;
        write_rows(&out.join("autocorrelation.csv"), columns::AUTOCORRELATION, &self.autocorrelations)
            .map_err(StudyError::from)?;
        write_rows(&out.join("functions.csv"), columns::FUNCTIONS, &self.functions).map_err(StudyError::from)?;
        Ok(())
    }
}

const KINKS: Quantity = Quantity { what: "the kinks of random networks", remedy: "end other programs" };

/// Counts kinks and takes autocorrelations between rows of the data.
///
/// # Errors
/// If told to stop, or what is found takes more than `memory` bytes.
pub fn find(
    settings: &GrowthSettings,
    data: &Examples<f64>,
    memory: usize,
    stop: &AtomicBool,
    events: &mut dyn FnMut(&str),
) -> Result<Growth, LandscapeError> {
    find_within(settings, data, &Limits::new(stop, memory), events).map_err(|why| KINKS.ended(why))
}

fn find_within(
    settings: &GrowthSettings,
    data: &Examples<f64>,
    limits: &Limits,
    events: &mut dyn FnMut(&str),
) -> Result<Growth, Ended> {
    let mut found = Growth::default();
    events("tent networks");
    for depth in 1..=settings.tents {
        found.add_tent(depth, limits)?;
    }
    for &width in &settings.widths {
        for &depth in &settings.depths {
            events(&format!("random networks of depth {depth}, width {width}"));
            found.add_random(settings, data, (depth, width), limits)?;
        }
    }
    for &shape in &settings.shown {
        let path =
            with_sample(data, shape, settings.seed, 0, limits, |propagation, segment| propagation.try_path(segment))?;
        found.functions.extend(function_rows(Origin::Random, shape, &path, 0));
    }
    Ok(found)
}

impl Growth {
    fn add_tent(&mut self, depth: usize, limits: &Limits) -> Result<(), Ended> {
        let (network, weights) = tent(depth);
        let segment = Segment { input: &[0.0], step: Some(&[1.0]), from: 0.0, to: 1.0 };
        let path = Propagation::new(&network, &weights, None).within(limits).try_path(&segment)?;
        limits.give_back(path.bytes());
        self.growth.push(growth_row(Origin::Tent, depth, 2, &[path.kinks.len()]));
        if depth == TENT_SHOWN {
            self.functions.extend(function_rows(Origin::Tent, (depth, 2), &path, 0));
        }
        Ok(())
    }

    /// Adds the random networks of one shape, and their autocorrelations if they are taken at this width.
    fn add_random(
        &mut self,
        settings: &GrowthSettings,
        data: &Examples<f64>,
        (depth, width): (usize, usize),
        limits: &Limits,
    ) -> Result<(), Ended> {
        let correlated = width == settings.autocorrelation_width;
        let samples: Result<Vec<Sample>, Ended> = (0..settings.samples)
            .into_par_iter()
            .map(|sample| {
                with_sample(data, (depth, width), settings.seed, sample, limits, |propagation, segment| {
                    measure(propagation, segment, correlated, limits)
                })
            })
            .collect();
        let samples = samples?;
        let counts: Vec<usize> = samples.iter().map(|sample| sample.kinks).collect();
        self.growth.push(growth_row(Origin::Random, depth, width, &counts));
        if correlated {
            let all: Vec<&Autocorrelation> = samples.iter().filter_map(|one| one.autocorrelation.as_ref()).collect();
            self.autocorrelations.extend(autocorrelation_rows((depth, width), &all));
        }
        Ok(())
    }
}

/// What one random network shows along its segment.
struct Sample {
    kinks: usize,
    autocorrelation: Option<Autocorrelation>,
}

fn measure(propagation: &Propagation, segment: &Segment, correlated: bool, limits: &Limits) -> Result<Sample, Ended> {
    if !correlated {
        let kinks = propagation.try_kinks_of(std::slice::from_ref(segment))?[0].len();
        limits.give_back(kinks * KINK_BYTES);
        return Ok(Sample { kinks, autocorrelation: None });
    }
    let path = propagation.try_path(segment)?;
    let mut sums = Autocorrelation::new(lags());
    sums.add(&path);
    limits.give_back(path.bytes());
    Ok(Sample { kinks: path.kinks.len(), autocorrelation: Some(sums) })
}

/// The autocorrelations of all samples of a shape, with standard errors by the jackknife.
fn autocorrelation_rows((depth, width): (usize, usize), all: &[&Autocorrelation]) -> Vec<AutocorrelationRow> {
    let merged = |left_out: Option<usize>| {
        let mut sums = Autocorrelation::new(lags());
        all.iter().enumerate().filter(|(i, _)| Some(*i) != left_out).for_each(|(_, one)| sums.merge(one));
        sums.values()
    };
    let without: Vec<Vec<(f64, f64)>> = (0..all.len()).map(|i| merged(Some(i))).collect();
    let row = |(at, (lag, autocorrelation)): (usize, (f64, f64))| AutocorrelationRow {
        depth,
        width,
        lag,
        autocorrelation,
        standard_error: jackknife(without.iter().map(|values| values[at].1)),
    };
    merged(None).into_iter().enumerate().map(row).collect()
}

/// The standard error of an estimate, from those that leave one sample out each: `sqrt((n - 1) / n sum (x_i - mean)^2)`
/// (Tukey 1958). It holds for ratios of sums, too.
fn jackknife(without: impl ExactSizeIterator<Item = f64> + Clone) -> Option<f64> {
    let count = without.len() as f64;
    let middle = mean(without.clone())?;
    let squares: f64 = without.map(|value| (value - middle).powi(2)).sum();
    (count > 1.0).then(|| ((count - 1.0) / count * squares).sqrt())
}

/// The tent network whose function is shown.
const TENT_SHOWN: usize = 4;

fn lags() -> Vec<f64> {
    (0..LAGS).map(|i| 0.5 * i as f64 / (LAGS - 1) as f64).collect()
}

fn growth_row(network: Origin, depth: usize, width: usize, counts: &[usize]) -> GrowthRow {
    let mean_kinks = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
    let squares: f64 = counts.iter().map(|count| (*count as f64 - mean_kinks).powi(2)).sum();
    GrowthRow {
        network,
        depth,
        width,
        units: depth * width,
        samples: counts.len(),
        mean_kinks,
        least_kinks: counts.iter().copied().min().unwrap_or_default(),
        most_kinks: counts.iter().copied().max().unwrap_or_default(),
        deviation: (counts.len() > 1).then(|| (squares / (counts.len() - 1) as f64).sqrt()),
    }
}

fn function_rows(
    network: Origin,
    (depth, width): (usize, usize),
    path: &LandscapePath,
    output: usize,
) -> Vec<FunctionRow> {
    let bounds = path.outputs().bounds();
    bounds
        .windows(2)
        .enumerate()
        .map(|(p, ends)| {
            let (value, slope) = path.on(p, ends[0]);
            FunctionRow {
                network,
                depth,
                width,
                from: ends[0],
                to: ends[1],
                value: value[output],
                value_end: path.on(p, ends[1]).0[output],
                slope: slope[output],
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::jackknife;

    #[test]
    fn the_jackknife_of_a_mean_is_its_standard_error() {
        let values = [1.0, 4.0, 2.0, 7.0];
        let without = (0..4).map(|i| (14.0 - values[i]) / 3.0);
        // Variance 7, of the mean 7 / 4.
        assert!((jackknife(without).unwrap() - (7.0_f64 / 4.0).sqrt()).abs() < 1e-12);
        assert_eq!(jackknife([1.0].into_iter()), None);
    }
}
