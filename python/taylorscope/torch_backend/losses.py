"""Losses of the outputs of stacked minibatches: value, gradient and Hessian products.

`outputs` are `[rounds, batch, ...]`; a loss maps those of a round to a number. Mean squared error and cross-entropy have their Hessians written
out (`docs/theory.md`, section 1); any other convex loss goes through its own function, differentiated twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vjp, vmap
from torch.nn import functional as F

__all__ = ["CrossEntropy", "CustomLoss", "Loss", "MeanSquaredError", "loss_of"]


class Loss(Protocol):
    """What the backend needs of a loss."""

    name: str
    is_quadratic: bool

    def value_gradient(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each round `[rounds]` and its gradient `[rounds, batch, ...]`."""
        ...

    def hessian_product(self, outputs: Tensor, targets: Tensor, tangents: Tensor) -> Tensor:
        """The Hessian at the outputs times tangents, all `[rounds, batch, ...]`."""
        ...


class MeanSquaredError:
    """`mean (f - y)^2` over the outputs of a minibatch."""

    name = "mse"
    is_quadratic = True

    def value_gradient(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        residual = outputs - targets.reshape(outputs.shape)
        return residual.square().flatten(1).mean(1), residual * (2.0 / outputs[0].numel())

    def hessian_product(self, outputs: Tensor, targets: Tensor, tangents: Tensor) -> Tensor:
        return tangents * (2.0 / tangents[0].numel())


class CrossEntropy:
    """`mean (log sum exp f - f_y)`; classes on the axis behind the batch, as in `torch.nn.functional.cross_entropy`."""

    name = "cross_entropy"
    is_quadratic = False

    def value_gradient(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logs = outputs.log_softmax(2)
        places = targets.unsqueeze(2)
        value = -logs.gather(2, places).flatten(1).mean(1)
        gradient = logs.exp().scatter_add(2, places, -torch.ones_like(places, dtype=logs.dtype))
        return value, gradient / targets[0].numel()

    def hessian_product(self, outputs: Tensor, targets: Tensor, tangents: Tensor) -> Tensor:
        p = outputs.softmax(2)
        moved = p * tangents
        return (moved - p * moved.sum(2, keepdim=True)) / targets[0].numel()


class CustomLoss:
    """A convex function `criterion(outputs, targets)` of the outputs of a minibatch, differentiated by `torch.func`."""

    is_quadratic = False

    def __init__(self, criterion: Callable[..., Tensor], name: str) -> None:
        self.name = name
        self._criterion = criterion
        self._vectorized = True

    def _value(self, outputs: Tensor, targets: Tensor) -> Tensor:
        value = self._criterion(outputs, targets)
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"the criterion returned {found}, not one number for the minibatch; reduce it by a mean")
        return value.reshape(())

    def _over_rounds(self, function: Callable[..., Any], *arguments: Tensor) -> Any:
        """The function for each round, vectorized unless the criterion does not allow that."""
        if self._vectorized:
            try:
                return vmap(function)(*arguments)
            except (RuntimeError, NotImplementedError):
                self._vectorized = False
        each = [function(*(argument[r] for argument in arguments)) for r in range(len(arguments[0]))]
        if isinstance(each[0], tuple):
            return tuple(torch.stack(column) for column in zip(*each))
        return torch.stack(each)

    def value_gradient(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        gradient, value = self._over_rounds(grad_and_value(self._value), outputs, targets)
        return value, gradient

    def hessian_product(self, outputs: Tensor, targets: Tensor, tangents: Tensor) -> Tensor:
        def product(f: Tensor, y: Tensor, t: Tensor) -> Tensor:
            gradient = torch.func.grad(self._value)
            # The Hessian is symmetric, and more functions can be differentiated backward twice than forward.
            return vjp(lambda at: gradient(at, y), f)[1](t)[0]

        return self._over_rounds(product, outputs, targets, tangents)


def _is_plain(criterion: nn.Module) -> bool:
    """Whether a module of PyTorch has its default settings, as far as they change the loss."""
    plain = getattr(criterion, "reduction", "mean") == "mean" and getattr(criterion, "weight", None) is None
    return plain and getattr(criterion, "label_smoothing", 0.0) == 0.0


def loss_of(criterion: Any, recorded: str) -> Loss:
    """The loss that a criterion is: a module, a function, a name, or None for the one that the trace names.

    Raises:
        ValueError: if the trace names a loss that only a criterion can compute, and there is none.
        TypeError: if the criterion cannot be called.
    """
    if type(criterion) is nn.MSELoss and _is_plain(criterion) or criterion is F.mse_loss:
        return MeanSquaredError()
    if type(criterion) is nn.CrossEntropyLoss and _is_plain(criterion) or criterion is F.cross_entropy:
        return CrossEntropy()
    if callable(criterion):
        return CustomLoss(criterion, recorded if recorded not in ("mse", "cross_entropy") else _name(criterion))
    named: dict[str, Callable[[], Loss]] = {"mse": MeanSquaredError, "cross_entropy": CrossEntropy}
    name = recorded if criterion is None else criterion
    if not isinstance(name, str):
        raise TypeError(f"criterion is a {type(criterion).__name__}; hand over a function of outputs and targets, or its module")
    if name not in named:
        raise ValueError(f"the trace was recorded with the loss {name!r}, which has to be handed over: criterion=...")
    return named[name]()


def _name(criterion: Any) -> str:
    return getattr(criterion, "__name__", type(criterion).__name__)
