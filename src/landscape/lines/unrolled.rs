//! Every unit on every piece again.

use super::changes::{Changes, Lines};
use crate::landscape::{Ended, Pieces, pieces::Next};

/// Makes pieces with all units of what changes.
#[derive(Debug)]
pub struct Unrolled {
    lines: Lines,
    pieces: Pieces,
    /// Pieces that are handed on together.
    most: usize,
}

impl Unrolled {
    /// Of units that begin as lines on one piece.
    pub fn new(piece: &Pieces, most: usize) -> Self {
        Self { lines: Lines::of(piece), pieces: Pieces::empty(piece.bounds()[0], piece.width(), 1), most }
    }

    /// The pieces that end with a change.
    ///
    /// # Errors
    /// That of `next`.
    pub fn advance(&mut self, changes: &Changes, next: Next) -> Result<(), Ended> {
        for (at, turns) in changes.points() {
            self.push(at, next)?;
            turns.each(|turn| {
                self.lines.set(turn, at);
            });
        }
        Ok(())
    }

    /// The last pieces.
    ///
    /// # Errors
    /// That of `next`.
    pub fn finish(mut self, to: f64, next: Next) -> Result<(), Ended> {
        self.most = 1;
        self.push(to, next)
    }

    fn push(&mut self, to: f64, next: Next) -> Result<(), Ended> {
        let lines = &self.lines;
        self.pieces.push_rows(to, |left, plane, values| match plane {
            0 => lines.values_at(left, values),
            _ => lines.slopes(values),
        });
        if self.pieces.len() >= self.most { next(self.pieces.take()) } else { Ok(()) }
    }
}
