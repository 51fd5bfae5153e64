"""Layers put together, one step of a model after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from taylorscope.convert.graph import Step


class Obstacle(Exception):
    """What stands in the way of a conversion."""


@dataclass
class Converted:
    """`layers` as in experiment files; `parameters`: from the engine's names (`"0.weight"`) to the model's."""

    layers: list[Any]
    parameters: dict[str, str]
    loss: str
    # The shape of one input where it is another than that of the tensor, with the same values in the same order.
    input: list[int] | None = None


class Chain:
    """The layers so far, and the shape of what comes out of them."""

    def __init__(self, model: nn.Module, shape: list[int], loss: str) -> None:
        self.layers: list[Any] = []
        self.parameters: dict[str, str] = {}
        self.shape = list(shape)
        self.loss = loss
        self._given = list(shape)
        self._input = list(shape)
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._used: dict[int, str] = {}
        self._ended: str | None = None
        every = list(model.named_parameters(remove_duplicate=False))
        names: dict[int, str] = {}
        for name, parameter in every:
            if id(parameter) in names:
                raise Obstacle(f"{name} and {names[id(parameter)]} are one tensor (weight tying)")
            names[id(parameter)] = name

    def take(self, step: Step) -> None:
        """Takes the next step of the model."""
        from taylorscope.convert.rules import apply

        if self._ended is not None:
            self.refuse(step, f"stands behind {self._ended}")
        apply(self, step)

    def refuse(self, step: Step, why: str) -> None:
        """Raises what stands in the way, with the name of the step and its line."""
        kind = type(step.operation).__name__ if isinstance(step.operation, nn.Module) else None
        what = f"{step.name} ({kind})" if kind and step.name else kind or step.name
        raise Obstacle(f"{what}{f', {step.line},' if step.line else ''} {why}")

    # What rules do.

    def weights(self, step: Step, layer: Any, weight: Tensor, bias: Tensor | None, shape: list[int]) -> None:
        """A layer with weights."""
        for kind, tensor in (("weight", weight), ("bias", bias)):
            if tensor is None:
                continue
            if id(tensor) not in self._names:
                self.refuse(step, f"has a {kind} that is no parameter of the model")
            if id(tensor) in self._used:
                self.refuse(step, f"uses {self._names[id(tensor)]} a second time (weight tying)")
            self._used[id(tensor)] = self._names[id(tensor)]
            self.parameters[f"{len(self.layers)}.{kind}"] = self._names[id(tensor)].replace("_orig_mod.", "")
        self.layers.append(layer)
        self.shape = shape

    def rectifier(self, step: Step, layer: Any, monotone: bool = True) -> None:
        """A rectifier. One that grows may as well stand before max-pools and `flatten`, where the engine has it."""
        at = len(self.layers)
        while monotone and at > 0 and (self.layers[at - 1] == "flatten" or _name(self.layers[at - 1]) == "max_pool"):
            at -= 1
        if at == 0 or _name(self.layers[at - 1]) not in ("dense", "conv"):
            self.refuse(step, "is a rectifier that does not stand directly behind a layer with weights")
        self.layers.insert(at, layer)

    def pool(self, step: Step, kind: str, size: int, stride: int) -> None:
        """A pool of square windows."""
        if len(self.shape) != 3:
            self.refuse(step, f"pools values of shape {self.shape}, which are no image [channels, height, width]")
        channels, *sides = self.shape
        if any(side < size or (side - size) % stride for side in sides):
            self.refuse(step, f"leaves out what its windows of side {size} and stride {stride} do not fill of {sides[0]} x {sides[1]}")
        self.layers.append({kind: {"size": size, "stride": stride}})
        self.shape = [channels, *((side - size) // stride + 1 for side in sides)]

    def flatten(self) -> None:
        """An image as a vector."""
        if len(self.shape) > 1 and not self.layers:
            self._input = [math.prod(self.shape)]
        elif len(self.shape) > 1:
            self.layers.append("flatten")
        self.shape = [math.prod(self.shape)]

    def reshape(self, step: Step, shape: list[int]) -> None:
        """Other shapes than a vector are possible for the input alone."""
        if len(shape) == 1:
            self.flatten()
        elif self.layers and shape != self.shape:
            self.refuse(step, f"turns {self.shape} into {shape} between layers")
        else:
            self._input = self.shape = shape

    def end(self, what: str) -> None:
        """Nothing may come behind this."""
        self._ended = what

    def finish(self) -> Converted:
        """The whole list."""
        if not self.layers:
            raise Obstacle("the model has no layers")
        if _name(self.layers[-1]) != "dense":
            raise Obstacle(f"the model ends in {_name(self.layers[-1])}; the engine's networks end in a linear layer")
        unused = [name for key, name in self._names.items() if key not in self._used]
        if unused:
            raise Obstacle(f"the parameter {unused[0]} belongs to no layer of the list")
        changed = self._input if self._input != self._given else None
        return Converted(self.layers, self.parameters, self.loss, changed)


def _name(layer: Any) -> str:
    return layer if isinstance(layer, str) else next(iter(layer))
