"""Traces of format 2 (`docs/formats.md`) as NumPy arrays, with states mapped into memory and not read before they are used."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Trace", "TraceError"]

# bfloat16 has no NumPy type; its bits are the upper half of those of a float32.
_BFLOAT16 = np.dtype("<u2")
_TYPES = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "BF16": _BFLOAT16,
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}


class TraceError(ValueError):
    """A folder that is no trace, or a trace that cannot be read; the text says what to do."""


class _Array:
    """A tensor of a safetensors file, mapped into memory."""

    def __init__(self, path: Path, start: int, kind: str, shape: Sequence[int]) -> None:
        self.kind = kind
        self.shape = tuple(shape)
        if 0 in self.shape:
            self._values: NDArray[Any] = np.zeros(self.shape, _TYPES[kind])
        else:
            self._values = np.memmap(path, _TYPES[kind], "r", start, self.shape)

    def take(self, rows: Any) -> NDArray[Any]:
        """Rows of the first axis, or all of an array without one, copied; bfloat16 becomes float32, which has the same values."""
        values = np.array(self._values[rows])
        if self.kind == "BF16":
            return (values.astype("<u4") << 16).view("<f4")
        return values


def _read_tensors(path: Path) -> tuple[dict[str, _Array], dict[str, str]]:
    """The tensors of a safetensors file, and its metadata."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(os.path.getsize(path), 100_000_000):
            raise TraceError(f"{path} is damaged: its header has {length} bytes")
        header = json.loads(file.read(length))
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        if entry["dtype"] not in _TYPES:
            raise TraceError(f"{path} has {name} in {entry['dtype']}, which this version does not read")
        size = int(np.prod(entry["shape"], dtype=np.int64)) * _TYPES[entry["dtype"]].itemsize
        if end - start != size or end > os.path.getsize(path):
            raise TraceError(f"{path} is damaged: {name} does not lie where its header says")
        tensors[name] = _Array(path, start, entry["dtype"], entry["shape"])
    return tensors, metadata


