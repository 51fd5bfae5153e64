//! Output Jacobians: backward mode with several cotangents per datapoint.

use super::{Passes, Point, vjp::Reach};
use crate::{kernels::block::Cotangents, network::Operation, num::Real};

impl<T: Real> Passes<T> {
    /// The output Jacobian in what every block gives: calls `visit(l, J)` for each block `l >= lowest` from the output down, with
    /// the cotangents `J: [rows, outputs, features out]`.
    pub fn output_jacobians(&mut self, at: &Point<T>, lowest: usize, visit: impl FnMut(usize, Cotangents<T>)) {
        let outputs = at.network.outputs();
        let unit = |at: usize| if at / outputs % outputs == at % outputs { T::ONE } else { T::ZERO };
        let values = (0..at.tape.rows * outputs * outputs).map(unit).collect();
        self.backpropagate(at, values, outputs, lowest, visit);
    }

    /// Backward mode for several cotangents of the output per datapoint, `[rows, per_datapoint, outputs]`, down to block `lowest`; calls `visit(l, cotangents)` for
    /// each block from the output down, with those of what the block gives.
    pub fn backpropagate(
        &mut self,
        at: &Point<T>,
        cotangents: Vec<T>,
        per_datapoint: usize,
        lowest: usize,
        mut visit: impl FnMut(usize, Cotangents<T>),
    ) {
        let reach = Reach { lowest: at.network.blocks()[lowest].node, data: false };
        *self.output_cotangent(at.network) = cotangents;
        self.begin(at.network);
        for (n, node) in at.network.nodes().iter().enumerate().skip(reach.lowest).rev() {
            if let (Operation::Block(l), true) = (node.operation, self.begun[n]) {
                let block = &at.network.blocks()[l];
                visit(l, self.cotangents_of(block, per_datapoint, at.tape.derivative(block)));
            }
            if n > reach.lowest {
                self.vjp_of_node(at, n, per_datapoint, reach, None);
            }
            self.release(n);
        }
    }
}
