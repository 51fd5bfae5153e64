"""The certified search for the minimum of a convex function over a ball, on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taylorscope import _native

__all__ = ["Minimum", "minimize"]


@dataclass(frozen=True)
class Minimum:
    """What a search found: the true minimum over the ball lies in `[value - gap, value]`."""

    value: float
    gap: float
    point: NDArray[np.float64]
    """`[dimension]`"""
    products: int
    """Products with the curvature that were spent."""
    stop_reason: str
    """`"converged"`, `"budget"`, `"rounding"` or `"halted"`."""
    message: str
    """The same in a sentence, with what can be done."""

    @property
    def converged(self) -> bool:
        return self.stop_reason == "converged"


def _vector(values: Any, dimension: int, what: str) -> NDArray[np.float64]:
    vector = np.ascontiguousarray(values, dtype=np.float64)
    if vector.shape != (dimension,):
        raise ValueError(f"{what} has shape {vector.shape}, not ({dimension},)")
    return vector


class _Problem:
    """Two functions as the object that the search calls."""

    def __init__(
        self,
        evaluate: Callable[[NDArray[np.float64]], tuple[float, ArrayLike]],
        product: Callable[..., ArrayLike],
        dimension: int,
        quadratic: bool,
        preconditioner: Callable[[float, NDArray[np.float64]], ArrayLike] | None,
    ) -> None:
        self._evaluate, self._product, self._preconditioner = evaluate, product, preconditioner
        self.dimension, self.is_quadratic = dimension, quadratic
        self._at = np.zeros(dimension)

    def evaluate(self, _rounds: int, u: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        found = self._evaluate(u)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise TypeError(f"evaluate must return the value and the gradient, not {type(found).__name__}")
        value, gradient = found
        return float(value), _vector(gradient, self.dimension, "the gradient")

    def linearize(self, _rounds: int, u: NDArray[np.float64]) -> None:
        self._at = u

    def ggn_products(self, _start: int, _end: int, directions: NDArray[np.float32]) -> NDArray[np.float32]:
        rows = [_vector(self._product(self._at, d.astype(np.float64)), self.dimension, "a product") for d in directions]
        return np.asarray(rows, np.float32).reshape(len(rows), self.dimension)

    def mean_displacement(self, _start: int, _end: int) -> None:
        return None

    def precondition(self, multiplier: float, residual: NDArray[np.float64]) -> NDArray[np.float64] | None:
        if self._preconditioner is None:
            return None
        return _vector(self._preconditioner(multiplier, residual), self.dimension, "the preconditioned residual")

    def quadratics(self, _prefixes: list[int]) -> None:
        return None


def minimize(
    evaluate: Callable[[NDArray[np.float64]], tuple[float, ArrayLike]],
    product: Callable[[NDArray[np.float64], NDArray[np.float64]], ArrayLike],
    dimension: int,
    radius: float,
    *,
    tolerance: float = 1e-5,
    max_products: int = 200,
    quadratic: bool = False,
    start: ArrayLike | None = None,
    preconditioner: Callable[[float, NDArray[np.float64]], ArrayLike] | None = None,
) -> Minimum:
    """The minimum of a convex function `F` over the ball of a radius around 0, with a certificate.

    By Newton steps whose models are minimized in growing subspaces (generalized Davidson iteration). The gap is that of Frank and Wolfe (Jaggi
    2013), or a better bound of the same kind, and holds for any convex function whatever the products are. Products are kept in single precision, so
    gaps below about 1e-7 of the function's size are rarely reached.

    Args:
        evaluate: `evaluate(u)` gives `F(u)` and its gradient `[dimension]`, in double precision.
        product: `product(u, d)` gives the curvature at `u` times `d`, both `[dimension]`: the Hessian, or another positive semidefinite
            matrix close to it.
        dimension: variables.
        radius: of the ball.
        tolerance: absolute gap to reach.
        max_products: products with the curvature at most.
        quadratic: whether the curvature is the same everywhere; then `u` of `product` means nothing.
        start: `[dimension]`, where to begin if the function is not quadratic; 0 by default.
        preconditioner: `preconditioner(multiplier, r)` gives about `(H + multiplier I)^-1 r`, `[dimension]`.

    Raises:
        ValueError: if a shape is wrong, a number is not finite, or the curvature along a direction is negative.
        Exception: whatever the functions raise, as it is.
    """
    if dimension < 1:
        raise ValueError(f"dimension is {dimension}; there must be a variable at least")
    if not (np.isfinite(radius) and radius >= 0):
        raise ValueError(f"radius is {radius}; it must be a finite number that is not negative")
    if not tolerance >= 0:
        raise ValueError(f"tolerance is {tolerance}; it must not be negative")
    problem = _Problem(evaluate, product, dimension, quadratic, preconditioner)
    begin = np.zeros(dimension) if start is None else _vector(start, dimension, "start")
    return Minimum(*_native.minimize(problem, float(radius), float(tolerance), int(max_products), begin.tolist()))
