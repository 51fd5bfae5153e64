"""What the package has from Rust."""

import os
from collections.abc import Sequence

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
    def keeps(self, number: int) -> bool: ...
    @property
    def every(self) -> int: ...
    def loss(self, number: int, loss: float) -> None: ...
    def round(
        self, number: int, loss: float, batch: int, inputs: Sequence[_Array], targets: _Array | None, state: NDArray[np.uint8]
    ) -> tuple[bool, bool]: ...
    def describe(self, keys: str) -> None: ...
    def flush(self) -> bool: ...
    def close(self, final_state: NDArray[np.uint8] | None, rounds: int, complete: bool) -> None: ...
