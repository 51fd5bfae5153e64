"""What the manifest of a trace says of optimizer, loss and precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taylorscope._tensors import NotRecordable, share_memory


def optimizer_of(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Name, learning rate and those settings that are numbers, switches or words; of several parameter groups the first, and how many
    there are. Update rules that the program knows have its names."""
    settings = dict(optimizer.param_groups[0])
    rate = settings.pop("lr", None)
    name = type(optimizer).__name__.lower()
    if name == "sgd" and settings.get("momentum"):
        name = "nesterov" if settings.pop("nesterov", False) else "momentum"
    told: dict[str, Any] = {"name": name}
    if rate is not None:
        told["learning_rate"] = float(rate)
    # Ways of computing the same update.
    for key in ("params", "initial_lr", "foreach", "fused", "capturable", "differentiable", "param_names", "maximize", "decoupled_weight_decay"):
        value = settings.pop(key, None)
        if key == "maximize" and value:
            told[key] = True
    if name == "sgd":
        settings.pop("dampening", None)
    for key, value in settings.items():
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, bool | int | float | str):
            told[key] = value
        elif isinstance(value, tuple | list) and all(isinstance(part, int | float) for part in value):
            told[key] = list(value)
    if len(optimizer.param_groups) > 1:
        told["parameter_groups"] = len(optimizer.param_groups)
    return told


def refuse_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer itself, out of the wrappers of libraries; fails for those whose steps are no rounds."""
    # Wrappers may say that they are optimizers, but have no hooks.
    while not hasattr(optimizer, "_optimizer_step_pre_hooks"):
        inner = getattr(optimizer, "optimizer", None) or getattr(optimizer, "_optimizer", None)
        if inner is None:
            raise TypeError(f"optimizer is a {type(optimizer).__name__}; ts.watch takes one of torch.optim, or one that is derived from torch.optim.Optimizer")
        optimizer = inner
    assert isinstance(optimizer, torch.optim.Optimizer)
    if isinstance(optimizer, torch.optim.LBFGS):
        raise NotRecordable(
            "LBFGS calls the model several times in one step, at weights in between; a round has one state and one loss, so it cannot be watched"
        )
    return optimizer


def precision_of(output: Tensor, parameters: list[Tensor]) -> str:
    """The precision in which a loss was computed, when it is asked directly after the forward pass."""
    names = {torch.float64: "f64", torch.bfloat16: "bf16", torch.float16: "f16"}
    device = output.device.type
    if torch.is_autocast_enabled(device):
        return names.get(torch.get_autocast_dtype(device), "f32")
    kinds = {parameter.dtype for parameter in parameters if parameter.is_floating_point()}
    for dtype in (torch.float16, torch.bfloat16):
        if dtype in kinds:
            return names[dtype]
    if kinds == {torch.float64}:
        return "f64"
    fast = torch.get_float32_matmul_precision() != "highest" or torch.backends.cudnn.allow_tf32
    return "tf32" if device == "cuda" and fast else "f32"


@dataclass
class LossTold:
    """What a call of a criterion says about the loss."""

    name: str
    summed: bool = False
    # A class that does not count, where targets are compared with it.
    ignored: int | None = None


# Criteria under the name of the function; a class and its function say the same.
_CRITERIA: dict[Any, str] = {
    nn.MSELoss: "mse", F.mse_loss: "mse",
    nn.CrossEntropyLoss: "cross_entropy", F.cross_entropy: "cross_entropy",
    nn.NLLLoss: "nll", F.nll_loss: "nll",
    nn.L1Loss: "l1", F.l1_loss: "l1",
    nn.HuberLoss: "huber", F.huber_loss: "huber",
    nn.SmoothL1Loss: "smooth_l1", F.smooth_l1_loss: "smooth_l1",
    nn.BCELoss: "binary_cross_entropy", F.binary_cross_entropy: "binary_cross_entropy",
    nn.BCEWithLogitsLoss: "binary_cross_entropy_with_logits",
    F.binary_cross_entropy_with_logits: "binary_cross_entropy_with_logits",
}  # fmt: skip
# Settings with the values that they have unless told otherwise.
_DEFAULTS = {"weight": None, "label_smoothing": 0.0, "reduction": "mean", "pos_weight": None, "size_average": None, "reduce": None}
# Those that `functional` takes by position, behind output and target.
_POSITIONS = {F.cross_entropy: ["weight", "size_average", "ignore_index", "reduce", "reduction", "label_smoothing"],
              F.mse_loss: ["size_average", "reduce", "reduction", "weight"]}  # fmt: skip


def loss_of(criterion: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any], output: Tensor | None) -> LossTold:
    """What loss a call `criterion(*arguments, **keywords)` computed; `output` is the model's.

    `mse` and `cross_entropy` are the means over the datapoints that the engine knows. Every other has a name that says in what it
    differs.
    """
    module = isinstance(criterion, nn.Module)
    key = type(criterion) if module else criterion
    base = _CRITERIA.get(key) or getattr(key, "__name__", type(criterion).__name__)
    if module:
        settings = {name: getattr(criterion, name, None) for name in (*_DEFAULTS, "ignore_index")}
    else:
        settings = {**dict(zip(_POSITIONS.get(criterion, []), arguments[2:], strict=False)), **keywords}
    differs = [
        f"{name}={value}" if isinstance(value, int | float | str) else name
        for name, value in settings.items()
        if name in _DEFAULTS and value is not None and value != _DEFAULTS[name]
    ]
    given = [*arguments, *(keywords[name] for name in ("input", "target") if name in keywords)]
    differs += _of_tensors(base, given, output)
    ignored = settings.get("ignore_index", -100) if base == "cross_entropy" else None
    name = f"{base} with {', '.join(differs)}" if differs else base
    return LossTold(name, summed=settings.get("reduction") == "sum", ignored=-100 if ignored is None and base == "cross_entropy" else ignored)


def _of_tensors(base: str, given: list[Any], output: Tensor | None) -> list[str]:
    """In what the tensors of the call differ from one output and one target for each datapoint."""
    if base not in ("mse", "cross_entropy", "nll") or len(given) < 2 or not all(isinstance(part, Tensor) for part in given[:2]):
        return []
    prediction, target = given[:2]
    differs = []
    if output is not None and not share_memory(prediction, output):
        differs.append("something between the model's output and it")
    if base == "mse" and prediction.shape != target.shape:
        differs.append(f"broadcasting of {list(target.shape)} to {list(prediction.shape)}")
    if base != "mse" and target.is_floating_point():
        differs.append("probabilities as targets")
    elif base != "mse" and prediction.dim() != 2:
        differs.append("several outputs for each datapoint")
    return differs
