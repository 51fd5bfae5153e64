"""`minimize` against SciPy, and what goes wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize as scipy_minimize
from scipy.special import expit

from taylorscope.search import minimize


def least_squares(rng: np.random.Generator, dimension: int):  # noqa: ANN201
    a, y = rng.normal(size=(2 * dimension, dimension)) * np.logspace(0, -2, dimension), rng.normal(size=2 * dimension)
    return lambda u: (0.5 * float(np.sum((a @ u - y) ** 2)) - 3.0, a.T @ (a @ u - y)), lambda _u, d: a.T @ (a @ d)


def logistic(rng: np.random.Generator, dimension: int):  # noqa: ANN201
    a = rng.normal(size=(3 * dimension, dimension))
    return lambda u: (float(np.logaddexp(0, a @ u).sum()), a.T @ expit(a @ u)), lambda u, d: a.T @ (expit(a @ u) * expit(-a @ u) * (a @ d))


@pytest.mark.parametrize("make", [least_squares, logistic])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("radius", [0.3, 3.0])
def test_minima_are_those_of_scipy(make, seed: int, radius: float) -> None:  # noqa: ANN001
    dimension = 5 + 4 * seed
    evaluate, product = make(np.random.default_rng(seed), dimension)
    found = minimize(evaluate, product, dimension, radius, quadratic=make is least_squares, tolerance=1e-5)
    ball = {"type": "ineq", "fun": lambda u: radius**2 - u @ u, "jac": lambda u: -2 * u}
    other = scipy_minimize(evaluate, np.zeros(dimension), jac=True, constraints=[ball], method="SLSQP", options={"ftol": 1e-13, "maxiter": 1000})
    assert found.converged and found.gap <= 1e-5 and np.linalg.norm(found.point) <= radius * (1 + 1e-9)
    assert found.value == pytest.approx(evaluate(found.point)[0], abs=1e-9)
    # SLSQP may leave the ball by its own tolerance.
    assert found.value - found.gap - 1e-7 <= other.fun and found.value <= other.fun + found.gap + 1e-7


def test_a_budget_that_is_spent_leaves_an_honest_gap() -> None:
    evaluate, product = least_squares(np.random.default_rng(0), 40)
    few = minimize(evaluate, product, 40, 2.0, quadratic=True, tolerance=1e-9, max_products=3)
    many = minimize(evaluate, product, 40, 2.0, quadratic=True, tolerance=1e-9)
    assert few.stop_reason == "budget" and "budget" in few.message and few.products <= 5
    assert few.value - few.gap <= many.value <= few.value


def test_exceptions_and_wrong_numbers_come_back() -> None:
    evaluate, product = least_squares(np.random.default_rng(0), 4)

    def raising(_u, _d):  # noqa: ANN001, ANN202
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError, match="on purpose"):
        minimize(evaluate, raising, 4, 1.0)
    with pytest.raises(ValueError, match=r"a product has shape \(3,\)"):
        minimize(evaluate, lambda _u, d: d[:3], 4, 1.0)
    with pytest.raises(ValueError, match="not finite"):
        minimize(lambda u: (float("nan"), u), product, 4, 1.0)
    with pytest.raises(ValueError, match="not finite"):
        minimize(evaluate, lambda _u, d: d * np.inf, 4, 1.0)
    with pytest.raises(ValueError, match="curvature"):
        minimize(evaluate, lambda _u, d: -d, 4, 1.0)
    with pytest.raises(TypeError, match="value and the gradient"):
        minimize(lambda u: 1.0, product, 4, 1.0)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="dimension"):
        minimize(evaluate, product, 0, 1.0)
    with pytest.raises(ValueError, match="radius"):
        minimize(evaluate, product, 4, float("inf"))
