"""Functions on arrays against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import taylorscope as ts


@pytest.mark.parametrize("shape", [(7, 70, 3), (5, 9, 4, 3, 2)])
def test_exploration_metrics_are_those_of_their_definitions(shape):
    rng = np.random.default_rng(0)
    # Configurations change slowly, as those of training do.
    flips = rng.random(shape) < 0.05
    flips[0] = rng.random(shape[1:]) < 0.5
    patterns = np.logical_xor.accumulate(flips, axis=0)
    count, _, units = shape[:3]
    flat = patterns.reshape(count, -1)
    distances = (flat[:, None] != flat[None]).sum(-1)
    found = ts.exploration.novelty(patterns)
    assert found.min_hamming.tolist() == [distances[n, :n].min() for n in range(1, count)]
    assert found.previous_hamming.tolist() == [distances[n, n - 1] for n in range(1, count)]
    assert found.bits == flat.shape[1]
    of_unit = np.moveaxis(patterns.reshape(*shape[:3], -1), 2, 0).reshape(units, count, -1)
    assert ts.exploration.switches(patterns).tolist() == (of_unit[:, 1:] != of_unit[:, :-1]).sum((1, 2)).tolist()
    volumes = ts.exploration.log_volumes(patterns)
    for m, matrix in enumerate(of_unit.astype(float)):
        values = np.linalg.svd(matrix, compute_uv=False)
        assert volumes.rank[m] == np.linalg.matrix_rank(matrix)
        np.testing.assert_allclose(volumes.log_volume[m], np.log(values[: volumes.rank[m]]).sum(), rtol=1e-9)
        np.testing.assert_allclose(volumes.log_det[m], 0.5 * np.log1p(values**2).sum(), rtol=1e-9)


def test_patterns_that_are_none_are_refused():
    with pytest.raises(TypeError, match="bool"):
        ts.exploration.novelty(np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="axes"):
        ts.exploration.switches(np.zeros((2, 2), bool))
    with pytest.raises(ValueError, match="empty"):
        ts.exploration.switches(np.zeros((2, 0, 2), bool))


def test_kinks_are_where_preactivations_change_their_sign():
    rng = np.random.default_rng(1)
    layers = [{"dense": 6}, "relu", {"dense": 5}, "relu", {"dense": 2}]
    shapes = {"0.weight": (6, 3), "0.bias": (6,), "2.weight": (5, 6), "2.bias": (5,), "4.weight": (2, 5), "4.bias": (2,)}
    weights = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    x, dx = rng.normal(size=3), 4 * rng.normal(size=3)
    found = ts.kinks(layers, weights, x, dx)
    t = np.linspace(0, 1, 200_001)
    a0 = (x + t[:, None] * dx) @ weights["0.weight"].T + weights["0.bias"]
    a2 = np.maximum(a0, 0) @ weights["2.weight"].T + weights["2.bias"]
    expected = sorted(
        (t[place], layer, unit, "on" if values[place + 1, unit] > 0 else "off")
        for layer, values in ((0, a0), (2, a2))
        for place, unit in zip(*np.nonzero((values[1:] > 0) != (values[:-1] > 0)), strict=True)
    )
    assert len(expected) > 3
    assert [(int(k), int(u), c) for k, u, c in zip(found.layer, found.unit, found.change, strict=True)] == [e[1:] for e in expected]
    np.testing.assert_allclose(found.at, [e[0] for e in expected], atol=1e-5)
    moved = {name: np.zeros(shape) for name, shape in shapes.items()} | {"0.bias": np.full(6, -9.0)}
    assert set(ts.kinks(layers, weights, x, dweights=moved).change) == {"off"} | set(ts.kinks(layers, weights, x, dweights=moved).change)


def test_what_does_not_fit_is_said():
    layers, weights = [{"dense": 2}], {"0.weight": np.ones((2, 3)), "0.bias": np.ones(2)}
    with pytest.raises(ValueError, match="must have 3"):
        ts.kinks(layers, weights, np.zeros(4).reshape(4)[:3].repeat(2)[:3], np.zeros(2))
    with pytest.raises(ValueError, match="0.bias"):
        ts.kinks(layers, {"0.weight": np.ones((2, 3))}, np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match="start"):
        ts.kinks(layers, weights, np.zeros(3), np.ones(3), start=1, stop=0)
