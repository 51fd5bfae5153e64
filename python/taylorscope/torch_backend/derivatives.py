"""Units whose derivative of the outputs in the weights that move is computed once and kept: neurons, and larger ones where there is room.

With `G: [outputs of a minibatch, weights]` a unit's Taylor loss is that of a linear model, `l(f + G (u - (W^n - W^1)))`, and products are small matrix
products. For the mean squared error and few weights the mean over a prefix is a dense quadratic, which is handed over as that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import jacfwd, jacrev, jvp, vmap

from taylorscope.torch_backend.losses import Loss
from taylorscope.torch_backend.products import Passes, Problem
from taylorscope.torch_backend.rounds import Loaded, Rounds
from taylorscope.torch_backend.team import Team
from taylorscope.torch_backend.units import Layout, Unit

__all__ = ["Derivatives", "KeptProblem"]

# A unit with more weights than this is not made a dense quadratic.
DENSE = 400
# The derivative of a larger unit is worth keeping up to so many passes a round; its search takes as many products.
PASSES = 256


@dataclass
class Kept:
    """A unit in some rounds of equal minibatches."""

    rounds: list[int]
    derivative: Tensor
    """`[rounds, outputs, weights]`"""
    outputs: Tensor
    targets: Tensor
    displacements: Tensor


class KeptSection:
    """A section of kept derivatives."""

    def __init__(self, kept: Kept, key: tuple[int, int, int]) -> None:
        _, low, high = self.key = key
        self._derivative = kept.derivative[low:high]
        self._displacements = kept.displacements[low:high]
        self.outputs, self.targets = kept.outputs[low:high], kept.targets[low:high]

    def displacements(self) -> Tensor:
        return self._displacements

    def jvp(self, tangents: Tensor) -> Tensor:
        moved = torch.bmm(self._derivative, tangents.to(self._derivative.dtype).unsqueeze(2))
        return moved.reshape(self.outputs.shape)

    def vjp(self, cotangents: Tensor) -> Tensor:
        flat = cotangents.to(self._derivative.dtype).flatten(1)
        return torch.bmm(flat.unsqueeze(1), self._derivative).sum((0, 1))


class KeptSections:
    """The sections of a unit."""

    def __init__(self, all_kept: Sequence[Kept], dimension: int) -> None:
        self._kept, self.dimension = all_kept, dimension

    def between(self, start: int, end: int, _dtype: torch.dtype) -> Iterator[KeptSection]:
        for number, kept in enumerate(self._kept):
            low, high = np.searchsorted(kept.rounds, [start, end])
            if low < high:
                yield KeptSection(kept, (number, int(low), int(high)))


class Derivatives:
    """The derivatives of some units of a scale, in groups that fit in memory."""

    def __init__(
        self,
        rounds: Rounds,
        layout: Layout,
        passes: Passes,
        loss: Loss,
        units: Sequence[Unit],
        outputs: tuple[int, int],
        independent: bool,
        room: int,
        dtype: torch.dtype,
    ) -> None:
        self._rounds, self._layout, self._passes, self._loss = rounds, layout, passes, loss
        self._independent, self._dtype = independent, dtype
        # Datapoints and outputs of a minibatch.
        self._batch, self._outputs = outputs
        self._room = room
        self._groups = self._grouped(units)
        self._group: list[Unit] = []
        self._kept: dict[Unit, list[Kept]] = {}
        self._quadratics: dict[Unit, Tensor] = {}
        self._of_prefixes: list[int] = []

    def is_dense(self, unit: Unit) -> bool:
        """Whether it is handed over as a dense quadratic."""
        return self._loss.is_quadratic and self._layout.dimension(unit) <= DENSE

    def fits(self, unit: Unit) -> bool:
        """Whether a unit's derivatives are worth their passes, and have room."""
        width = self._layout.dimension(unit)
        passes = min(self._outputs // self._batch, width) if self._independent else width
        return passes <= PASSES and self._bytes(unit) <= self._room

    def _bytes(self, unit: Unit) -> int:
        width = self._layout.dimension(unit)
        rounds = 1 if self.is_dense(unit) else max(len(self._rounds.mine), 1)
        return 8 * (self._outputs * width * rounds + 40 * width * width * self.is_dense(unit))

    def _grouped(self, units: Sequence[Unit]) -> list[list[Unit]]:
        groups: list[list[Unit]] = []
        used = 0
        for unit in units:
            needed = self._bytes(unit)
            if not groups or used + needed > self._room or self.is_dense(groups[-1][0]) != self.is_dense(unit):
                groups.append([])
                used = 0
            groups[-1].append(unit)
            used += needed
        return groups

    def _open(self, unit: Unit) -> None:
        if unit not in self._group:
            self._group = next(group for group in self._groups if unit in group)
            self._kept, self._quadratics, self._of_prefixes = {}, {}, []

    def sections(self, unit: Unit) -> KeptSections:
        """The derivatives of a unit, with those of its group if they are not kept yet."""
        self._open(unit)
        if not self._kept:
            self._kept = {unit: [] for unit in self._group}
            for r, loaded, derivatives, outputs in self._walk():
                for unit_, derivative in derivatives.items():
                    self._append(self._kept[unit_], unit_, r, loaded, derivative, outputs)
            for all_kept in self._kept.values():
                for kept in all_kept:
                    self._stack(kept)
        return KeptSections(self._kept[unit], self._layout.dimension(unit))

    def _append(self, all_kept: list[Kept], unit: Unit, r: int, loaded: Loaded, derivative: Tensor, outputs: Tensor) -> None:
        moved = self._displacement(unit, loaded)
        if not all_kept or all_kept[-1].outputs[-1].shape != outputs.shape:
            all_kept.append(Kept([], [], [], [], []))  # type: ignore[arg-type]  # lists until they are stacked
        kept = all_kept[-1]
        kept.rounds.append(r)
        for column, value in ((kept.derivative, derivative), (kept.outputs, outputs), (kept.targets, loaded.targets[0])):
            column.append(value)  # type: ignore[attr-defined]
        kept.displacements.append(moved)  # type: ignore[attr-defined]

    @staticmethod
    def _stack(kept: Kept) -> None:
        for name in ("derivative", "outputs", "targets", "displacements"):
            setattr(kept, name, torch.stack(getattr(kept, name)))

    def _rows(self, unit: Unit, name: str) -> list[int]:
        """Which rows of a parameter's first axis are of a unit."""
        return [unit.neuron or 0] if unit.scale == "neuron" else list(range(self._row_count(name)))

    def _row_count(self, name: str) -> int:
        return self._layout.shapes[name][0] if self._layout.shapes[name] else 1

    def _displacement(self, unit: Unit, loaded: Loaded) -> Tensor:
        parts = []
        for name in self._layout.parameters(unit):
            moved = (loaded.parameters[name][0].double() - self._rounds.first[name]).reshape(self._row_count(name), -1)
            parts.append(moved[self._rows(unit, name)].flatten())
        return torch.cat(parts)

    def quadratic_terms(self, unit: Unit, prefixes: list[int]) -> Tensor:
        """Per prefix this process's share of constant, linear term and matrix, one after the other: sums over rounds, not means."""
        self._open(unit)
        if self._of_prefixes != prefixes:
            self._of_prefixes = prefixes
            self._quadratics = self._accumulate(prefixes)
        return self._quadratics[unit]

    def _accumulate(self, prefixes: list[int]) -> dict[Unit, Tensor]:
        device = next(iter(self._rounds.first.values())).device
        sizes = {unit: self._layout.dimension(unit) for unit in self._group}
        sums = {unit: torch.zeros(1 + d + d * d, device=device, dtype=self._dtype) for unit, d in sizes.items()}
        out = {unit: torch.zeros(len(prefixes), len(s), device=device, dtype=self._dtype) for unit, s in sums.items()}
        at = 0

        def pass_prefixes(r: int) -> None:
            nonlocal at
            while at < len(prefixes) and prefixes[at] <= r:
                for unit, total in sums.items():
                    out[unit][at] = total
                at += 1

        for r, loaded, derivatives, outputs in self._walk():
            pass_prefixes(r)
            residual = (outputs - loaded.targets[0].reshape(outputs.shape)).flatten()
            share = 1.0 / residual.numel()
            for unit, derivative in derivatives.items():
                start = residual - derivative @ self._displacement(unit, loaded)
                linear = 2.0 * share * (derivative.T @ start)
                matrix = 2.0 * share * (derivative.T @ derivative)
                sums[unit] += torch.cat([share * start.square().sum().reshape(1), linear, matrix.flatten()])
        pass_prefixes(self._rounds.count)
        return out

    def _walk(self) -> Iterator[tuple[int, Loaded, dict[Unit, Tensor], Tensor]]:
        """Round by round the derivatives `[outputs, weights]` of all units of the group, and the outputs."""
        for chunk in self._rounds.chunks:
            loaded = self._rounds.load(chunk, self._dtype)
            for place, r in enumerate(chunk.rounds):
                part = loaded.part(place, place + 1)
                yield r, part, *self._derivatives(part)

    def _derivatives(self, loaded: Loaded) -> tuple[dict[Unit, Tensor], Tensor]:
        """Of one round, by as many passes as it has outputs for a datapoint or weights that move, whichever is less."""
        self._passes.functional.of_type(self._dtype)
        weights = {name: tensor[0] for name, tensor in loaded.parameters.items()}
        buffers = {name: tensor[0] for name, tensor in loaded.buffers.items()}
        inputs = {name: tensor[0] for name, tensor in loaded.inputs.items()}
        rows: dict[str, list[int]] = {}
        for unit in self._group:
            for name in self._layout.parameters(unit):
                rows.setdefault(name, []).extend(self._rows(unit, name))
        index = {name: torch.tensor(all_rows, device=weights[name].device) for name, all_rows in rows.items()}
        flat = {name: weights[name].reshape(self._row_count(name), -1) for name in rows}
        moving = {name: flat[name][index[name]] for name in rows}

        def outputs_of(moving: dict[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
            changed = {n: flat[n].index_copy(0, index[n], m).reshape(weights[n].shape) for n, m in moving.items()}
            return self._passes.functional(self._dtype, {**weights, **changed}, buffers, inputs)

        outputs = outputs_of(moving, inputs)
        count = sum(tensor.numel() for tensor in moving.values())
        if self._independent and outputs[0].numel() <= count:
            jacobian = self._reverse(outputs_of, moving, inputs)
        else:
            jacobian = self._forward(outputs_of, moving, inputs)
        flat_of = {name: values.reshape(outputs.numel(), len(rows[name]), -1) for name, values in jacobian.items()}
        derivatives = {}
        seen: dict[str, int] = {}
        for unit in self._group:
            parts = []
            for name in self._layout.parameters(unit):
                start = seen.get(name, 0)
                seen[name] = start + len(self._rows(unit, name))
                parts.append(flat_of[name][:, start : seen[name]].flatten(1))
            derivatives[unit] = torch.cat(parts, dim=1)
        return derivatives, outputs

    def _reverse(self, function, moving: dict[str, Tensor], inputs: dict[str, Tensor]) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
        """A backward pass for each output of a datapoint, all datapoints at once."""

        def one(moving: dict[str, Tensor], single: dict[str, Tensor]) -> Tensor:
            return function(moving, {name: tensor.unsqueeze(0) for name, tensor in single.items()})[0].flatten()

        try:
            return vmap(jacrev(one), in_dims=(None, 0))(moving, inputs)
        except (RuntimeError, NotImplementedError):
            self._independent = False
            return self._forward(function, moving, inputs)

    def _forward(self, function, moving: dict[str, Tensor], inputs: dict[str, Tensor]) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
        """A tangent for each weight that moves, through the whole minibatch."""
        of_moving = lambda moving: function(moving, inputs).flatten()  # noqa: E731
        try:
            return jacfwd(of_moving)(moving)
        except (RuntimeError, NotImplementedError):
            columns: dict[str, Tensor] = {}
            for name, tensor in moving.items():
                found = []
                for place in range(tensor.numel()):
                    tangents = {other: torch.zeros_like(value) for other, value in moving.items()}
                    tangents[name].view(-1)[place] = 1
                    found.append(self._passes.jvp(of_moving, moving, tangents)[1])
                columns[name] = torch.stack(found, dim=1).reshape(-1, *tensor.shape)
            return columns


class KeptProblem(Problem):
    """The Taylor losses of a unit by its derivatives."""

    def __init__(self, unit: Unit, derivatives: Derivatives, layout: Layout, loss: Loss, team: Team, device: torch.device, dtype: torch.dtype) -> None:
        self._unit, self._derivatives = unit, derivatives
        self._dense = derivatives.is_dense(unit)
        sections = KeptSections([], layout.dimension(unit)) if self._dense else derivatives.sections(unit)
        super().__init__(sections, loss, team, device, dtype)

    def quadratics(self, prefixes: list[int]) -> tuple[NDArray[np.float64], ...] | None:
        if not self._dense:
            return None
        lengths = torch.tensor(prefixes, dtype=self._wide, device=self._device)
        total = self._team.sum("quadratics", [len(prefixes)], lengths).reshape(len(prefixes), -1) / lengths.unsqueeze(1)
        found, d = total.double().cpu().numpy(), self.dimension
        return tuple(map(np.ascontiguousarray, (found[:, 0], found[:, 1 : 1 + d], found[:, 1 + d :].reshape(-1, d, d))))

    def do(self, operation: str, numbers: list[int], vector: Tensor) -> Tensor:
        if operation == "quadratics":
            return self._derivatives.quadratic_terms(self._unit, [int(n) for n in vector.tolist()]).flatten()
        return super().do(operation, numbers, vector)

    def size_of(self, operation: str, numbers: list[int], vector: Tensor) -> int:
        if operation == "quadratics":
            return numbers[0] * (1 + self.dimension + self.dimension**2)
        return super().size_of(operation, numbers, vector)
