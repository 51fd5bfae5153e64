"""Taylor optima by dense linear algebra on the explicit Jacobians of all rounds of a prefix.

Everything is in the displacement `v = V - W^1`. A problem is fed round by round and can be solved after each:
`best(radius)` returns the least Taylor loss over the ball of that radius (all weights when the radius is infinite)
and the displacement that attains it; `bound(v, radius)` is the Frank-Wolfe gap of v on that ball.
"""

import numpy as np
from scipy import linalg, optimize

from linearize import loss_gradients, losses, vector

RELATIVE_ZERO = 1e-11  # singular values below this fraction of the largest count as zero


def step_in_ball(s, z, radius):
    """Least-norm minimizer of `|s * y - z|^2` over `|y| <= radius`, for singular values s >= 0."""
    keep = s > RELATIVE_ZERO * s.max(initial=0.0)
    y = np.where(keep, z / np.where(keep, s, 1.0), 0.0)
    if np.linalg.norm(y) <= radius:
        return y
    if radius == 0:
        return np.zeros_like(y)
    b = s * z

    def excess(log_shift):
        return np.log(np.linalg.norm(b / (s**2 + np.exp(log_shift))) / radius)

    high = np.log(np.linalg.norm(b) / radius) + 1e-9
    low = high - 1.0
    while excess(low) < 0 and low > high - 200:
        low -= 2.0
    shift = np.exp(optimize.brentq(excess, low, high, xtol=1e-13, rtol=1e-15)) if excess(low) > 0 else np.exp(low)
    y = b / (s**2 + shift)
    return y * min(1.0, radius / np.linalg.norm(y))


class Problem:
    """What both losses share: the certificate."""

    def bound(self, v, radius):
        gradient = self.gradient(v)
        return radius * np.linalg.norm(gradient) + gradient @ v


class LeastSquares(Problem):
    """Mean squared error: the rows `J v = t` of all rounds, reduced by QR whenever enough have come."""

    def __init__(self, dimension):
        self.dimension = dimension
        self.rounds = 0
        self.triangle = np.zeros((0, dimension + 1))
        self.waiting, self.height = [], 0

    def add(self, linear, unit, start):
        j, residual, rest = linear.reduced(unit)
        shift = j @ (vector(unit, linear.weights) - start)
        rows = np.concatenate([j, (residual + shift)[:, :, None]], -1).reshape(-1, self.dimension + 1)
        constant = np.append(np.zeros(self.dimension), np.sqrt(rest))
        rows = np.vstack([rows, constant]) / np.sqrt(linear.outputs.size)
        self.waiting.append(rows[np.any(rows != 0, 1)])
        self.height += len(self.waiting[-1])
        self.rounds += 1
        if self.height > 2 * self.dimension:
            self._reduce()

    def _reduce(self):
        rows = np.concatenate([self.triangle, *self.waiting])
        self.triangle = linalg.qr(rows, mode="r", overwrite_a=True, check_finite=False)[0][: self.dimension + 1]
        self.waiting, self.height = [], 0

    def solved(self):
        if self.waiting:
            self._reduce()
        return self.triangle[:, :-1] / np.sqrt(self.rounds), self.triangle[:, -1] / np.sqrt(self.rounds)

    def value(self, v):
        a, t = self.solved()
        return np.sum((a @ v - t) ** 2)

    def gradient(self, v):
        a, t = self.solved()
        return 2 * a.T @ (a @ v - t)

    def best(self, radius):
        a, t = self.solved()
        u, s, vt = linalg.svd(a, full_matrices=False)
        v = vt.T @ step_in_ball(s, u.T @ t, radius)
        return self.value(v), v


class CrossEntropy(Problem):
    """Softmax cross-entropy: all Jacobian rows are kept, and a damped Newton method minimizes the exact objective.

    Every round counts the same, so that a datapoint of a small minibatch counts more than one of a large. Every step goes towards the minimizer over the ball of the second-order model, found by eigendecomposition.
    """

    def __init__(self, dimension):
        self.dimension = dimension
        self.rounds, self.parts = 0, []
        self.last = np.zeros(dimension)

    def add(self, linear, unit, start):
        j = linear.jacobian(unit)
        constant = linear.outputs - j @ (vector(unit, linear.weights) - start)
        self.rounds += 1
        self.parts.append((j, constant, linear.targets, np.full(len(constant), 1 / len(constant))))

    def solved(self):
        if len(self.parts) > 1:
            self.parts = [tuple(np.concatenate(p) for p in zip(*self.parts))]
        j, constant, targets, shares = self.parts[0]
        return j, constant, targets, shares / self.rounds

    def value(self, v):
        j, constant, targets, shares = self.solved()
        return losses("cross_entropy", constant + j @ v, targets) @ shares

    def gradient(self, v):
        j, constant, targets, shares = self.solved()
        f = loss_gradients("cross_entropy", constant + j @ v, targets) * shares[:, None]
        return f.ravel() @ j.reshape(-1, self.dimension)

    def hessian(self, v):
        j, constant, targets, shares = self.solved()
        p = loss_gradients("cross_entropy", constant + j @ v, np.zeros_like(targets))
        centred = np.sqrt(p)[:, :, None] * (j - np.einsum("io,iow->iw", p, j)[:, None, :])
        rows = (centred * np.sqrt(shares)[:, None, None]).reshape(-1, self.dimension)
        return rows.T @ rows

    def model_minimizer(self, v, gradient, radius):
        """argmin over the ball of `gradient' (y - v) + (y - v)' H (y - v) / 2`."""
        values, vectors = linalg.eigh(self.hessian(v))
        s = np.sqrt(np.maximum(values, 1e-13 * max(values[-1], 1e-300)))
        z = s * (vectors.T @ v) - (vectors.T @ gradient) / s
        return vectors @ step_in_ball(s, z, radius)

    def best(self, radius, tolerance=1e-9, limit=500):
        v = self.last if np.linalg.norm(self.last) <= radius else self.last * (radius / np.linalg.norm(self.last))
        value = self.value(v)
        for _ in range(limit):
            gradient = self.gradient(v)
            if radius * np.linalg.norm(gradient) + gradient @ v <= tolerance * value:
                break
            direction = self.model_minimizer(v, gradient, radius) - v
            slope, step = gradient @ direction, 1.0
            while step > 1e-12 and self.value(v + step * direction) > value + 1e-4 * step * slope:
                step /= 2
            new = self.value(v + step * direction)
            if not new < value:
                break
            v, value = v + step * direction, new
        self.last = v
        return value, v


def problem(kind, dimension):
    return LeastSquares(dimension) if kind == "mse" else CrossEntropy(dimension)
