//! Products of the generalized Gauss-Newton matrix `H = (1/N) sum_n J_n' Hl J_n` of a [`Window`] with directions.
//!
//! A product is tangents, the Hessian `Hl` of the loss in the outputs, and cotangents pulled back. Several directions go through a group of rounds
//! at a time (`Cursor`).
//!
//! For the mean squared error, `Hl = (2/K) I`, the outputs are never formed. With `t_i` the tangent of the last hidden layer
//! and `x_i` its value with the constant 1 of the output's bias, round `n` contributes
//!
//! - to the output block `W^n P_n + V S_n` with `P_n = sum_i t_i x_i'` and `S_n = sum_i x_i x_i'`,
//! - to the cotangent of the last hidden layer `(W^n' W^n) t_i + (W^n' V) x_i`,
//!
//! all times `2/K`: a few products of the size of the output block per round instead of four per datapoint.

use super::{
    cursor::{Buffers, Cursor},
    stack::{Layout, Stack},
    window::Window,
};
use crate::{
    kernels::{View, matmul},
    num::{
        Real,
        pieces::{Cut, map_in_pieces},
    },
};
use std::{ops::Range, sync::OnceLock};

/// Directions that go through the rounds together at most.
const TOGETHER: usize = 16;

/// What a direction in the hidden blocks does to the output block, see [`Window::output_image`].
pub struct OutputImage<C> {
    /// The part of the product that belongs to the output block.
    pub image: Vec<C>,
    /// Per group the tangents of the last hidden layer, `[rows, units]`.
    tangents: Vec<OnceLock<Vec<C>>>,
}

