//! What layers do to polynomials on pieces, one layer after the other.
//!
//! Batches are bounded: a batch that has grown too large is taken through the remaining layers in parts, in order.

use super::{
    Ended, Pieces,
    affine::Affine,
    pieces::Next,
    pool::{self, MaxPool},
    rectifier::Rectify,
    way::Way,
};
use crate::network::Pool;

/// A layer's action on pieces.
pub enum Stage<'a> {
    Affine(&'a Affine<'a>),
    Rectify(Rectify),
    MaxPool(MaxPool<'a>),
    AveragePool(&'a Pool),
}

/// A batch of a wider layer may have this many times the values of others.
pub const WIDER: usize = 4;

impl Stage<'_> {
    /// Whether it cuts pieces.
    pub fn has_kinks(&self) -> bool {
        matches!(self, Stage::Rectify(_) | Stage::MaxPool(_))
    }

    /// Values that come out for `width` that go in.
    pub fn width(&self, width: usize) -> usize {
        match self {
            Stage::Affine(layer) => layer.width(),
            Stage::Rectify(_) => width,
            Stage::MaxPool(pool) => pool.width(),
            Stage::AveragePool(pool) => pool.output.len(),
        }
    }

    /// Hands on what comes out of a batch, in parts that are no larger than a batch should be.
    fn apply(&mut self, batch: &Pieces, way: &Way, next: Next) -> Result<(), Ended> {
        let most = (way.limits.batch_values() / batch.width()).max(1);
        let mut kink = |kink| way.add(kink);
        match self {
            Stage::Affine(layer) => return next(layer.apply(batch)),
            Stage::AveragePool(pool) => return next(pool::average(pool, batch)),
            Stage::Rectify(rectify) => rectify.apply(batch, most, &mut kink, next)?,
            Stage::MaxPool(pool) => pool.apply(batch, most, &mut kink, next)?,
        }
        way.count()
    }
}

/// Takes a batch through the stages that are left; `pieces` sees consecutive pieces with the last stage's units.
pub fn advance(
    stages: &mut [Stage],
    batch: Pieces,
    way: &Way,
    pieces: &mut dyn FnMut(&Pieces) -> Result<(), Ended>,
) -> Result<(), Ended> {
    let Some((stage, rest)) = stages.split_first_mut() else { return pieces(&batch) };
    let values = way.limits.batch_values();
    let most = (values / batch.width()).min(WIDER * values / stage.width(batch.width())).max(1);
    let mut apply = |batch: &Pieces| {
        way.limits.go_on()?;
        stage.apply(batch, way, &mut |next| {
            way.count()?;
            advance(rest, next, way, pieces)
        })
    };
    if batch.len() <= most {
        return apply(&batch);
    }
    for from in (0..batch.len()).step_by(most) {
        apply(&batch.part(from, batch.len().min(from + most)))?;
    }
    Ok(())
}

/// Takes a batch through the first of the stages. If more than `room` values come out, it goes through all of them.
pub fn one_stage(stages: &mut [Stage], batch: &Pieces, way: &Way, room: usize) -> Result<Option<Pieces>, Ended> {
    if let [Stage::Rectify(last)] = stages {
        last.kinks(batch, &mut |kink| way.add(kink));
        way.count()?;
        return Ok(None);
    }
    let (stage, rest) = stages.split_first_mut().expect("a stage is left");
    let (mut kept, mut alone): (Option<Pieces>, bool) = (None, false);
    stage.apply(batch, way, &mut |part| {
        let all = match kept.take() {
            Some(mut before) => {
                before.append(&part);
                before
            }
            None => part,
        };
        alone |= all.values() > room;
        if alone {
            return advance(rest, all, way, &mut |_| Ok(()));
        }
        kept = Some(all);
        Ok(())
    })?;
    Ok(kept)
}
