"""Rounds on their way to the recorder, whose thread writes them while training goes on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taylorscope._native import Recorder
from taylorscope._state import SLOTS, Slot
from taylorscope._tensors import NotRecordable, as_array


@dataclass
class Round:
    """What is written of a round. `losses` has loss and datapoints of each of its minibatches."""

    number: int
    losses: list[tuple[Tensor | float, int]]
    # Whether the loss of a round is the sum over its minibatches instead of their mean.
    summed: bool = False
    slot: Slot | None = None
    inputs: dict[str, list[Tensor]] | None = None
    targets: list[Tensor] | None = None
    # Where targets are the inputs but lie elsewhere in memory, they are compared.
    targets_are_inputs: bool = False
    # Looks at targets, and gives keys of the manifest that they change.
    check: Callable[[list[Tensor]], dict[str, Any] | None] | None = None

    def to_host(self) -> None:
        """Begins to copy what lies on a device, without waiting for it."""
        if self.inputs is not None:
            self.inputs = {name: [_to_host(part) for part in parts] for name, parts in self.inputs.items()}
        if self.targets is not None:
            self.targets = [_to_host(part) for part in self.targets]

    def loss(self) -> float:
        """The loss of the round: the mean of its minibatches', weighted by their sizes."""
        if len(self.losses) == 1:
            return float(self.losses[0][0])
        if self.summed:
            return sum(float(loss) for loss, _ in self.losses)
        return sum(float(loss) * size for loss, size in self.losses) / sum(size for _, size in self.losses)


def _to_host(tensor: Tensor) -> Tensor:
    if tensor.device.type == "cpu":
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.device.type == "cuda")
    return host.copy_(tensor, non_blocking=True)


class Writer:
    """Hands rounds over in their order, each as soon as its copies have arrived from the device."""

    def __init__(self, recorder: Recorder, describe: Callable[[dict[str, Any]], None]) -> None:
        self.recorder = recorder
        self._describe = describe
        self._pending: deque[tuple[Round, Any]] = deque()
        self._process = os.getpid()

    @property
    def rounds(self) -> int:
        """The number of the last round that was written."""
        return self.recorder.rounds

    def put(self, round_: Round) -> None:
        """Takes a round. Raises what went wrong with an earlier one."""
        round_.to_host()
        event = None
        if round_.slot is not None and round_.slot.event is not None:
            event = round_.slot.event
            event.record()
        self._pending.append((round_, event))
        # A state has to be handed over before its slot's turn comes again.
        while self._pending and (len(self._pending) >= SLOTS or self._pending[0][1] is None or self._pending[0][1].query()):
            self._hand_over()

    def _hand_over(self) -> None:
        round_, event = self._pending.popleft()
        if event is not None:
            event.synchronize()
        loss = round_.loss()
        if not np.isfinite(loss):
            raise NotRecordable(f"the loss of round {round_.number} is {loss}; the trace ends before it")
        if round_.slot is None or round_.inputs is None:
            self.recorder.submit(round_.number, loss)
            return
        inputs = [joined(name, parts) for name, parts in round_.inputs.items()]
        targets = joined("targets", round_.targets) if round_.targets is not None else None
        if round_.targets is not None and round_.check is not None and (news := round_.check(round_.targets)):
            self._describe(news)
        if round_.targets_are_inputs and targets is not None:
            if not np.array_equal(targets[3], inputs[0][3]):
                raise NotRecordable(f"the targets of round {round_.number} are not its inputs, as they were before; record such training from its beginning")
            targets = None
        round_.slot.number = round_.number
        self.recorder.submit(round_.number, loss, inputs[0][2][0], inputs, targets, round_.slot.bytes)

    def finish(self, final: Slot | None, complete: bool) -> None:
        """Hands over what waits, and closes the trace. Raises what went wrong; what was written before is a trace."""
        if os.getpid() != self._process:
            return  # A process that was forked has no part in the trace.
        try:
            while self._pending:
                self._hand_over()
            if final is not None and final.event is not None:
                final.event.synchronize()
        except Exception:
            self.recorder.close(None, False)
            raise
        self.recorder.close(final.bytes if final is not None else None, complete)


def joined(name: str, parts: list[Tensor]) -> Any:
    """The tensors of a round's minibatches one after the other, as an array."""
    arrays = [as_array(name, part) for part in parts]
    if len(arrays) == 1:
        return arrays[0]
    _, dtype, shape, _ = arrays[0]
    if any(array[1] != dtype or array[2][1:] != shape[1:] for array in arrays):
        raise NotRecordable(f"the minibatches of one round have {name} of different shapes or types")
    rows = sum(array[2][0] for array in arrays)
    return name, dtype, [rows, *shape[1:]], np.concatenate([array[3] for array in arrays])