class Trace:
    """A recorded training.

    Kept rounds have places `0, 1, ...` in the trace; their true numbers are `rounds`.

    Attributes:
        folder: where it lies.
        manifest: `manifest.json` as a dictionary.
        rounds: `[kept]` int64, 1-based numbers of the kept rounds.
        losses: `[kept]` float64, their recorded losses.
        sizes: `[kept]` int64, datapoints of their minibatches.
        all_rounds, all_losses: numbers and losses of every round that was recorded, kept or not.
        state_names, buffer_names: names of parameters and buffers.
        notes: sentences on what was left out.

    Raises:
        TraceError: if the folder is no trace of format 2, or has no complete shard.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.notes: list[str] = []
        self.manifest: dict[str, Any] = self._read_manifest()
        self._shards: list[dict[str, _Array]] = []
        self._read_shards()
        column = lambda name: np.concatenate([shard[name].take(slice(None)) for shard in self._shards])  # noqa: E731
        self.rounds: NDArray[np.int64] = column("rounds").astype(np.int64)
        self.losses: NDArray[np.float64] = column("losses").astype(np.float64)
        self.sizes: NDArray[np.int64] = column("sizes").astype(np.int64)
        self._rows = column("rows").astype(np.int64)
        self._ends = np.cumsum(self.sizes)
        self._check()
        self._places = np.cumsum([0] + [len(shard["rounds"].take(slice(None))) for shard in self._shards])
        self.all_rounds, self.all_losses = self._every_loss()
        # A shard without rounds has no states.
        names = list(dict.fromkeys(name for shard in self._shards for name in shard))
        self.state_names = [name[6:] for name in names if name.startswith("state.")]
        self.buffer_names = [name[7:] for name in names if name.startswith("buffer.")]
        self.input_names = sorted(
            (name for name in names if name == "inputs" or name.startswith("inputs.")),
            key=lambda name: (not name[7:].isdigit(), int(name[7:]) if name[7:].isdigit() else 0, name),
        )
        self._first_rows = {
            name: np.cumsum([0] + [shard[name].shape[0] if name in shard else 0 for shard in self._shards])
            for name in [*self.input_names, "targets"]
        }

    def __len__(self) -> int:
        return len(self.rounds)

    def __repr__(self) -> str:
        return f"Trace({str(self.folder)!r}): {len(self)} kept rounds up to round {self.rounds[-1]}"

    def _read_manifest(self) -> dict[str, Any]:
        path = self.folder / "manifest.json"
        try:
            manifest = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise TraceError(f"{self.folder} is not a trace: there is no manifest.json in it") from None
        except ValueError as error:
            raise TraceError(f"{path} is not valid JSON: {error}") from None
        if not isinstance(manifest, dict) or manifest.get("format") != 2:
            found = manifest.get("format") if isinstance(manifest, dict) else None
            raise TraceError(f"{path} has format {found}; only traces of format 2 are read here (taylorscope analyze reads format 1)")
        return manifest

    def _read_shards(self) -> None:
        """Shards up to the first that is missing or damaged."""
        while (path := self.folder / f"shard-{len(self._shards):05}.safetensors").exists():
            try:
                tensors, _ = _read_tensors(path)
                missing = [name for name in ("rounds", "losses", "sizes", "rows") if name not in tensors]
                if missing:
                    raise TraceError(f"{path} has no {missing[0]}")
            except (ValueError, KeyError, TypeError, OSError) as error:
                if not self._shards:
                    raise TraceError(f"{path} cannot be read: {error}") from None
                self.notes.append(f"{path.name} is damaged ({error}): the trace is read up to the shard before it")
                return
            self._shards.append(tensors)
        if not self._shards:
            raise TraceError(f"{self.folder} has no complete shard; training ended before one was written")

    def _check(self) -> None:
        if len(self.rounds) == 0:
            raise TraceError(f"{self.folder} keeps no rounds")
        if not (len(self.losses) == len(self.sizes) == len(self.rounds)) or self.sizes.sum() != len(self._rows):
            raise TraceError(f"{self.folder} is damaged: losses, sizes and rows do not fit its {len(self.rounds)} rounds")
        if self.rounds[0] < 1 or (np.diff(self.rounds) <= 0).any():
            raise TraceError(f"{self.folder} is damaged: the numbers of its rounds do not increase")

    def _every_loss(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        known = dict(zip(self.rounds.tolist(), self.losses.tolist()))
        for shard in self._shards:
            if "all_rounds" in shard and "all_losses" in shard:
                numbers, losses = (shard[name].take(slice(None)).tolist() for name in ("all_rounds", "all_losses"))
                known.update(zip(numbers, losses))
        numbers = sorted(known)
        return np.array(numbers, np.int64), np.array([known[number] for number in numbers], np.float64)

    def _gather(self, name: str, places: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[Any]:
        """Rows of a tensor that goes on from shard to shard."""
        out: NDArray[Any] | None = None
        of_shard = np.searchsorted(starts, places, side="right") - 1
        for at in np.unique(of_shard):
            mine = of_shard == at
            if not 0 <= at < len(self._shards) or name not in self._shards[at]:
                raise TraceError(f"{self.folder} is damaged: {name} lacks rows")
            wanted = places[mine] - starts[at]
            # Rows that follow each other are read in one go.
            contiguous = len(wanted) > 0 and (np.diff(wanted) == 1).all()
            part = self._shards[at][name].take(slice(wanted[0], wanted[-1] + 1) if contiguous else wanted)
            if out is None:
                out = np.empty((len(places), *part.shape[1:]), part.dtype)
            out[mine] = part
        assert out is not None
        return out

    def states(self, name: str, places: Sequence[int] | NDArray[np.int64]) -> NDArray[Any]:
        """`[places, ...]`: a parameter before the update of these kept rounds."""
        return self._gather(f"state.{name}", np.asarray(places, np.int64), self._places)

    def buffers(self, name: str, places: Sequence[int] | NDArray[np.int64]) -> NDArray[Any]:
        """`[places, ...]`: a buffer before the forward pass of these kept rounds."""
        return self._gather(f"buffer.{name}", np.asarray(places, np.int64), self._places)

    def final_state(self) -> Mapping[str, NDArray[Any]] | None:
        """The parameters after the last update, if training came to its end."""
        path = self.folder / "final.safetensors"
        if not path.exists():
            return None
        tensors, _ = _read_tensors(path)
        return {name[6:]: tensor.take(...) for name, tensor in tensors.items() if name.startswith("state.")}

    def rows(self, place: int) -> NDArray[np.int64]:
        """Indices of the rows of a kept round's minibatch; equal rows have equal indices."""
        return self._rows[self._ends[place] - self.sizes[place] : self._ends[place]]

    @property
    def datapoints(self) -> int:
        """Different rows of the data that were recorded."""
        return int(self._first_rows[self.input_names[0]][-1])

    def inputs(self, rows: Sequence[int] | NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """`{name: [rows, ...]}` of every input of the model: `""` for the only one, else `"0"`, `"1"` or a keyword."""
        indices = np.asarray(rows, np.int64)
        return {name[7:]: self._gather(name, indices, self._first_rows[name]) for name in self.input_names}

    def targets(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[Any] | None:
        """`[rows]` or `[rows, ...]`; None where the inputs are the targets."""
        if self._first_rows["targets"][-1] == 0:
            return None
        return self._gather("targets", np.asarray(rows, np.int64), self._first_rows["targets"])

    def minibatch(self, place: int) -> tuple[dict[str, NDArray[Any]], NDArray[Any] | None]:
        """Inputs and targets of a kept round."""
        rows = self.rows(place)
        return self.inputs(rows), self.targets(rows)

    def digest(self) -> str:
        """Tells the trace from others, in hexadecimal: of the manifest, of losses, rows and rounds, and of the files' sizes."""
        hasher = hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode())
        for values in (self.rounds, self.losses, self.sizes, self._rows):
            hasher.update(values.tobytes())
        for name in self.state_names:
            hasher.update(self.states(name, [0, len(self) - 1]).tobytes())
        return hasher.hexdigest()
