//! Errors of the outputs, where the last hidden layer sees them.

/// The error `r = f - y` of a round's outputs as the last hidden layer sees it, for losses whose Hessian is `(2/K) I`.
#[derive(Clone, Debug)]
pub(super) struct BackpropagatedError {
    /// `(2/K) W_L' r`, `[rows, inputs of the output block]`.
    pub(super) cotangent: Vec<f64>,
    /// `sum_i |r_i|^2 / K`.
    pub(super) square: f64,
}
