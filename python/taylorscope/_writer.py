"""The thread that hands rounds to the recorder, so that training goes on while they are written."""

from __future__ import annotations

import math
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from taylorscope._native import Recorder
from taylorscope._state import Slot
from taylorscope._tensors import NotRecordable, as_array

# Losses of rounds that are not kept may wait in this number.
LOSSES = 1024


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
    check: Callable[[list[Tensor]], dict[str, Any] | None] | None = None

    def loss(self) -> float:
        """The loss of the round: the mean of its minibatches', weighted by their sizes."""
        if len(self.losses) == 1:
            return float(self.losses[0][0])
        if self.summed:
            return sum(float(loss) for loss, _ in self.losses)
        return sum(float(loss) * size for loss, size in self.losses) / sum(size for _, size in self.losses)


class Writer:
    """Writes rounds in their order. The first error ends the recording: it is kept in `error`, and what comes after is let go."""

    def __init__(self, recorder: Recorder, free: queue.SimpleQueue[Slot], describe: Callable[[dict[str, Any]], None]) -> None:
        self.recorder = recorder
        self.error: Exception | None = None
        self.thinned = False
        self.rounds = 0
        self._describe = describe
        self._free = free
        self._queue: queue.SimpleQueue[Round | None] = queue.SimpleQueue()
        self._tickets: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(LOSSES):
            self._tickets.put(None)
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._work, name="taylorscope", daemon=True)
        self._thread.start()

    def put(self, round_: Round) -> None:
        """Hands a round over, and waits while too many are waiting."""
        self._tickets.get()
        self._queue.put(round_)

    def finish(self, final: Slot | None, complete: bool) -> None:
        """Waits for what was handed over, and closes the trace. Errors are kept in `error`."""
        if os.getpid() != self._process:
            return  # A process that was forked has no part in the trace.
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        try:
            if final is not None:
                final.ready()
            ended = final.bytes if final is not None and self.error is None else None
            self.recorder.close(ended, self.rounds, complete and self.error is None)
        except Exception as error:
            self.error = self.error or error

    def _work(self) -> None:
        while (round_ := self._queue.get()) is not None:
            if self.error is None:
                try:
                    self._write(round_)
                except Exception as error:
                    self.error = error
            if round_.slot is not None:
                self._free.put(round_.slot)
            self._tickets.put(None)

    def _write(self, round_: Round) -> None:
        loss = round_.loss()
        if not math.isfinite(loss):
            raise NotRecordable(f"the loss of round {round_.number} is {loss}; the trace ends before it")
        if round_.slot is None or round_.inputs is None:
            self.recorder.loss(round_.number, loss)
        else:
            round_.slot.ready()
            _, thinned = self.recorder.round(round_.number, loss, *self._arrays(round_), round_.slot.bytes)
            self.thinned = self.thinned or thinned
        self.rounds = round_.number

    def _arrays(self, round_: Round) -> tuple[int, list[Any], Any]:
        assert round_.inputs is not None
        inputs = [joined(name, parts) for name, parts in round_.inputs.items()]
        targets = joined("targets", round_.targets) if round_.targets is not None else None
        batch = inputs[0][2][0]
        if targets is not None and round_.check is not None and round_.targets is not None:
            news = round_.check(round_.targets)
            if news:
                self._describe(news)
        if round_.targets_are_inputs and targets is not None:
            if not np.array_equal(targets[3], inputs[0][3]):
                raise NotRecordable(
                    f"the targets of round {round_.number} are not its inputs, as in the rounds before; train on both in two recordings"
                )
            targets = None
        return batch, inputs, targets


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
