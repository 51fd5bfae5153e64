"""What the package has from Rust."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION: str

def main(arguments: Sequence[str | os.PathLike[str]]) -> int: ...

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
