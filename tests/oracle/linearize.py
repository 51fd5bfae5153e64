"""The network at one round: outputs, losses and the explicit output Jacobian with respect to a unit's weights.

A unit is `(scale, k, a)`: `("neuron", k, a)` is row a of dense layer number k, `("layer", k, None)` a dense layer,
`("network", None, None)` everything. Its weight vector holds its rows `[weights, bias]` one after the other.
"""

import numpy as np

SLOPES = {"relu": (0.0, 1.0, 0.0), "leaky_relu": (0.01, 1.0, 0.01), "abs": (-1.0, 1.0, 0.0)}  # below, above, at 0
EPSILON = 2.0**-24  # relative rounding error of f32


def slopes(name, a):
    below, above, at = SLOPES[name]
    return np.where(a > 0, above, np.where(a < 0, below, at))


def with_one(x):
    return np.column_stack([x, np.ones(len(x))])


def forward(trace, weights, x):
    """Per dense layer: its input with the constant 1, its pre-activation, and where that is `doubtful`.

    A program in f32 may get the other state of a rectifier there: the pre-activation lies within f32 rounding of 0.
    """
    inputs, pre, doubtful = [], [], []
    error = np.zeros_like(x)
    for w, unit in zip(weights, trace.units):
        inputs.append(with_one(x))
        pre.append(inputs[-1] @ w.T)
        rounding = (np.sqrt(w.shape[1]) + 2) * EPSILON * (np.abs(inputs[-1]) @ np.abs(w).T)
        error = rounding + error @ np.abs(w[:, :-1]).T
        doubtful.append(np.abs(pre[-1]) < error)
        x = pre[-1] if unit is None else slopes(unit, pre[-1]) * pre[-1]
    return inputs, pre, doubtful


def log_sum_exp(z):
    top = z.max(-1, keepdims=True)
    return (top + np.log(np.exp(z - top).sum(-1, keepdims=True)))[..., 0]


def losses(kind, outputs, targets):
    """The loss of each input."""
    if kind == "mse":
        return ((outputs - targets) ** 2).mean(-1)
    return log_sum_exp(outputs) - (outputs * targets).sum(-1)


def loss_gradients(kind, outputs, targets):
    """The derivative of each input's loss in its outputs."""
    if kind == "mse":
        return 2.0 / outputs.shape[-1] * (outputs - targets)
    return np.exp(outputs - log_sum_exp(outputs)[..., None]) - targets


class Round:
    """One round, linearized at its weights."""

    def __init__(self, trace, index):
        self.kind = trace.loss
        self.weights = trace.state(index)
        x, self.targets = trace.batch(index)
        self.inputs, pre, doubtful = forward(trace, self.weights, x)
        self.outputs = pre[-1]
        self.doubts = sum(int(d.sum()) for d in doubtful[:-1])
        self.loss = losses(self.kind, self.outputs, self.targets).mean()
        self.jacobians = self._jacobians(trace, pre)

    def _jacobians(self, trace, pre):
        """d outputs / d pre-activations of each dense layer, [batch, outputs, units]."""
        batch, outputs = self.outputs.shape
        j = np.broadcast_to(np.eye(outputs), (batch, outputs, outputs))
        result = [j]
        for k in reversed(range(len(self.weights) - 1)):
            w = self.weights[k + 1][:, :-1]
            first = k == len(self.weights) - 2
            j = (w[None] if first else j @ w) * slopes(trace.units[k], pre[k])[:, None, :]
            result.insert(0, j)
        return result

    def gradient(self):
        """The gradient of the round's loss with respect to each layer's [W b]."""
        batch = len(self.outputs)
        f = loss_gradients(self.kind, self.outputs, self.targets) / batch
        return [np.einsum("io,ioa,ic->ac", f, j, x, optimize=True) for j, x in zip(self.jacobians, self.inputs)]

    def jacobian(self, unit):
        """The explicit Jacobian of the outputs, [batch, outputs, weights of the unit]."""
        scale, k, a = unit
        if scale == "network":
            return np.concatenate([self.jacobian(("layer", k, None)) for k in range(len(self.weights))], -1)
        j = self.jacobians[k] if a is None else self.jacobians[k][:, :, a : a + 1]
        full = j[:, :, :, None] * self.inputs[k][:, None, None, :]
        return full.reshape(*j.shape[:2], -1)

    def reduced(self, unit):
        """`(J, r, c)` with `|J' v - r'|^2 = |J v - r|^2 + c` for `J'`, `r'` the unit's Jacobian and `targets - outputs`.

        A unit of few neurons moves each input's output in few directions only: the rest of the residual is constant.
        """
        scale, k, a = unit
        residual = self.targets - self.outputs
        columns = slice(None) if a is None else slice(a, a + 1)
        if scale == "network" or self.jacobians[k][:, :, columns].shape[2] >= residual.shape[1]:
            return self.jacobian(unit), residual, 0.0
        directions, j = np.linalg.qr(self.jacobians[k][:, :, columns])
        inside = np.einsum("ior,io->ir", directions, residual)
        rest = np.sum((residual - np.einsum("ior,ir->io", directions, inside)) ** 2)
        full = j[:, :, :, None] * self.inputs[k][:, None, None, :]
        return full.reshape(*j.shape[:2], -1), inside, rest


def vector(unit, layers):
    """The part of per-layer matrices that belongs to the unit, flat."""
    scale, k, a = unit
    if scale == "network":
        return np.concatenate([w.ravel() for w in layers])
    return layers[k].ravel() if a is None else layers[k][a]
