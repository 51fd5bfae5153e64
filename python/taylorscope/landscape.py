"""Exact kinks of a network along a segment (docs/theory.md, section 6)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taylorscope import _native


class Kinks(NamedTuple):
    """Where a network changes its linear piece, in the order of the segment."""

    #: The segment's parameter t.
    at: NDArray[np.float64]
    #: The layer with the unit's weights, or the pool, as an index in the layer list.
    layer: NDArray[np.int64]
    #: The value of that layer; of images `position * channels + channel`.
    unit: NDArray[np.int64]
    #: `"on"`, `"off"`, or `"winner FROM -> TO"` in a max-pool.
    change: list[str]


def kinks(
    layers: Sequence[Any],
    weights: Mapping[str, ArrayLike],
    x: ArrayLike,
    dx: ArrayLike | None = None,
    *,
    dweights: Mapping[str, ArrayLike] | None = None,
    start: float = 0.0,
    stop: float = 1.0,
) -> Kinks:
    """All kinks for `start <= t <= stop` of a network with input `x + t dx` and weights `weights + t dweights`.

    `layers` are those of an experiment file, `[{"dense": 50}, "relu", {"dense": 10}]`; `weights` and `dweights` have the arrays `"0.weight"`,
    `"0.bias"`, ... in PyTorch's shapes; `x` and `dx` have the shape of an input, `[features]` or `[channels, height, width]`. What is left out
    rests. Raises `ValueError` for what does not fit.
    """
    point = np.ascontiguousarray(x, dtype=np.float64)
    direction = None if dx is None else np.ascontiguousarray(dx, dtype=np.float64).reshape(-1)
    step = None if dweights is None else _safetensors(dweights)
    found = _native.kinks_along(
        list(point.shape), json.dumps(list(layers)), _safetensors(weights), step, point.reshape(-1), direction, float(start), float(stop)
    )
    return Kinks(found["at"], found["layer"], found["unit"], found["change"])


def _safetensors(tensors: Mapping[str, ArrayLike]) -> bytes:
    """Arrays as the bytes of a safetensors file of type F64."""
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    end = 0
    for name, value in tensors.items():
        array = np.ascontiguousarray(value, dtype="<f8")
        header[name] = {"dtype": "F64", "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
        parts.append(array.tobytes())
        end += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)
