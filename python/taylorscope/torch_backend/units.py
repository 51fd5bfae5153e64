"""Units of a model: the network, its modules with parameters of their own, and the rows of their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Layout", "Module", "Unit", "layout_of"]


@dataclass(frozen=True)
class Module:
    """A module with trainable parameters of its own."""

    name: str
    words: str
    """What the page calls it."""
    parameters: tuple[str, ...]
    rows: int
    """Neurons: rows of the first axis of its first parameter."""
    with_rows: tuple[str, ...]
    """Parameters whose first axis has these rows: of a neuron's weights each has one."""


@dataclass(frozen=True)
class Unit:
    """A scale (`network`, `layer` or `neuron`) with the module's number and the neuron's row."""

    scale: str
    layer: int | None = None
    neuron: int | None = None


class Layout:
    """Modules and parameters of a model in a fixed order; vectors of a unit are the parameters one after the other, flattened."""

    def __init__(self, modules: Sequence[Module], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.modules = list(modules)
        self.shapes = dict(shapes)

    def parameters(self, unit: Unit) -> tuple[str, ...]:
        """Names of the parameters that move with a unit."""
        if unit.scale == "network":
            return tuple(self.shapes)
        module = self.modules[unit.layer or 0]
        return module.parameters if unit.scale == "layer" else module.with_rows

    def dimension(self, unit: Unit) -> int:
        """Weights of a unit."""
        sizes = sum(int(np.prod(self.shapes[name], dtype=np.int64)) for name in self.parameters(unit))
        return sizes // self.modules[unit.layer or 0].rows if unit.scale == "neuron" else sizes

    def split(self, names: Sequence[str], vector: Tensor) -> dict[str, Tensor]:
        """A vector `[..., dimension]` as tensors in the shapes of these parameters."""
        sizes = [int(np.prod(self.shapes[name], dtype=np.int64)) for name in names]
        parts = vector.split(sizes, dim=-1)
        return {name: part.reshape(*vector.shape[:-1], *self.shapes[name]) for name, part in zip(names, parts)}

    def units(self, scales: Sequence[str], neurons: int | None) -> list[Unit]:
        """The units of some scales, small ones first; of the neurons of a module as many, evenly spaced, or all."""
        found: list[Unit] = []
        if "neuron" in scales:
            for layer, module in enumerate(self.modules):
                found += [Unit("neuron", layer, row) for row in _spaced(module.rows, neurons)]
        if "layer" in scales:
            found += [Unit("layer", layer) for layer in range(len(self.modules))]
        if "network" in scales:
            found.append(Unit("network"))
        return found

    def norms(self, tensors: Mapping[str, Tensor], units: Sequence[Unit]) -> NDArray[np.float64]:
        """`[units, rounds]`: Euclidean norms of the parts of units in tensors `[rounds, ...]`."""
        squares = {name: tensor.double().square() for name, tensor in tensors.items()}
        total = {name: square.reshape(len(square), -1).sum(1) for name, square in squares.items()}
        rows: dict[int, Tensor] = {}
        out = []
        for unit in units:
            if unit.scale == "neuron":
                layer = unit.layer or 0
                if layer not in rows:
                    module = self.modules[layer]
                    rows[layer] = sum(squares[name].reshape(len(squares[name]), module.rows, -1).sum(2) for name in module.with_rows)
                out.append(rows[layer][:, unit.neuron])
            else:
                out.append(torch.stack([total[name] for name in self.parameters(unit)]).sum(0))
        return torch.stack(out).sqrt().cpu().numpy()


def _spaced(count: int, wanted: int | None) -> list[int]:
    """As many places as wanted, evenly spaced; all without a wish."""
    if wanted is None or wanted >= count:
        return list(range(count))
    return [place * count // wanted for place in range(wanted)]


def _words(name: str, module: nn.Module, rows: int) -> str:
    shape = tuple(next(module.parameters(recurse=False)).shape)
    kind = type(module).__name__
    if isinstance(module, nn.Linear):
        kind = f"Linear {module.in_features} -> {module.out_features}"
    elif len(shape) > 1:
        kind = f"{kind} {' x '.join(map(str, shape))}"
    else:
        kind = f"{kind} {rows}"
    return f"{name}: {kind}" if name else kind


def layout_of(model: nn.Module, trainable: set[str]) -> Layout:
    """The layout of a model's trainable parameters. One that several modules share belongs to the first of them."""
    modules = []
    shapes: dict[str, tuple[int, ...]] = {}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for name, module in model.named_modules():
        own = [names[id(parameter)] for parameter in module.parameters(recurse=False)]
        own = [parameter for parameter in own if parameter in trainable and parameter not in shapes]
        if not own:
            continue
        tensors = {parameter: model.get_parameter(parameter) for parameter in own}
        shapes.update({parameter: tuple(tensor.shape) for parameter, tensor in tensors.items()})
        first = tensors[own[0]]
        rows = first.shape[0] if first.dim() > 0 else 1
        with_rows = tuple(p for p in own if tensors[p].dim() > 0 and tensors[p].shape[0] == rows) or (own[0],)
        modules.append(Module(name, _words(name, module, rows), tuple(own), rows, with_rows))
    return Layout(modules, shapes)
