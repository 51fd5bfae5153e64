//! From the beginning of a segment to its end, all layers together.

use super::{
    changes::{Buffers, Changes, Next},
    layer::LayerLines,
    pool::PoolLines,
    spread::Spread,
};
use crate::{
    landscape::{Ended, Pieces, affine::Affine, way::Way},
    network::{Block, Pooling},
};

/// Turns after which a layer hands on what it has, if there is memory for so many: fewer are still in the cache when the next layer takes
/// them.
const TURNS: usize = 1 << 16;

/// One of the layers whose units have kinks.
#[derive(Debug)]
enum Step<'a> {
    Layer(Box<LayerLines<'a>>),
    Pool(Box<PoolLines>),
}

/// The layers with kinks that see something move, where they are on the segment.
#[derive(Debug, Default)]
pub struct Walk<'a> {
    steps: Vec<Step<'a>>,
    to: f64,
    merge: f64,
}

impl<'a> Walk<'a> {
    /// Along a segment that ends at `to`; points nearer than `merge` are one.
    pub fn new(to: f64, merge: f64) -> Self {
        Self { steps: Vec::new(), to, merge }
    }

    /// Adds the next block, with its inputs and pre-activations at the beginning of the segment; what it gives there.
    pub fn add(&mut self, block: &Block, parts: (&'a Affine<'a>, &'a Spread), x: &Pieces, a: &Pieces) -> Pieces {
        // The first of them sees lines that are the same all the way.
        let x = (!self.steps.is_empty()).then_some(x);
        let layer = LayerLines::new(block, parts, self.merge, x, a);
        let mut z = layer.begin(a);
        self.steps.push(Step::Layer(Box::new(layer)));
        if let Some(pool) = block.pool.as_ref().filter(|pool| pool.pooling == Pooling::Max) {
            let step = PoolLines::new(pool, block.pool_layer(), self.merge, &z);
            z = step.begin(&z);
            self.steps.push(Step::Pool(Box::new(step)));
        }
        z
    }

    /// Leaves out what has been added: nothing of it moves.
    pub fn forget(&mut self) {
        self.steps.clear();
    }

    /// Has the last layer find its kinks alone.
    pub fn end_here(&mut self) {
        if let Some(Step::Layer(layer)) = self.steps.last_mut() {
            layer.end_here();
        }
    }

    /// Takes the buffers of another walk, and gives those that it has.
    pub fn swap_buffers(&mut self, buffers: &mut Vec<Buffers>) {
        buffers.resize_with(self.steps.len(), Buffers::default);
        for (step, buffers) in self.steps.iter_mut().zip(buffers) {
            let own = match step {
                Step::Layer(layer) => layer.buffers(),
                Step::Pool(pool) => pool.buffers(),
            };
            std::mem::swap(own, buffers);
        }
    }

    /// Goes to the end of the segment; `next` gets the changes of what the last layer gives.
    ///
    /// # Errors
    /// That of `next`, or if the limits end it.
    pub fn run(&mut self, way: &Way, next: Next) -> Result<(), Ended> {
        advance(&mut self.steps, &Changes::default(), self.to, way, next)
    }
}

fn advance(steps: &mut [Step], changes: &Changes, until: f64, way: &Way, next: Next) -> Result<(), Ended> {
    let Some((step, rest)) = steps.split_first_mut() else { return next(changes, until) };
    let mut kink = |kink| way.add(kink);
    let mut on = |changes: &Changes, until: f64| {
        way.limits.go_on()?;
        way.count()?;
        advance(rest, changes, until, way, next)
    };
    match step {
        Step::Layer(layer) => layer.advance(changes, until, TURNS.min(way.limits.batch_values()), &mut kink, &mut on),
        Step::Pool(pool) => pool.advance(changes, until, &mut kink, &mut on),
    }
}
