"""Copies of a model's state, taken before each update with as few calls as possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from taylorscope._tensors import NotRecordable, dtype_name, named_state, unwrapped

# Enough for the writer to work while the next rounds go on; it bounds the memory that waits.
SLOTS = 4
# Tensors begin at multiples of this many bytes, so that any type may look at them.
ALIGNMENT = 64

# Name, type, shape and first byte of a tensor in a copy.
Place = tuple[str, str, list[int], int]


class Slot:
    """Memory for one state. `event` is reached when the copy has arrived from the device; `number` is that of the round whose state it holds."""

    def __init__(self, size: int, device: torch.device) -> None:
        pinned = device.type == "cuda"
        self.flat = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
        self.bytes: np.ndarray = self.flat.numpy()
        self.event: Any = torch.cuda.Event() if pinned else None
        self.number = 0


class StateCopies:
    """A ring of slots, and the tensors that are copied into them."""

    def __init__(self, model: nn.Module) -> None:
        parameters, buffers = named_state(model)
        self._model = unwrapped(model)
        self._names = [*parameters, *buffers]
        self._sources: list[Tensor] = [*parameters.values(), *buffers.values()]
        self.parameters: list[Place] = []
        self.buffers: list[Place] = []
        end = 0
        for number, (name, tensor) in enumerate(zip(self._names, self._sources, strict=True)):
            place = (name, dtype_name(name, tensor), list(tensor.shape), end)
            (self.parameters if number < len(parameters) else self.buffers).append(place)
            end += -(-tensor.numel() * tensor.element_size() // ALIGNMENT) * ALIGNMENT
        self._places = [place[3] for place in (*self.parameters, *self.buffers)]
        self._owners = [*self._find_owners()]
        self._ids = [id(value) for _, _, value in self._owners]
        self._kinds = [(tensor.shape, tensor.dtype) for tensor in self._sources]
        devices = {tensor.device for tensor in self._sources}
        self._device = devices.pop() if len(devices) == 1 else torch.device("cpu")
        self._staged = torch.empty(end, dtype=torch.uint8, device=self._device) if self._device.type == "cuda" else None
        self._slots = [Slot(end, self._device) for _ in range(SLOTS)]
        self._views = [self._view(slot.flat if self._staged is None else self._staged) for slot in self._slots]
        self._turn = 0

    def _view(self, flat: Tensor) -> list[Tensor]:
        def part(tensor: Tensor, start: int) -> Tensor:
            bytes_ = flat[start : start + tensor.numel() * tensor.element_size()]
            return bytes_.view(tensor.dtype).view(tensor.shape)

        return [part(tensor, start) for tensor, start in zip(self._sources, self._places, strict=True)]

    def _find_owners(self) -> Any:
        """For each parameter and module of the model: the dictionary that holds it, under which name, and what it is now."""
        for module in self._model.modules():
            for held in (module._parameters, module._modules):
                yield from ((held, name, value) for name, value in held.items())

    def _holds(self) -> bool:
        """Whether all is where and as it was; quick, as every round asks."""
        return [id(held.get(name)) for held, name, _ in self._owners] == self._ids and [
            (tensor.shape, tensor.dtype) for tensor in self._sources
        ] == self._kinds

    def check(self) -> None:
        """Fails if a parameter or a module was put in the place of another, or changed its shape."""
        if self._holds():
            return
        for held, name, value in self._owners:
            if held.get(name) is not value:
                kind = "module" if isinstance(value, nn.Module) else "parameter"
                raise NotRecordable(f"the {kind} {name} was replaced by another one; watch the model again from there on, with another out")
        for name, tensor, (shape, dtype) in zip(self._names, self._sources, self._kinds, strict=True):
            if (tensor.shape, tensor.dtype) != (shape, dtype):
                raise NotRecordable(
                    f"{name} was of {dtype} and shape {list(shape)}, and is now of {tensor.dtype} and shape {list(tensor.shape)}"
                )

    def copy(self, wait: Callable[[int], None]) -> Slot:
        """Copies the state into the slot whose turn it is, after `wait`ing until the round that it holds is written."""
        self.check()
        slot, views = self._slots[self._turn], self._views[self._turn]
        self._turn = (self._turn + 1) % SLOTS
        if slot.number:
            wait(slot.number)
        with torch.no_grad():
            torch._foreach_copy_(views, self._sources)
            if self._staged is not None:
                slot.flat.copy_(self._staged, non_blocking=True)
                slot.event.record()
        return slot
