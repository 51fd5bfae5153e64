"""PyTorch tensors as bytes, and models as named tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# The types that a trace holds, under the names of safetensors.
DTYPES: dict[torch.dtype, str] = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}


class NotRecordable(Exception):
    """Something that cannot be recorded; the message names it and says what can be done."""


def dtype_name(name: str, tensor: Tensor) -> str:
    """The name of a tensor's type in a trace."""
    if tensor.dtype not in DTYPES:
        raise NotRecordable(f"{name} is a tensor of {tensor.dtype}, which traces do not hold")
    return DTYPES[tensor.dtype]


def as_array(name: str, tensor: Tensor) -> tuple[str, str, list[int], np.ndarray]:
    """Name, type, shape and bytes (a view where the tensor is contiguous and on the CPU) of a tensor."""
    if tensor.dtype is torch.bfloat16 or tensor.device.type != "cpu" or not tensor.is_contiguous():
        flat = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy()
    else:
        flat = tensor.numpy().reshape(-1).view(np.uint8)
    return name, dtype_name(name, tensor), list(tensor.shape), flat


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside the wrappers of `torch.compile`, `DataParallel` and `DistributedDataParallel`."""
    while True:
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model


def plain_name(name: str) -> str:
    """A parameter's name without what `torch.compile` puts into it where a submodule is compiled."""
    return name.replace("_orig_mod.", "")


def named_state(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters, and the buffers that training may change (those that `state_dict` has and that are numbers), by name."""
    inner = unwrapped(model)
    parameters = {plain_name(name): tensor for name, tensor in inner.named_parameters()}
    kept = {plain_name(name) for name in inner.state_dict(keep_vars=True)}
    named = ((plain_name(name), tensor) for name, tensor in inner.named_buffers())
    buffers = {name: tensor for name, tensor in named if name in kept and tensor.is_floating_point()}
    return parameters, buffers


def tensors_in(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors among the arguments of a model: `inputs` if it is one by position, else `inputs.0`, ..., `inputs.NAME`.

    Numbers, texts and None are settings of the call. Anything else hides tensors where a trace does not find them.
    """
    named = [*((str(place), value) for place, value in enumerate(arguments)), *keywords.items()]
    found: dict[str, Tensor] = {}
    for name, value in named:
        if isinstance(value, Tensor):
            found[f"inputs.{name}"] = value
        elif value is not None and not isinstance(value, bool | int | float | str):
            kind = type(value).__name__
            raise NotRecordable(f"the model's argument {name} is a {kind}; hand tensors to the model one by one, or record them by scope.record")
    if len(found) == 1 and len(arguments) > 0 and "inputs.0" in found:
        found = {"inputs": found["inputs.0"]}
    return found


def share_memory(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same numbers in memory, in whatever shape."""
    return a.data_ptr() == b.data_ptr() and a.numel() == b.numel() and a.dtype == b.dtype and a.numel() > 0
