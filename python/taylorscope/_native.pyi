"""What the package has from Rust."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION: str

# Name, type (of safetensors: "F32"), shape and bytes of a tensor.
_Array = tuple[str, str, Sequence[int], NDArray[np.uint8]]
# Name, type, shape, and where in the copy of a state its bytes begin.
_Place = tuple[str, str, Sequence[int], int]

def main(arguments: Sequence[str | os.PathLike[str]]) -> int: ...

class Recorder:
    def __init__(
        self,
        folder: str | os.PathLike[str],
        manifest: str,
        state: Sequence[_Place],
        buffers: Sequence[_Place],
        *,
        every: int = 1,
        max_bytes: int | None = None,
        shard_seconds: float | None = None,
        overwrite: bool = False,
    ) -> None: ...
    @property
    def every(self) -> int: ...
    @property
    def rounds(self) -> int: ...
    def submit(
        self,
        number: int,
        loss: float,
        batch: int = 0,
        inputs: Sequence[_Array] = ...,
        targets: _Array | None = None,
        state: NDArray[np.uint8] | None = None,
    ) -> None: ...
    def wait(self, number: int) -> None: ...
    def check(self) -> None: ...
    def describe(self, keys: str) -> None: ...
    def close(self, final_state: NDArray[np.uint8] | None, complete: bool) -> None: ...

def explore_patterns(patterns: NDArray[np.uint8]) -> dict[str, Any]: ...
def kinks_along(
    input: Sequence[int],
    layers: str,
    weights: bytes,
    dweights: bytes | None,
    x: NDArray[np.float64],
    dx: NDArray[np.float64] | None,
    start: float,
    stop: float,
) -> dict[str, Any]: ...
def analyze_external(
    told: str,
    losses: Sequence[float],
    numbers: Sequence[int],
    all_losses: Sequence[float],
    displacements: NDArray[np.float64],
    gradients: NDArray[np.float64],
    configurations: tuple[list[int], int, list[tuple[int, int, int, bool]], list[NDArray[np.uint64]]] | None,
    source: Any,
    out: str | os.PathLike[str],
    settings: Sequence[str],
    overwrite: bool,
    progress: Callable[[str, str, int, int], None],
) -> Path: ...
def minimize(
    problem: Any, radius: float, tolerance: float, max_products: int, start: Sequence[float]
) -> tuple[float, float, NDArray[np.float64], int, str, str]: ...
