"""The processes of `torch.distributed`, each with its share of the rounds.

Rank 0 runs the search. For each sum that it needs it tells the others what to add up, and one all-reduce sums it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Team", "TeamError"]

_OPERATIONS = ("end", "open", "evaluate", "linearize", "products", "displacement", "quadratics")
# Numbers of a message: the operation, its own numbers, and how long its vector is.
_HEADER = 8


class TeamError(RuntimeError):
    """Another process failed; its own output says why."""


class Worker(Protocol):
    """Who does a process's share."""

    def do(self, operation: str, numbers: list[int], vector: Tensor) -> Tensor:
        """What it adds to a sum."""
        ...

    def size_of(self, operation: str, numbers: list[int], vector: Tensor) -> int:
        """How many numbers that sum has."""
        ...


class Team:
    """This process among those that share the rounds; alone, unless `torch.distributed` is initialized."""

    def __init__(self, device: torch.device, dtype: torch.dtype = torch.float64) -> None:
        together = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if together else 0
        self.size = dist.get_world_size() if together else 1
        # NCCL moves what is on the accelerator, gloo what is in memory.
        self._device = device if together and dist.get_backend() == "nccl" else torch.device("cpu")
        self._dtype = dtype
        self.worker: Worker | None = None

    @property
    def share(self) -> tuple[int, int]:
        return self.rank, self.size

    def sum(self, operation: str, numbers: Sequence[int], vector: Tensor) -> Tensor:
        """What all processes find for an operation, summed; called by rank 0, while the others `serve`.

        Raises:
            TeamError: if another process failed.
        """
        assert self.worker is not None
        if self.size == 1:
            return self.worker.do(operation, list(numbers), vector)
        self._tell(operation, numbers, vector)
        return self._reduce(operation, list(numbers), vector)

    def _tell(self, operation: str, numbers: Sequence[int], vector: Tensor | None) -> None:
        length = 0 if vector is None else vector.numel()
        header = [_OPERATIONS.index(operation), len(numbers), *numbers, *[0] * (_HEADER - 3 - len(numbers)), length]
        dist.broadcast(torch.tensor(header, dtype=torch.int64, device=self._device), 0)
        if vector is not None and length:
            dist.broadcast(vector.detach().flatten().to(self._device, self._dtype).contiguous(), 0)

    def _reduce(self, operation: str, numbers: list[int], vector: Tensor) -> Tensor:
        """One all-reduce; its last number counts the processes that failed."""
        assert self.worker is not None
        failure: BaseException | None = None
        try:
            mine = self.worker.do(operation, numbers, vector)
        except Exception as error:  # noqa: BLE001 - the others wait for this process's share, whatever went wrong
            failure, mine = error, None
        size = self.worker.size_of(operation, numbers, vector)
        total = torch.zeros(size + 1, device=self._device, dtype=self._dtype)
        if mine is not None:
            total[:-1] = mine.detach().flatten().to(self._device, self._dtype)
        else:
            total[-1] = 1
        dist.all_reduce(total)
        if failure is not None:
            raise failure
        if total[-1] > 0:
            raise TeamError(f"{int(total[-1])} of {self.size} processes failed; their own output says why")
        return total[:-1].to(vector.device)

    def serve(self, worker: Worker, device: torch.device) -> None:
        """Does this process's share until rank 0 ends it. A failure here is raised then, as rank 0 has to hear of it first."""
        self.worker = worker
        failure: BaseException | None = None
        while True:
            header = torch.zeros(_HEADER, dtype=torch.int64, device=self._device)
            dist.broadcast(header, 0)
            operation, count, *rest = header.tolist()
            name, length = _OPERATIONS[operation], rest[-1]
            if name == "end":
                break
            vector = torch.zeros(length, device=self._device, dtype=self._dtype)
            if length:
                dist.broadcast(vector, 0)
            try:
                self._reduce(name, rest[:count], vector.to(device))
            except TeamError:
                pass
            except Exception as error:  # noqa: BLE001
                failure = failure or error
        if failure is not None:
            raise failure

    def end(self) -> None:
        """Lets the others go."""
        if self.size > 1 and self.rank == 0:
            self._tell("end", [], None)

    def gather(self, mine: Tensor) -> Tensor:
        """The sum over processes, for all of them."""
        if self.size == 1:
            return mine
        total = mine.detach().to(self._device, self._dtype)
        dist.all_reduce(total)
        return total.to(mine.device)

    def same(self, value: Any) -> Any:
        """What rank 0 has, for all."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, 0)
        return box[0]
