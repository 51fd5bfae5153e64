"""The network at one round: outputs, losses and the explicit output Jacobian with respect to a unit's weights.

A unit is `(scale, k, a)`: `("neuron", k, a)` is row a of the k-th layer with weights (for a convolution a filter),
`("layer", k, None)` the layer, `("network", None, None)` everything. Its weight vector holds its rows `[weights, bias]` one
after the other, or `[weights]` where a layer has no bias.

A convolution is a dense layer that acts at several positions, on the patch under each: all arrays have an axis of positions, of
length 1 for dense layers. Images are `[batch, channels, height, width]`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

SLOPES = {"relu": (0.0, 1.0, 0.0), "leaky_relu": (0.01, 1.0, 0.01), "abs": (-1.0, 1.0, 0.0)}  # below, above, at 0
EPSILON = 2.0**-24  # relative rounding error of f32


class Conv(NamedTuple):
    kernel: int
    padding: int
    stride: int

    def windows(self, shape):
        """For every place in the kernel, what it covers of a padded image of this shape: pairs of slices."""
        height, width = ((side + 2 * self.padding - self.kernel) // self.stride + 1 for side in shape[-2:])
        for i in range(self.kernel):
            for j in range(self.kernel):
                rows = slice(i, i + self.stride * (height - 1) + 1, self.stride)
                yield rows, slice(j, j + self.stride * (width - 1) + 1, self.stride)

    def unfold(self, x):
        """The patches `[..., height, width, patch]` of images, a patch being `[channel, row, column]`."""
        p = self.padding
        padded = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(p, p), (p, p)])
        patches = np.stack([padded[..., rows, columns] for rows, columns in self.windows(x.shape)], -1)
        patches = np.moveaxis(patches, -4, -2)
        return patches.reshape(*patches.shape[:-2], -1)

    def fold(self, patches, shape):
        """The adjoint of `unfold`, to images of this shape (channels, height, width)."""
        channels, height, width = shape
        patches = np.moveaxis(patches.reshape(*patches.shape[:-1], channels, -1), -2, -4)
        p = self.padding
        padded = np.zeros((*patches.shape[:-4], channels, height + 2 * p, width + 2 * p))
        for place, (rows, columns) in enumerate(self.windows(shape)):
            padded[..., rows, columns] += patches[..., place]
        return padded[..., p : p + height, p : p + width]


class Pool(NamedTuple):
    largest: bool
    size: int
    stride: int

    def windows(self, z):
        """The values in the windows of images, `[..., height, width, place]`."""
        return np.stack([z[..., r, c] for r, c in Conv(self.size, 0, self.stride).windows(z.shape)], -1)

    def weights(self, z):
        """The weights with which the outputs at z take the values in their windows: of a maximum the first that attains it."""
        values = self.windows(z)
        if not self.largest:
            return np.full_like(values, 1 / self.size**2)
        return np.eye(self.size**2)[values.argmax(-1)]

    def pull(self, weights, cotangent, shape):
        """The cotangent of images of this shape (height, width) from that of the outputs, `[batch, outputs, ...]`."""
        result = np.zeros((*cotangent.shape[:-2], *shape))
        for place, (rows, columns) in enumerate(Conv(self.size, 0, self.stride).windows(shape)):
            result[..., rows, columns] += cotangent * weights[:, None, ..., place]
        return result


@dataclass(frozen=True)
class Block:
    """A layer with weights at `index` of the layer list; its convolution, rectifier, pool and bias, where it has them."""

    index: int
    conv: Conv | None = None
    slopes: tuple | None = None
    pool: Pool | None = None
    bias: bool = True

    def matrix(self, w):
        """The weights of its inputs, without the column of the bias."""
        return w[:, :-1] if self.bias else w


def derivative(slopes, a):
    if slopes is None:
        return np.ones_like(a)
    below, above, at = slopes
    return np.where(a > 0, above, np.where(a < 0, below, at))


def with_one(x):
    return np.concatenate([x, np.ones((*x.shape[:-1], 1))], -1)


class Step(NamedTuple):
    """A block at its input: `inputs` [batch, positions, width], with the constant 1 of the bias; `pre` [batch, positions, units];
    `shape` of what came in; `image` (height, width) of the positions; `weights` of the pool.

    `doubtful` and `unclear` say where a program in f32 may get another state of a rectifier, or another winner of a window: a
    pre-activation lies within f32 rounding of 0, two values of each other.
    """

    inputs: np.ndarray
    pre: np.ndarray
    doubtful: np.ndarray
    shape: tuple
    image: tuple
    weights: np.ndarray | None
    unclear: np.ndarray | None


def as_image(values, image):
    """From `[batch, positions, units]`."""
    return np.moveaxis(values, -1, -2).reshape(*values.shape[:-2], values.shape[-1], *image)


def forward(blocks, weights, x):
    """The steps of all blocks."""
    steps, error = [], np.zeros_like(x)
    for block, w in zip(blocks, weights):
        shape, magnitude = x.shape[1:], np.abs(w)
        if block.conv:
            patches, errors = block.conv.unfold(x), block.conv.unfold(error)
            image = patches.shape[1:3]
        else:
            patches, errors, image = x.reshape(len(x), -1), error.reshape(len(x), -1), (1, 1)
        inputs = patches.reshape(len(x), -1, block.matrix(w).shape[1])
        inputs = with_one(inputs) if block.bias else inputs
        pre = inputs @ w.T
        rounding = (np.sqrt(w.shape[1]) + 2) * EPSILON * (np.abs(inputs) @ magnitude.T)
        error = rounding + errors.reshape(*inputs.shape[:2], -1) @ block.matrix(magnitude).T
        doubtful = np.abs(pre) < error
        x = derivative(block.slopes, pre) * pre
        x, error = (as_image(v, image) if block.conv else v[:, 0] for v in (x, error))
        selection = unclear = None
        if block.pool:
            selection, windows = block.pool.weights(x), block.pool.windows(x)
            errors = block.pool.windows(error)
            if block.pool.largest:
                unclear = near_ties(windows, errors, selection, block.pool.windows(as_image(doubtful, image)))
            x, error = (windows * selection).sum(-1), errors.max(-1)
        steps.append(Step(inputs, pre, doubtful, shape, image, selection, unclear))
    return steps


def near_ties(values, errors, selection, doubtful):
    """Windows of which another place may win by rounding. Places at 0 for sure (dead units) tie without doubt."""
    top = (values * selection).sum(-1, keepdims=True)
    near = (top - values < errors + (errors * selection).sum(-1, keepdims=True)) & (selection == 0)
    certain = (values == 0) & (top == 0) & ~doubtful & ~(doubtful * selection).any(-1, keepdims=True)
    return (near & ~certain).any(-1)


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
        self.blocks, self.weights = trace.blocks, trace.state(index)
        x, self.targets = trace.batch(index)
        self.steps = forward(self.blocks, self.weights, x)
        self.inputs = [step.inputs for step in self.steps]
        self.outputs = self.steps[-1].pre[:, 0]
        self.doubts = sum(int(step.doubtful.sum()) for step in self.steps[:-1])
        self.doubts += sum(int(step.unclear.sum()) for step in self.steps if step.unclear is not None)
        self.loss = losses(self.kind, self.outputs, self.targets).mean()
        self.jacobians = self._jacobians()

    def _jacobians(self):
        """d outputs / d pre-activations of each layer, [batch, outputs, positions, units]."""
        batch, outputs = self.outputs.shape
        j = np.broadcast_to(np.eye(outputs)[None, :, None, :], (batch, outputs, 1, outputs))
        result = [j]
        for k in reversed(range(len(self.weights) - 1)):
            above, step, pool = self.steps[k + 1], self.steps[k], self.blocks[k].pool
            j = j @ self.blocks[k + 1].matrix(self.weights[k + 1])
            if self.blocks[k + 1].conv:
                j = self.blocks[k + 1].conv.fold(j.reshape(batch, outputs, *above.image, -1), above.shape)
            j = j.reshape(batch, outputs, *above.shape)
            if pool:
                j = pool.pull(step.weights, j, step.image)
            j = np.moveaxis(j.reshape(batch, outputs, step.pre.shape[2], -1), -2, -1)
            j = j * derivative(self.blocks[k].slopes, step.pre)[:, None]
            result.insert(0, j)
        return result

    def gradient(self):
        """The gradient of the round's loss with respect to each layer's [W b]."""
        f = loss_gradients(self.kind, self.outputs, self.targets) / len(self.outputs)
        return [np.einsum("io,iopa,ipc->ac", f, j, x, optimize=True) for j, x in zip(self.jacobians, self.inputs)]

    def jacobian(self, unit):
        """The explicit Jacobian of the outputs, [batch, outputs, weights of the unit]."""
        scale, k, a = unit
        if scale == "network":
            return np.concatenate([self.jacobian(("layer", k, None)) for k in range(len(self.weights))], -1)
        j = self.jacobians[k] if a is None else self.jacobians[k][..., a : a + 1]
        full = np.einsum("iopa,ipc->ioac", j, self.inputs[k], optimize=True)
        return full.reshape(*j.shape[:2], -1)

    def reduced(self, unit):
        """`(J, r, c)` with `|J' v - r'|^2 = |J v - r|^2 + c` for `J'`, `r'` the unit's Jacobian and `targets - outputs`.

        A dense unit of few neurons moves each input's output in few directions only: the rest of the residual is constant.
        """
        scale, k, a = unit
        residual = self.targets - self.outputs
        columns = slice(None) if a is None else slice(a, a + 1)
        if scale == "network" or self.blocks[k].conv or self.jacobians[k][..., columns].shape[3] >= residual.shape[1]:
            return self.jacobian(unit), residual, 0.0
        directions, j = np.linalg.qr(self.jacobians[k][:, :, 0, columns])
        inside = np.einsum("ior,io->ir", directions, residual)
        rest = np.sum((residual - np.einsum("ior,ir->io", directions, inside)) ** 2)
        full = j[:, :, :, None] * self.inputs[k][:, 0, None, None, :]
        return full.reshape(*j.shape[:2], -1), inside, rest


def vector(unit, layers):
    """The part of per-layer matrices that belongs to the unit, flat."""
    scale, k, a = unit
    if scale == "network":
        return np.concatenate([w.ravel() for w in layers])
    return layers[k].ravel() if a is None else layers[k][a]
