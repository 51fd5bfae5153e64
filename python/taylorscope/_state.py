"""Copies of a model's state, taken before each update with as few calls as possible."""

from __future__ import annotations

import queue
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
    """Memory for one state. `bytes` is what the writer reads once `ready` has returned."""

    def __init__(self, size: int, device: torch.device) -> None:
        pinned = device.type == "cuda"
        self.flat = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
        self.bytes: np.ndarray = self.flat.numpy()
        self.event: Any = torch.cuda.Event() if pinned else None

    def ready(self) -> None:
        """Waits until the copy has arrived from the device."""
        if self.event is not None:
            self.event.synchronize()


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
        devices = {tensor.device for tensor in self._sources}
        self._device = devices.pop() if len(devices) == 1 else torch.device("cpu")
        self._staged = torch.empty(end, dtype=torch.uint8, device=self._device) if self._device.type == "cuda" else None
        self.free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        self._views: dict[int, list[Tensor]] = {}
        for _ in range(SLOTS):
            slot = Slot(end, self._device)
            self._views[id(slot)] = self._view(slot.flat if self._staged is None else self._staged)
            self.free.put(slot)

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

    def check(self) -> None:
        """Fails if a parameter or a module was put in the place of another, or changed its shape."""
        for held, name, value in self._owners:
            if held.get(name) is not value:
                kind = "module" if isinstance(value, nn.Module) else "parameter"
                raise NotRecordable(f"the {kind} {name} was replaced by another one; watch the model again from there on, with another out")
        for name, tensor, view in zip(self._names, self._sources, next(iter(self._views.values())), strict=True):
            if tensor.shape != view.shape or tensor.dtype != view.dtype:
                was, now = list(view.shape), list(tensor.shape)
                raise NotRecordable(f"{name} was of {view.dtype} and shape {was}, and is now of {tensor.dtype} and shape {now}")

    def copy(self) -> Slot:
        """Copies the state into a slot, and waits for one if the writer holds all."""
        self.check()
        slot = self.free.get()
        with torch.no_grad():
            torch._foreach_copy_(self._views[id(slot)], self._sources)
            if self._staged is not None:
                slot.flat.copy_(self._staged, non_blocking=True)
                slot.event.record()
        return slot