impl<C: Real> Window<'_, C> {
    /// `scale * sum_n w_n J_n' Hl J_n d` over the given rounds for each direction `d`, for the weights of `blocks`; `Hl` is the
    /// Hessian of the loss of one datapoint, `w_n` the weight of the round (see [`Window::scale`]).
    ///
    /// Directions and results are the part of the flat vector that belongs to `blocks`. `moved` are the outputs at which `Hl` is
    /// taken, `[rows, outputs]` from the first round; unused (empty) for the mean squared error.
    pub fn products(
        &self,
        rounds: Range<usize>,
        blocks: Range<usize>,
        directions: &[&[C]],
        moved: &[C],
        scale: f64,
    ) -> Vec<Vec<C>> {
        let quadratic = self.loss().is_quadratic();
        let together = directions.chunks(if quadratic { TOGETHER } else { 1 });
        let products = |directions: &[&[C]]| {
            let stack = Stack::new(self, blocks.clone(), directions);
            let sums = if quadratic {
                self.quadratic_products(&rounds, &stack, scale)
            } else {
                self.general_product(&rounds, &stack, moved, scale)
            };
            stack.layout.unstack(&sums)
        };
        together.flat_map(products).collect()
    }

    /// [`Window::products`] of a single direction.
    pub fn product(
        &self,
        rounds: Range<usize>,
        blocks: Range<usize>,
        direction: &[C],
        moved: &[C],
        scale: f64,
    ) -> Vec<C> {
        self.products(rounds, blocks, &[direction], moved, scale).swap_remove(0)
    }

    /// The part of a product that belongs to the output block, for a direction in the hidden `blocks` only; mean squared error.
    pub fn output_image(
        &self,
        rounds: Range<usize>,
        blocks: Range<usize>,
        direction: &[C],
        scale: f64,
    ) -> OutputImage<C> {
        assert!(self.loss().is_quadratic(), "only the mean squared error has images without outputs");
        let stack = Stack::new(self, blocks, &[direction]);
        let factor = C::from_f64(self.curvature() * scale);
        let tangents: Vec<OnceLock<Vec<C>>> = vec![OnceLock::new(); self.groups()];
        let image = self.sum_pieces(&rounds, self.output_block().range().len(), |piece, image| {
            let mut buffers = Buffers::default();
            self.each_span(piece, &stack, image, |span, weights| {
                let cursor = Cursor::new(self, span.group, span.rounds.clone(), &stack);
                cursor.tangents(&mut buffers);
                cursor.accumulate_output(factor, weights, &mut buffers);
                tangents[self.position_of(span.group)].get_or_init(|| buffers.values.clone());
            });
        });
        OutputImage { image, tangents }
    }

    /// [`Window::product`] of a direction whose part in the hidden blocks has been through [`Window::output_image`] for the same rounds:
    /// what is known of it is not computed again. `blocks` ends with the output block.
    pub fn product_with(
        &self,
        rounds: Range<usize>,
        blocks: Range<usize>,
        direction: &[C],
        known: &OutputImage<C>,
        scale: f64,
    ) -> Vec<C> {
        let stack = Stack::new(self, blocks, &[direction]);
        let mut sums = self.sum_pieces(&rounds, stack.layout.len(), |piece, sums| {
            let mut buffers = Buffers::default();
            self.each_span(piece, &stack, &mut [], |span, weights| {
                let cursor = Cursor::new(self, span.group, span.rounds.clone(), &stack);
                let tangents = known.tangents[self.position_of(span.group)].get();
                buffers.values.clone_from(tangents.expect("the image was over these rounds"));
                cursor.output_hessian(C::from_f64(scale), weights, &mut buffers);
                cursor.vjp(sums, &mut buffers);
            });
        });
        let (_, output) = stack.layout.split(&mut sums);
        output.iter_mut().zip(&known.image).for_each(|(sum, image)| *sum += *image);
        self.add_moments(&rounds, &stack, scale, output);
        stack.layout.unstack(&sums).swap_remove(0)
    }

    /// For the mean squared error, in the layout of the stack.
    fn quadratic_products(&self, rounds: &Range<usize>, stack: &Stack<C>, scale: f64) -> Vec<C> {
        let layout = &stack.layout;
        let factor = C::from_f64(self.curvature()) * C::from_f64(scale);
        let mut sums = if layout.moves_hidden() {
            self.sum_pieces(rounds, layout.len(), |piece, sums| {
                let (hidden, output) = layout.split(sums);
                let mut buffers = Buffers::default();
                self.each_span(piece, stack, output, |span, weights| {
                    let cursor = Cursor::new(self, span.group, span.rounds.clone(), stack);
                    cursor.tangents(&mut buffers);
                    if layout.moves_output() {
                        cursor.accumulate_output(factor, weights, &mut buffers);
                    }
                    cursor.output_hessian(C::from_f64(scale), weights, &mut buffers);
                    cursor.vjp(hidden, &mut buffers);
                });
            })
        } else {
            vec![C::ZERO; layout.len()]
        };
        let (_, output) = layout.split(&mut sums);
        self.add_moments(rounds, stack, scale, output);
        sums
    }

    /// For any loss and one direction, with the outputs.
    fn general_product(&self, rounds: &Range<usize>, stack: &Stack<C>, moved: &[C], scale: f64) -> Vec<C> {
        let (last, outputs) = (self.network().output_index(), self.output_block().units);
        self.sum_pieces(rounds, stack.layout.len(), |piece, sums| {
            let mut buffers = Buffers::default();
            for span in piece {
                let cursor = Cursor::new(self, span.group, span.rounds.clone(), stack);
                cursor.tangents(&mut buffers);
                cursor.forward(last, &mut buffers);
                let mut tangents = &mut buffers.next[..];
                for round in cursor.rounds() {
                    let (rows, scale) = (self.rows().span(round), C::from_f64(scale * self.weight(round)));
                    let (own, rest) = tangents.split_at_mut(rows.len() * outputs);
                    self.loss().apply_hessian(&moved[rows.start * outputs..rows.end * outputs], outputs, scale, own);
                    tangents = rest;
                }
                buffers.swap();
                cursor.backward(last, sums, &mut buffers);
                cursor.vjp(sums, &mut buffers);
            }
        })
    }

    /// The tangents of the outputs of some rounds along each direction in `blocks`, `[rows, outputs]`.
    pub fn output_tangents(&self, rounds: Range<usize>, blocks: Range<usize>, directions: &[&[C]]) -> Vec<Vec<C>> {
        let (last, outputs) = (self.network().output_index(), self.output_block().units);
        let together = directions.chunks(TOGETHER);
        let tangents = |directions: &[&[C]]| -> Vec<Vec<C>> {
            let stack = Stack::new(self, blocks.clone(), directions);
            let spans = self.spans(&rounds);
            let parts = map_in_pieces(spans.len(), Cut::VECTORS, |piece| {
                let (mut buffers, mut parts) = (Buffers::default(), vec![Vec::new(); directions.len()]);
                for span in &spans[piece] {
                    let cursor = Cursor::new(self, span.group, span.rounds.clone(), &stack);
                    cursor.tangents(&mut buffers);
                    cursor.forward(last, &mut buffers);
                    let all = buffers.next[..cursor.rows() * directions.len() * outputs].chunks_exact(outputs);
                    for (at, row) in all.enumerate() {
                        parts[at % directions.len()].extend_from_slice(row);
                    }
                }
                parts
            });
            let mut all = vec![Vec::new(); directions.len()];
            for part in parts {
                all.iter_mut().zip(part).for_each(|(all, part)| all.extend(part));
            }
            all
        };
        together.flat_map(tangents).collect()
    }

    /// `sum_n J_n' c_n` over the first `rounds` rounds, for cotangents `[rows, outputs]` of the outputs and the weights of `blocks`.
    pub fn pull(&self, rounds: usize, blocks: Range<usize>, cotangents: &[C]) -> Vec<C> {
        let (last, outputs) = (self.network().output_index(), self.output_block().units);
        let layout = Layout::new(self, blocks.clone(), 1);
        let zero = vec![C::ZERO; layout.len()];
        let stack = Stack::new(self, blocks, &[&zero]);
        let sums = self.sum_pieces(&(0..rounds), layout.len(), |piece, sums| {
            let mut buffers = Buffers::default();
            for span in piece {
                let cursor = Cursor::new(self, span.group, span.rounds.clone(), &stack);
                let own = cursor.rounds();
                let rows = self.rows().start(own.start)..self.rows().start(own.end);
                buffers.values.clear();
                buffers.values.extend_from_slice(&cotangents[rows.start * outputs..rows.end * outputs]);
                cursor.backward(last, sums, &mut buffers);
                cursor.vjp(sums, &mut buffers);
            }
        });
        layout.unstack(&sums).swap_remove(0)
    }

    /// `2/K`, the curvature of the mean squared error in each output.
    fn curvature(&self) -> f64 {
        2.0 / self.output_block().units as f64
    }

    /// Adds `scale (2/K) V S` to the output block's part of products, with `S` over all rounds at once; nothing if the block does not move.
    fn add_moments(&self, rounds: &Range<usize>, stack: &Stack<C>, scale: f64, output: &mut [C]) {
        let (Layout { count, .. }, block) = (&stack.layout, self.output_block());
        let Some(v) = stack.part(self.network().output_index()) else { return };
        let width = block.width();
        let mut moments = vec![C::ZERO; width * width];
        for round in &self.output_moments[rounds.clone()] {
            moments.iter_mut().zip(round).for_each(|(sum, s)| *sum += *s);
        }
        let factor = C::from_f64(self.curvature() * scale);
        moments.iter_mut().for_each(|s| *s *= factor);
        let (v, moments) = (View::new(v, count * block.units, width), View::new(&moments, width, width));
        matmul(output, width, v, moments, true);
    }
}
