"""How widely activation patterns move: the metrics of the analysis, on arrays (docs/theory.md, section 5).

Patterns are an array of bool, `[configurations, datapoints, units]`, or `[configurations, datapoints, units, ...]` for units that act at
several positions of a datapoint, as filters do: whether the unit's pre-activation is positive.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taylorscope import _native

__all__ = ["LogVolumes", "Novelty", "log_volumes", "novelty", "switches"]


class Novelty(NamedTuple):
    """Hamming distances of each configuration but the first, `[configurations - 1]`."""

    #: To the nearest of all earlier ones.
    min_hamming: NDArray[np.int64]
    #: To the one before.
    previous_hamming: NDArray[np.int64]
    #: Bits of a configuration.
    bits: int


class LogVolumes(NamedTuple):
    """For each unit, of its matrix configurations x places."""

    rank: NDArray[np.int64]
    #: Sum of the logs of its first `min(50, rank)` singular values.
    log_volume: NDArray[np.float64]
    #: Half the log of `det(I + Gram)`.
    log_det: NDArray[np.float64]


def _explore(patterns: ArrayLike) -> dict[str, Any]:
    array = np.asarray(patterns)
    if array.ndim < 3:
        raise ValueError(f"patterns have {array.ndim} axes; they are [configurations, datapoints, units, ...]")
    if array.dtype != np.bool_:
        raise TypeError(f"patterns are an array of {array.dtype}; they are bool, such as preactivations > 0")
    if array.size == 0:
        raise ValueError(f"there is nothing to compare: patterns of shape {list(array.shape)} are empty")
    return _native.explore_patterns(np.ascontiguousarray(array).view(np.uint8).reshape(*array.shape[:3], -1))


def novelty(patterns: ArrayLike) -> Novelty:
    """How far each configuration is from those before."""
    found = _explore(patterns)
    return Novelty(found["min_hamming"], found["previous_hamming"], found["bits"])


def switches(patterns: ArrayLike) -> NDArray[np.int64]:
    """How often each unit changes its state, `[units]`: summed over places and consecutive configurations."""
    found: NDArray[np.int64] = _explore(patterns)["switches"]
    return found


def log_volumes(patterns: ArrayLike) -> LogVolumes:
    """How much room each unit's patterns take."""
    found = _explore(patterns)
    return LogVolumes(found["rank"], found["log_volume"], found["log_det"])
