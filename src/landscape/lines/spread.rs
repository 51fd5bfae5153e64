//! What changed inputs do to the pre-activations of a layer.

use crate::{
    network::{Block, Convolution},
    num::vectorized,
};

/// A layer's weights, for the inputs one by one: the neurons of an input lie side by side.
#[derive(Clone, Debug)]
pub struct Spread {
    /// `[inputs of a neuron, neurons]`.
    weights: Vec<f64>,
    units: usize,
    convolution: Option<Convolution>,
}

/// Positions that are reached, each once.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    marked: Vec<bool>,
    pub positions: Vec<u32>,
}

impl Reached {
    pub fn new(positions: usize) -> Self {
        Self { marked: vec![false; positions], positions: Vec::new() }
    }

    #[inline(always)]
    fn mark(&mut self, position: usize) {
        if !self.marked[position] {
            self.marked[position] = true;
            self.positions.push(position as u32);
        }
    }

    pub fn clear(&mut self) {
        self.positions.drain(..).for_each(|position| self.marked[position as usize] = false);
    }
}

/// An input and by how much it changed.
pub type Difference = (u32, f64);

impl Spread {
    /// Of a block at these flat weights.
    pub fn new(block: &Block, weights: &[f64]) -> Self {
        let mut transposed = vec![0.0; block.inputs * block.units];
        for (neuron, row) in weights[block.range()].chunks_exact(block.width()).enumerate() {
            for (input, w) in row[..block.inputs].iter().enumerate() {
                transposed[input * block.units + neuron] = *w;
            }
        }
        Self { weights: transposed, units: block.units, convolution: block.convolution().copied() }
    }

    /// Adds what the differences make to `sums: [positions, neurons]`. Differences of one position should stand together.
    pub fn add(&self, differences: &[Difference], sums: &mut [f64], reached: &mut Reached) {
        vectorized(
            #[inline(always)]
            || match &self.convolution {
                None => {
                    reached.mark(0);
                    self.add_rows(differences, 0, 0, sums);
                }
                Some(c) => self.add_patches(c, differences, sums, reached),
            },
        );
    }

    #[inline(always)]
    fn add_patches(&self, c: &Convolution, differences: &[Difference], sums: &mut [f64], reached: &mut Reached) {
        let (channels, units) = (c.input.channels, self.units);
        let position = |difference: &Difference| difference.0 as usize / channels;
        // The output that has an input under this place of its kernel.
        let output = |input: usize, place: usize, side: usize| -> Option<usize> {
            let start = (input + c.padding).checked_sub(place)?;
            let output = start / c.stride;
            (output < side && output * c.stride == start).then_some(output)
        };
        for together in differences.chunk_by(|a, b| position(a) == position(b)) {
            let at = position(&together[0]);
            let (y, x) = (at / c.input.width, at % c.input.width);
            for i in 0..c.kernel {
                let Some(row) = output(y, i, c.output.height) else { continue };
                for j in 0..c.kernel {
                    let Some(column) = output(x, j, c.output.width) else { continue };
                    let to = row * c.output.width + column;
                    reached.mark(to);
                    let place = (i * c.kernel + j) * channels;
                    self.add_rows(together, at * channels, place, &mut sums[to * units..][..units]);
                }
            }
        }
    }

    /// Adds the rows of the weights that belong to the differences, the first of which would be `first` for the input `zero`.
    #[inline(always)]
    fn add_rows(&self, differences: &[Difference], zero: usize, first: usize, sums: &mut [f64]) {
        let row = |difference: &Difference| {
            &self.weights[(difference.0 as usize - zero + first) * self.units..][..self.units]
        };
        let blocks = differences.chunks_exact(4);
        for d in blocks.remainder() {
            sums.iter_mut().zip(row(d)).for_each(|(sum, w)| *sum += d.1 * w);
        }
        for block in blocks {
            let (p, q, r, s) = (row(&block[0]), row(&block[1]), row(&block[2]), row(&block[3]));
            let (a, b, c, d) = (block[0].1, block[1].1, block[2].1, block[3].1);
            for ((((sum, p), q), r), s) in sums.iter_mut().zip(p).zip(q).zip(r).zip(s) {
                *sum += (a * p + b * q) + (c * r + d * s);
            }
        }
    }

    /// Calls `visit` with the inputs of a neuron at a position, as the neuron's own index and the layer's.
    pub fn each_input(&self, position: usize, mut visit: impl FnMut(usize, usize)) {
        let Some(c) = &self.convolution else {
            (0..self.weights.len() / self.units).for_each(|input| visit(input, input));
            return;
        };
        let (row, column) = (position / c.output.width * c.stride, position % c.output.width * c.stride);
        for i in 0..c.kernel {
            let Some(y) = (row + i).checked_sub(c.padding).filter(|y| *y < c.input.height) else { continue };
            for j in 0..c.kernel {
                let Some(x) = (column + j).checked_sub(c.padding).filter(|x| *x < c.input.width) else { continue };
                for channel in 0..c.input.channels {
                    let own = (i * c.kernel + j) * c.input.channels + channel;
                    visit(own, (y * c.input.width + x) * c.input.channels + channel);
                }
            }
        }
    }
}
