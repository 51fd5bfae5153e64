"""Recorded rounds as tensors on the device of the model, a chunk of equal minibatches at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taylorscope.reader import Trace
from taylorscope.torch_backend.model import ModelError
from taylorscope.torch_backend.units import Layout

__all__ = ["Chunk", "Loaded", "Rounds", "as_tensor"]


def as_tensor(values: NDArray[np.generic], device: torch.device, dtype: torch.dtype) -> Tensor:
    """On the device; numbers with a fraction in the given type, labels as int64, other whole numbers and truth values as they are."""
    if values.dtype.kind == "u" and values.dtype.itemsize > 1:
        values = values.astype(np.int64)
    tensor = torch.from_numpy(np.asarray(values, order="C")).to(device)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


@dataclass
class Loaded:
    """The rounds of a chunk, stacked: the first axis of everything is that of the rounds."""

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    inputs: dict[str, Tensor]
    targets: Tensor

    def part(self, start: int, end: int) -> Loaded:
        """Some of the rounds."""
        cut = lambda tensors: {name: tensor[start:end] for name, tensor in tensors.items()}  # noqa: E731
        return Loaded(cut(self.parameters), cut(self.buffers), cut(self.inputs), self.targets[start:end])

    def bytes(self) -> int:
        tensors = [*self.parameters.values(), *self.buffers.values(), *self.inputs.values(), self.targets]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass
class Chunk:
    """Rounds with minibatches of one size; `rounds` counts among those that are analysed, `places` in the trace."""

    rounds: list[int]
    places: list[int]
    kept: dict[torch.dtype, Loaded] = field(default_factory=dict)

    def within(self, start: int, end: int) -> tuple[int, int]:
        """Which of its rounds lie in a range, as they increase."""
        low, high = np.searchsorted(self.rounds, [start, end])
        return int(low), int(high)


class Rounds:
    """The analysed rounds of a trace, or those that are this process's share.

    Attributes:
        count: rounds that are analysed, all processes together.
        numbers: `[count]`, their true numbers.
        first: `W^1`, the parameters of the first analysed round, in double precision.
    """

    def __init__(
        self,
        trace: Trace,
        places: Sequence[int],
        layout: Layout,
        device: torch.device,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._trace = trace
        self._layout = layout
        self._device = device
        self.places = list(places)
        self.count = len(self.places)
        self.numbers = trace.rounds[self.places]
        self.losses = trace.losses[self.places]
        self.names = [name for name in trace.state_names]
        missing = [name for name in layout.shapes if name not in self.names]
        if missing:
            raise ModelError(
                f"the trace has no parameter {missing[0]!r} (it has {', '.join(self.names[:4])}, ...); hand over the model that was recorded"
            )
        self.first = {name: self._states(name, [self.places[0]], torch.float64)[0] for name in layout.shapes}
        for name, shape in layout.shapes.items():
            if tuple(self.first[name].shape) != shape:
                raise ModelError(
                    f"parameter {name!r} has shape {tuple(self.first[name].shape)} in the trace and {shape} in the model; hand over the model "
                    "that was recorded"
                )
        rank, ranks = share
        self.mine = list(range(rank, self.count, ranks))
        self.room = 0
        self.chunks: list[Chunk] = []

    def cut(self, most: int, room: int) -> None:
        """Makes chunks of so many rounds at most, and keeps them loaded in so many bytes."""
        self.room = room
        self.chunks = []
        for r in self.mine:
            place = self.places[r]
            last = self.chunks[-1] if self.chunks else None
            if last and len(last.rounds) < most and self._trace.sizes[last.places[0]] == self._trace.sizes[place]:
                last.rounds.append(r)
                last.places.append(place)
            else:
                self.chunks.append(Chunk([r], [place]))

    def _states(self, name: str, places: Sequence[int], dtype: torch.dtype) -> Tensor:
        return as_tensor(self._trace.states(name, places), self._device, dtype)

    def load(self, chunk: Chunk, dtype: torch.dtype) -> Loaded:
        """The rounds of a chunk in a type; kept for the next time if there is room."""
        if dtype in chunk.kept:
            return chunk.kept[dtype]
        places, trace = chunk.places, self._trace
        rows = np.concatenate([trace.rows(place) for place in places])
        shape = (len(places), -1)
        stacked = lambda values: as_tensor(values.reshape(*shape, *values.shape[1:]), self._device, dtype)  # noqa: E731
        inputs = {name: stacked(values.reshape(len(rows), *values.shape[1:])) for name, values in trace.inputs(rows).items()}
        given = trace.targets(rows)
        targets = next(iter(inputs.values())) if given is None else stacked(given)
        loaded = Loaded(
            {name: self._states(name, places, dtype) for name in self.names},
            {name: as_tensor(trace.buffers(name, places), self._device, dtype) for name in trace.buffer_names},
            inputs,
            targets if targets.is_floating_point() else targets.long(),
        )
        if loaded.bytes() <= self.room:
            self.room -= loaded.bytes()
            chunk.kept[dtype] = loaded
        return loaded

    def parts(self, start: int, end: int, dtype: torch.dtype) -> Iterator[tuple[int, int, int, Loaded]]:
        """This process's rounds in a range, chunk by chunk: the chunk's number, which of its rounds, and these."""
        for number, chunk in enumerate(self.chunks):
            low, high = chunk.within(start, end)
            if low < high:
                yield number, low, high, self.load(chunk, dtype).part(low, high)

    def displacements(self, loaded: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
        """`[rounds, dimension]`: `W^n - W^1` of some parameters, flattened one after the other."""
        return torch.cat([(loaded[name].double() - self.first[name]).reshape(len(loaded[name]), -1) for name in names], dim=1)

    def states_after(self, chunk: Chunk, final: Mapping[str, NDArray[np.generic]] | None) -> list[dict[str, Tensor] | None]:
        """The parameters after the update of each round of a chunk, where that is the next kept round."""
        trace, out = self._trace, []
        for place in chunk.places:
            follows = place + 1 < len(trace) and trace.rounds[place + 1] == trace.rounds[place] + 1
            if follows:
                out.append({name: self._states(name, [place + 1], torch.float64)[0] for name in self._layout.shapes})
            elif place + 1 == len(trace) and final is not None:
                names = self._layout.shapes
                out.append({name: as_tensor(final[name], self._device, torch.float64) for name in names if name in final})
            else:
                out.append(None)
        return out
