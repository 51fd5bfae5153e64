//! What both sides begin with: the data, the initial weights and the order of the datapoints.

use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use taylorscope::{
    data::{self, Minibatches},
    network::{LayerSpec, Network, Shape, he_uniform, write_weights},
    study::experiment,
    trace::write::write_npy,
    train::Examples,
};

/// Rows of a minibatch of the autoencoder, and of the convolutional network.
pub const BATCH: usize = 64;
pub const CONVOLUTION_BATCH: usize = 128;
/// Images that the steps of the convolutional network draw from.
const IMAGES: usize = 4 * CONVOLUTION_BATCH;
const CLASSES: u32 = 10;

/// Writes the inputs of all comparisons; `data` is a folder with MNIST, else the download cache is looked
/// into.
pub fn write(folder: &Path, data: Option<&Path>) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let dataset = data::load("mnist", data).context("the comparisons train on MNIST")?;
    let split = &dataset.train;
    let pixels: Vec<u8> = split.inputs.iter().map(|v| (v * 255.0).round() as u8).collect();
    write_npy(&folder.join("pixels.npy"), &[split.len() as u64, split.features() as u64], &pixels)?;
    let order = Minibatches::new(split.len(), BATCH, 0)?.epoch(0);
    write_npy(&folder.join("order.npy"), &[order.len() as u64], &order)?;
    let network = autoencoder()?;
    write_weights(&network, &he_uniform::<f32>(&network, 0), &folder.join("autoencoder.safetensors"))?;

    let network = convnet()?;
    write_weights(&network, &he_uniform::<f32>(&network, 0), &folder.join("convnet.safetensors"))?;
    let images = Images::random(&network);
    write_npy(&folder.join("images.npy"), &[IMAGES as u64, 3, 32, 32], &images.inputs)?;
    write_npy(&folder.join("labels.npy"), &[IMAGES as u64], &images.labels)?;
    Ok(())
}

/// The layers of a built-in experiment.
fn layers(name: &str) -> Result<Vec<LayerSpec>> {
    let (text, origin) = experiment::source(name)?;
    Ok(experiment::parse(&text, &origin, &[])?.network.layers)
}

/// 784-50-30-20-30-50-784.
pub fn autoencoder() -> Result<Network> {
    Ok(Network::new(784, &layers("mnist-autoencoder")?)?)
}

/// Three times convolution, rectifier and pool, then two dense layers.
pub fn convnet() -> Result<Network> {
    Ok(Network::new(Shape::from_sizes(&[3, 32, 32])?, &layers("cifar10-convnet")?)?)
}

/// MNIST as [`write()`] left it.
pub struct Digits {
    inputs: Vec<f32>,
    features: usize,
    pub minibatches: Minibatches,
}

impl Digits {
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("pixels.npy");
        let bytes = std::fs::read(&path).with_context(|| format!("{} is missing", path.display()))?;
        let npy = npyz::NpyFile::new(&bytes[..])?;
        let (rows, features) = (npy.shape()[0] as usize, npy.shape()[1] as usize);
        let inputs = npy.into_vec::<u8>()?.into_iter().map(|v| f32::from(v) / 255.0).collect();
        Ok(Self { inputs, features, minibatches: Minibatches::new(rows, BATCH, 0)? })
    }

    pub fn examples(&self) -> Examples<'_, f32> {
        Examples::autoencoder(&self.inputs, self.features)
    }

    /// The first `rounds` minibatches of the epoch, one after the other.
    pub fn order(&self, rounds: usize) -> Vec<u32> {
        let mut order = self.minibatches.epoch(0);
        order.truncate(rounds * BATCH);
        order
    }
}

/// Random images with random labels: the time of a step does not depend on them.
pub struct Images {
    pub inputs: Vec<f32>,
    pub labels: Vec<u32>,
}

impl Images {
    pub fn random(network: &Network) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let inputs = (0..IMAGES * network.inputs()).map(|_| rng.random::<f32>()).collect();
        let labels = (0..IMAGES).map(|_| rng.random_range(0..CLASSES)).collect();
        Self { inputs, labels }
    }
}
