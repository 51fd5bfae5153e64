//! Standardizing images: each channel with mean 0 and standard deviation 1 over the training set.

use serde::{Deserialize, Serialize};

use super::Dataset;

/// What was subtracted from each channel, and what it was then divided by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standardization {
    /// `[channels]`, the mean over the training set.
    pub mean: Vec<f64>,
    /// `[channels]`, the standard deviation over the training set (of the population); 1 for a constant channel.
    pub std: Vec<f64>,
}

impl Dataset {
    /// Standardizes both splits by the mean and the standard deviation of each channel of the *training* inputs, and
    /// keeps both in [`Dataset::standardization`]. A dataset that is standardized already stays as it is.
    pub fn standardize(&mut self) {
        if self.standardization.is_some() {
            return;
        }
        let [channels, height, width] = self.image;
        let size = height * width;
        // Sums of the values themselves keep all digits that matter: inputs are of order one, and sums are in f64.
        let (mut sum, mut squares) = (vec![0.0; channels], vec![0.0; channels]);
        for (at, plane) in self.train.inputs.chunks_exact(size).enumerate() {
            let channel = at % channels;
            sum[channel] += plane.iter().map(|&x| f64::from(x)).sum::<f64>();
            squares[channel] += plane.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
        }
        let count = (self.train.len() * size) as f64;
        let mean: Vec<f64> = sum.iter().map(|sum| sum / count).collect();
        let std = mean.iter().zip(&squares).map(|(mean, squares)| spread(*mean, squares / count)).collect();
        let standardization = Standardization { mean, std };
        for split in [&mut self.train, &mut self.test] {
            for (at, plane) in split.inputs.chunks_exact_mut(size).enumerate() {
                let (mean, std) = (standardization.mean[at % channels], standardization.std[at % channels]);
                plane.iter_mut().for_each(|x| *x = ((f64::from(*x) - mean) / std) as f32);
            }
        }
        self.standardization = Some(standardization);
    }
}

/// The standard deviation from mean and mean square; 1 where it is zero up to rounding.
fn spread(mean: f64, mean_square: f64) -> f64 {
    let variance = mean_square - mean * mean;
    if variance > 1e-12 * mean_square { variance.sqrt() } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::super::Split;
    use super::*;

    /// Two channels of 1x2 pixels: the first varies, the second is constant.
    fn dataset() -> Dataset {
        let train = vec![0.0, 0.25, 0.3, 0.3, 0.5, 0.75, 0.3, 0.3];
        Dataset {
            name: "tiny".into(),
            shape: vec![4],
            image: [2, 1, 2],
            classes: 1,
            class_names: vec!["all".into()],
            standardization: None,
            notes: Vec::new(),
            train: Split::new(train, 4, vec![0, 0], 1).unwrap(),
            test: Split::new(vec![1.0, 0.0, 0.3, 0.8], 4, vec![0], 1).unwrap(),
        }
    }

    #[test]
    fn channels_of_the_training_set_get_mean_zero_and_deviation_one() {
        let mut set = dataset();
        set.standardize();
        // Of 0, 1/4, 1/2, 3/4: mean 3/8, variance 5/64.
        let std = (5.0_f64 / 64.0).sqrt();
        let found = set.standardization.clone().unwrap();
        assert!((found.mean[0] - 0.375).abs() < 1e-15 && (found.std[0] - std).abs() < 1e-15);
        assert!((found.mean[1] - f64::from(0.3_f32)).abs() < 1e-15);
        assert_eq!(found.std[1], 1.0, "a constant channel is only centred");
        let close = |a: f32, b: f64| assert!((f64::from(a) - b).abs() < 1e-6, "{a} {b}");
        close(set.train.row(0)[0], -0.375 / std);
        close(set.train.row(1)[2], 0.0);
        close(set.test.row(0)[0], 0.625 / std);
        close(set.test.row(0)[3], 0.8 - 0.3);
    }

    #[test]
    fn standardizing_twice_changes_nothing() {
        let mut once = dataset();
        once.standardize();
        let mut twice = once.clone();
        twice.standardize();
        assert_eq!(once, twice);
    }
}
