"""Taylor losses of a unit and their products, by `torch.func`, as the certified search calls them.

For round `n` the outputs are approximated by `f + J (V - W^n)` (`docs/theory.md`, section 2). Everything that the search asks for is made of
`J t` and `J' c` in the recorded states: values and gradients in double precision, products with the curvature in the type that is cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import jvp, vjp, vmap

from taylorscope.torch_backend.losses import Loss
from taylorscope.torch_backend.model import Functional
from taylorscope.torch_backend.rounds import Loaded, Rounds
from taylorscope.torch_backend.team import Team
from taylorscope.torch_backend.units import Layout, Unit

__all__ = ["PassSections", "Passes", "Problem", "Section", "Sections"]

Tensors = dict[str, Tensor]


class Passes:
    """Passes through the rounds of a chunk, all at once (`vmap` over rounds) where that pays, else one by one."""

    def __init__(self, functional: Functional) -> None:
        self.functional = functional
        self.vectorized = True
        # What a forward pass through a round keeps for its derivative.
        self.bytes_of_round = 0
        # Where an operation has no forward-mode derivative, `J t` comes of differentiating `J' c` in `c`.
        self.forward_mode = True

    def function(self, loaded: Loaded, names: Sequence[str], dtype: torch.dtype) -> Callable[[Tensors], Tensor]:
        """The outputs `[rounds, batch, ...]` as a function of the parameters `names`, each `[rounds, ...]`."""
        fixed = {name: tensor for name, tensor in loaded.parameters.items() if name not in names}
        # Made here, as nothing can be cast inside of a transform.
        self.functional.of_type(dtype)

        def one(moving: Tensors, fixed: Tensors, buffers: Tensors, inputs: Tensors) -> Tensor:
            return self.functional(dtype, {**fixed, **moving}, buffers, inputs)

        def stacked(moving: Tensors) -> Tensor:
            if self.vectorized:
                return vmap(one)(moving, fixed, loaded.buffers, loaded.inputs)
            at = lambda tensors, r: {name: tensor[r] for name, tensor in tensors.items()}  # noqa: E731
            rounds = range(len(loaded.targets))
            return torch.stack([one(*(at(t, r) for t in (moving, fixed, loaded.buffers, loaded.inputs))) for r in rounds])

        return stacked

    def jvp(self, function: Callable[[Tensors], Tensor], at: Tensors, tangents: Tensors) -> tuple[Tensor, Tensor]:
        """The outputs, and `J t`."""
        if self.forward_mode:
            try:
                return jvp(function, (at,), (tangents,))
            except (RuntimeError, NotImplementedError) as error:
                if "forward" not in str(error).lower():
                    raise
                self.forward_mode = False
        outputs = function(at)
        pull_back = lambda cotangents: vjp(function, at)[1](cotangents)[0]  # noqa: E731
        return outputs, vjp(pull_back, torch.zeros_like(outputs))[1](tangents)[0]


class Section(Protocol):
    """Some rounds of a chunk, linearized in the weights of a unit."""

    outputs: Tensor
    """`f`, `[rounds, batch, ...]`; known once `jvp` was called."""
    targets: Tensor
    key: tuple[int, int, int]
    """The chunk's number and which of its rounds."""

    def displacements(self) -> Tensor:
        """`W^n - W^1`, `[rounds, dimension]`, in double precision."""
        ...

    def jvp(self, tangents: Tensor) -> Tensor:
        """`J t`, `[rounds, batch, ...]`, for `t: [rounds, dimension]`."""
        ...

    def vjp(self, cotangents: Tensor) -> Tensor:
        """The sum over the rounds of `J' c`, `[dimension]`, in double precision."""
        ...


class Sections(Protocol):
    """Where the sections of a unit come from."""

    dimension: int

    def between(self, start: int, end: int, dtype: torch.dtype) -> Iterator[Section]:
        """Those of this process's rounds in a range."""
        ...


class PassSection:
    """A section by passes through the model."""

    def __init__(self, owner: PassSections, key: tuple[int, int, int], loaded: Loaded, dtype: torch.dtype) -> None:
        self._owner, self._loaded = owner, loaded
        self._moving = {name: loaded.parameters[name] for name in owner.names}
        self._function = owner.passes.function(loaded, owner.names, dtype)
        self._pull: Callable[[Tensor], tuple[Tensors]] | None = None
        self._dtype = dtype
        self.targets, self.key = loaded.targets, key

    def displacements(self) -> Tensor:
        return self._owner.rounds.displacements(self._moving, self._owner.names)

    def jvp(self, tangents: Tensor) -> Tensor:
        split = self._owner.layout.split(self._owner.names, tangents.to(self._dtype))
        self.outputs, moved = self._owner.passes.jvp(self._function, self._moving, split)
        return moved

    def vjp(self, cotangents: Tensor) -> Tensor:
        if self._pull is None:
            self._pull = vjp(self._function, self._moving)[1]
        pulled = self._pull(cotangents)[0]
        return torch.cat([pulled[name].double().sum(0).flatten() for name in self._owner.names])


class PassSections:
    """The sections of the network or of a module, by passes through the model.

    Those of whole chunks are kept with what their derivative needs, as far as there is room.
    """

    def __init__(self, rounds: Rounds, layout: Layout, passes: Passes, unit: Unit, room: int) -> None:
        self.rounds, self.layout, self.passes = rounds, layout, passes
        self.names = layout.parameters(unit)
        self.dimension = layout.dimension(unit)
        self._room = room
        self._kept: dict[tuple[int, torch.dtype], PassSection] = {}

    def between(self, start: int, end: int, dtype: torch.dtype) -> Iterator[PassSection]:
        for number, chunk in enumerate(self.rounds.chunks):
            low, high = chunk.within(start, end)
            if low == high:
                continue
            whole = high - low == len(chunk.rounds)
            section = self._kept.get((number, dtype)) if whole else None
            if section is None:
                section = PassSection(self, (number, low, high), self.rounds.load(chunk, dtype).part(low, high), dtype)
                needed = 2 * self.passes.bytes_of_round * (high - low)
                if whole and needed <= self._room:
                    self._room -= needed
                    self._kept[number, dtype] = section
            yield section


