"""A model as a function of its parameters, buffers and inputs."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["Functional", "ModelError", "plain_kernels", "unwrapped"]

Parameters = Mapping[str, Tensor]


class ModelError(ValueError):
    """A model that cannot be analysed, or is not the one that was recorded; the text says what to do."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside the wrappers of `torch.compile`, `DataParallel` and `DistributedDataParallel`."""
    while True:
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            return model


@contextlib.contextmanager
def plain_kernels() -> Iterator[None]:
    """Kernels that can be differentiated forward and twice: no fused attention, no fused encoder layers, no cuDNN of recurrent layers."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class Functional:
    """`f(parameters, buffers, inputs)` of a model, in any floating-point type, on the device where the model lives.

    Works on a copy: modes, buffers and gradients of the model stay as they are.
    """

    def __init__(self, model: nn.Module, output: Callable[[Any], Tensor] | None = None) -> None:
        inner = unwrapped(model)
        try:
            self._model = copy.deepcopy(inner)
        except Exception as error:
            raise ModelError(f"the model cannot be copied ({error}); hand over one that can, built anew") from error
        self._model.requires_grad_(False)
        self.trainable = {name for name, parameter in inner.named_parameters() if parameter.requires_grad}
        self.device = next((p.device for p in inner.parameters()), torch.device("cpu"))
        self.dtype = next((p.dtype for p in inner.parameters() if p.is_floating_point()), torch.float32)
        self._output = output
        self._given = [module.training for module in self._model.modules()]
        self._of_type: dict[torch.dtype, nn.Module] = {}

    @property
    def module(self) -> nn.Module:
        """The copy, to look at."""
        return self._model

    def set_mode(self, mode: str) -> None:
        """Modules as they were `given`, or all of them for `train` or `eval`."""
        for module, given in zip(self._model.modules(), self._given):
            module.training = given if mode == "given" else mode == "train"
        self._forget_statistics()

    def restore(self, training: list[bool]) -> None:
        """Modes of all modules, one by one."""
        for module, mode in zip(self._model.modules(), training):
            module.training = mode
        self._forget_statistics()

    def _forget_statistics(self) -> None:
        """With the statistics of the minibatch, running ones are written and not read: nothing needs them here."""
        for module in self._model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
                module.track_running_stats = not module.training
        self._of_type.clear()

    def of_type(self, dtype: torch.dtype) -> nn.Module:
        """The copy in a floating-point type."""
        if dtype not in self._of_type:
            self._of_type[dtype] = copy.deepcopy(self._model).to(dtype)
        return self._of_type[dtype]

    def __call__(self, dtype: torch.dtype, parameters: Parameters, buffers: Parameters, inputs: Parameters) -> Tensor:
        """The outputs `[batch, ...]` for inputs by name: `""` for the only one, `"0"`, `"1"`, ... by position, or keywords."""
        arguments = tuple(inputs[name] for name in inputs if name == "" or name.isdigit())
        keywords = {name: value for name, value in inputs.items() if name and not name.isdigit()}
        found = functional_call(self.of_type(dtype), {**parameters, **buffers}, arguments, keywords)
        if self._output is not None:
            found = self._output(found)
        if not isinstance(found, Tensor):
            raise ModelError(
                f"the model returns a {type(found).__name__}, not a tensor; say which tensor the loss is of: output=lambda out: out.logits"
            )
        return found