class Problem:
    """The Taylor losses of a unit over the analysed rounds, as functions of the displacement `u = V - W^1: [dimension]`.

    What is summed over rounds is summed over all processes: `Team` has the other ones do their share.
    """

    def __init__(self, sections: Sections, loss: Loss, team: Team, device: torch.device, dtype: torch.dtype) -> None:
        self._sections, self._loss, self._team = sections, loss, team
        self._device, self._dtype = device, dtype
        self._wide = torch.float64 if device.type != "mps" else torch.float32
        self.dimension = sections.dimension
        self.is_quadratic = loss.is_quadratic
        # The last point that was evaluated with the outputs there, and the outputs at which the curvature is taken.
        self._last: tuple[NDArray[np.float64], int, dict[int, Tensor]] | None = None
        self._at: dict[int, Tensor] = {}

    def _vector(self, values: NDArray[np.floating]) -> Tensor:
        return torch.from_numpy(np.array(values)).to(self._device, self._wide)

    def evaluate(self, rounds: int, u: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The mean of the first Taylor losses at `u`, and its gradient."""
        total = self._team.sum("evaluate", [rounds], self._vector(u)) / rounds
        return float(total[0]), total[1:].double().cpu().numpy()

    def linearize(self, rounds: int, u: NDArray[np.float64]) -> None:
        """Takes the Hessians of the loss at the outputs predicted for `u`."""
        self._team.sum("linearize", [rounds], self._vector(u))

    def ggn_products(self, start: int, end: int, directions: NDArray[np.float32]) -> NDArray[np.float32]:
        """The curvature times directions `[directions, dimension]`: the sum over rounds `start..end`, divided by `end`."""
        total = self._team.sum("products", [start, end], self._vector(directions)) / end
        return np.ascontiguousarray(total.reshape(directions.shape).float().cpu().numpy())

    def mean_displacement(self, start: int, end: int) -> NDArray[np.float64]:
        """The mean of `W^n - W^1` over rounds."""
        total = self._team.sum("displacement", [start, end], torch.zeros(0, device=self._device, dtype=self._wide))
        return (total / (end - start)).double().cpu().numpy()

    def precondition(self, _multiplier: float, _residual: NDArray[np.float64]) -> None:
        return None

    def quadratics(self, _prefixes: list[int]) -> tuple[NDArray[np.float64], ...] | None:
        return None

    # What each process does of it.

    def do(self, operation: str, numbers: list[int], vector: Tensor) -> Tensor:
        """This process's share of a sum."""
        if operation == "evaluate":
            return self._evaluate(numbers[0], vector, keep=not self.is_quadratic)
        if operation == "linearize":
            return self._linearize(numbers[0], vector)
        if operation == "products":
            return self._products(numbers[0], numbers[1], vector.reshape(-1, self.dimension)).flatten()
        assert operation == "displacement"
        total = torch.zeros(self.dimension, device=self._device, dtype=self._wide)
        for section in self._sections.between(numbers[0], numbers[1], self._wide):
            total += section.displacements().sum(0)
        return total

    def size_of(self, operation: str, _numbers: list[int], vector: Tensor) -> int:
        """How many numbers `do` gives."""
        sizes = {"evaluate": 1 + self.dimension, "linearize": 0, "products": vector.numel(), "displacement": self.dimension}
        return sizes[operation]

    def _predict(self, section: Section, u: Tensor) -> Tensor:
        """`f + J (u - (W^n - W^1))`."""
        moved = section.jvp(u - section.displacements())
        return section.outputs + moved

    def _evaluate(self, rounds: int, u: Tensor, keep: bool) -> Tensor:
        total = torch.zeros(1 + self.dimension, device=self._device, dtype=self._wide)
        predicted: dict[int, Tensor] = {}
        for section in self._sections.between(0, rounds, self._wide):
            outputs = self._predict(section, u)
            values, gradient = self._loss.value_gradient(outputs, section.targets)
            total[0] += values.sum()
            total[1:] += section.vjp(gradient)
            predicted[section.key[0]] = outputs
        if keep:
            self._last = (u.cpu().numpy(), rounds, predicted)
        return total

    def _linearize(self, rounds: int, u: Tensor) -> Tensor:
        known = self._last
        if known is None or known[1] != rounds or not np.array_equal(known[0], u.cpu().numpy()):
            predicted = {s.key[0]: self._predict(s, u) for s in self._sections.between(0, rounds, self._wide)}
        else:
            predicted = known[2]
        self._at = {number: outputs.to(self._dtype) for number, outputs in predicted.items()}
        return u[:0]

    def _products(self, start: int, end: int, directions: Tensor) -> Tensor:
        total = torch.zeros(directions.shape, device=self._device, dtype=self._wide)
        for section in self._sections.between(start, end, self._dtype):
            number, low, high = section.key
            for row, direction in zip(total, directions):
                moved = section.jvp(direction.to(self._dtype).expand(high - low, -1))
                at = moved if self.is_quadratic else self._at[number][low:high]
                row += section.vjp(self._loss.hessian_product(at, section.targets, moved))
        return total
