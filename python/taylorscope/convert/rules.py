"""Which layer each step of a model is. A rule for each kind of module, function or method; one name serves all three spellings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from taylorscope.convert.chain import Chain
from taylorscope.convert.graph import SIZE, Step

Rule = Callable[[Chain, Step, dict[str, Any]], None]

# Names of functions and methods, and of modules.
_RULES: dict[str, tuple[Rule, tuple[str, ...]]] = {}
_MODULES: dict[type[nn.Module], tuple[str, tuple[str, ...]]] = {}

# What networks have that the engine does not, for the words.
_UNKNOWN = {
    "batch_norm": "normalizes over the minibatch",
    "layer_norm": "is a normalization",
    "group_norm": "is a normalization",
    "add": "is a sum",
    "iadd": "is a sum",
    "cat": "joins values",
    "softmax": "is smooth; where it stands before the loss, leave it out: cross_entropy has a softmax of its own",
}


def rule(*names: str, takes: tuple[str, ...] = (), module: type[nn.Module] | None = None) -> Callable[[Rule], Rule]:
    """Registers a rule for functions and methods of these names, with the names of their arguments behind the value (`name=default`), and
    for a module that has them as attributes."""

    def register(function: Rule) -> Rule:
        for name in names:
            _RULES[name] = (function, takes)
        if module is not None:
            _MODULES[module] = (names[0], tuple(part.split("=")[0] for part in takes))
        return function

    return register


def apply(chain: Chain, step: Step) -> None:
    """Adds what a step does to the chain."""
    if isinstance(step.operation, nn.Module):
        found = _MODULES.get(type(step.operation))
        if found is None:
            chain.refuse(step, _UNKNOWN.get(_plain(type(step.operation).__name__), "is no layer that the engine knows"))
            return
        name, attributes = found
        settings = {attribute: getattr(step.operation, attribute, None) for attribute in attributes}
        _RULES[name][0](chain, step, settings)
        return
    name = step.name.strip("_")
    if name not in _RULES:
        chain.refuse(step, _UNKNOWN.get(name, "is no layer that the engine knows"))
    function, takes = _RULES[name]
    names = [part.split("=")[0] for part in takes]
    settings = {part.split("=")[0]: _value(part.split("=")[1]) for part in takes if "=" in part}
    settings.update(zip(names, step.arguments, strict=False))
    settings.update(step.keywords)
    settings["arguments"] = step.arguments
    function(chain, step, settings)


def _plain(name: str) -> str:
    lower = name.lower()
    for known in ("batch_norm", "layer_norm", "group_norm", "softmax"):
        if lower.startswith(known.replace("_", "")):
            return known
    return lower


def _value(text: str) -> Any:
    return {"None": None, "True": True, "False": False}.get(text, float(text) if "." in text else int(text) if text.lstrip("-").isdigit() else text)


def _square(chain: Chain, step: Step, what: str, value: Any) -> int:
    """A size that is the same in both directions."""
    both = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(both) == 1:
        both = both * 2
    if len(both) != 2 or both[0] != both[1] or not isinstance(both[0], int):
        chain.refuse(step, f"has {what} {value}, which is not the same in both directions")
    return both[0]


@rule("linear", takes=("weight", "bias=None"), module=nn.Linear)
def _linear(chain: Chain, step: Step, settings: dict[str, Any]) -> None:
    weight, bias = settings["weight"], settings["bias"]
    units, inputs = weight.shape
    if chain.shape != [inputs]:
        chain.refuse(step, f"is applied along the last axis of values of shape {chain.shape}; only vectors are known, so flatten before it")
    layer = {"dense": units} if bias is not None else {"dense": {"units": units, "bias": False}}
    chain.weights(step, layer, weight, bias, [units])


@rule("conv2d", takes=("weight", "bias=None", "stride=1", "padding=0", "dilation=1", "groups=1"), module=nn.Conv2d)
def _conv(chain: Chain, step: Step, settings: dict[str, Any]) -> None:
    weight, bias = settings["weight"], settings["bias"]
    maps, channels, kernel, width = weight.shape
    if kernel != width:
        chain.refuse(step, f"has filters of {kernel} x {width}, which are not square")
    stride = _square(chain, step, "stride", settings["stride"])
    padding = settings["padding"]
    if isinstance(padding, str):
        padding = 0 if padding == "valid" else (kernel - 1) // 2 if kernel % 2 else -1
    padding = _square(chain, step, "padding", padding)
    dilation, groups = _square(chain, step, "dilation", settings["dilation"]), settings["groups"]
    mode = getattr(step.operation, "padding_mode", "zeros")
    if dilation != 1 or groups != 1 or mode != "zeros" or padding < 0:
        chain.refuse(step, f"has dilation {dilation}, groups {groups} or padding {settings['padding']} ({mode}) that the engine does not know")
    if len(chain.shape) != 3 or chain.shape[0] != channels:
        chain.refuse(step, f"takes images of {channels} channels, but gets values of shape {chain.shape}")
    layer = {"maps": maps, "kernel": kernel, "padding": padding, "stride": stride}
    if bias is None:
        layer["bias"] = False
    sides = [(side + 2 * padding - kernel) // stride + 1 for side in chain.shape[1:]]
    chain.weights(step, {"conv": layer}, weight, bias, [maps, *sides])


@rule("relu", module=nn.ReLU)
def _relu(chain: Chain, step: Step, settings: dict[str, Any]) -> None:
    chain.rectifier(step, "relu")


@rule("leaky_relu", takes=("negative_slope=0.01",), module=nn.LeakyReLU)
def _leaky_relu(chain: Chain, step: Step, settings: dict[str, Any]) -> None:
    slope = float(settings["negative_slope"])
    chain.rectifier(step, {"leaky_relu": slope}, monotone=slope >= 0)


@rule("abs", "absolute")
def _abs(chain: Chain, step: Step, settings: dict[str, Any]) -> None:
    chain.rectifier(step, "abs", monotone=False)


_POOL = ("kernel_size", "stride=None", "padding=0")


@rule("max_pool2d", "boolean_dispatch", takes=(*_POOL, "dilation=1", "ceil_mode=False", "return_indices=False"), module=nn.MaxPool2d)
def _max_pool(chain: Chain, step: Step, settings: dict[str, Any]) -> None:
    _pool(chain, step, settings, "max_pool")


@rule("avg_pool2d", takes=(*_POOL, "ceil_mode=False", "count_include_pad=True", "divisor_override=None"), module=nn.AvgPool2d)
def _avg_pool(chain: Chain, step: Step, settings: dict[str, Any]) -> None:
    if settings.get("divisor_override"):
        chain.refuse(step, "divides by another number than that of its places")
    _pool(chain, step, settings, "avg_pool")


def _pool(chain: Chain, step: Step, settings: dict[str, Any], kind: str) -> None:
    size = _square(chain, step, "windows", settings["kernel_size"])
    stride = _square(chain, step, "stride", settings["stride"]) if settings["stride"] else size
    for what, plain in (("padding", 0), ("dilation", 1)):
        if _square(chain, step, what, settings.get(what, plain)) != plain:
            chain.refuse(step, f"has {what}, which pools of the engine do not have")
    if settings.get("ceil_mode") and any((side - size) % stride for side in chain.shape[1:]):
        chain.refuse(step, "has ceil_mode, which pools of the engine do not have")
    chain.pool(step, kind, size, stride)


@rule("adaptive_avg_pool2d", takes=("output_size",), module=nn.AdaptiveAvgPool2d)
def _adaptive(chain: Chain, step: Step, settings: dict[str, Any]) -> None:
    wanted = _square(chain, step, "output", settings["output_size"])
    sides = set(chain.shape[1:])
    if len(chain.shape) != 3 or len(sides) != 1 or min(sides) % wanted:
        chain.refuse(step, f"turns values of shape {chain.shape} into {wanted} x {wanted} by windows that are no equal squares")
    size = min(sides) // wanted
    if size > 1:
        chain.pool(step, "avg_pool", size, size)


@rule("mean", takes=("dim=None", "keepdim=False"))
def _mean(chain: Chain, step: Step, settings: dict[str, Any]) -> None:
    axes = settings["dim"]
    axes = sorted(axis % 4 for axis in axes) if isinstance(axes, list) else []
    if len(chain.shape) != 3 or axes != [2, 3] or chain.shape[1] != chain.shape[2]:
        chain.refuse(step, "is a mean over other axes than height and width of square images")
    chain.pool(step, "avg_pool", chain.shape[1], chain.shape[1])
    if not settings["keepdim"]:
        chain.flatten()


@rule("flatten", takes=("start_dim=0", "end_dim=-1"), module=nn.Flatten)
def _flatten(chain: Chain, step: Step, settings: dict[str, Any]) -> None:
    rank = len(chain.shape) + 1
    if settings["start_dim"] % rank != 1 or settings["end_dim"] % rank != rank - 1:
        chain.refuse(step, "does not flatten all axes but the first")
    chain.flatten()


@rule("view", "reshape")
def _reshape(chain: Chain, step: Step, settings: dict[str, Any]) -> None:
    sizes = settings["arguments"]
    if len(sizes) == 1 and isinstance(sizes[0], list):
        sizes = sizes[0]
    values = math.prod(chain.shape)
    first, *rest = sizes if sizes else [None]
    if first is None or not all(isinstance(size, int) for size in rest) or rest.count(-1) > 1:
        chain.refuse(step, f"has sizes {sizes} that are not known beforehand")
    known = math.prod(size for size in rest if size != -1)
    # A first size of -1 is that of the datapoints only if the others hold the values of one.
    if -1 in rest and values % known == 0 and first != -1:
        rest = [values // known if size == -1 else size for size in rest]
    if not rest or math.prod(rest) != values or not (first == -1 or first is SIZE):
        chain.refuse(step, f"turns values of shape {chain.shape} into {sizes}, which mixes datapoints or fixes their number")
    chain.reshape(step, rest)


@rule("squeeze", takes=("dim=None",))
def _squeeze(chain: Chain, step: Step, settings: dict[str, Any]) -> None:
    if chain.shape != [1] or settings["dim"] not in (None, 1, -1):
        chain.refuse(step, "takes axes away from anything but one output")
    chain.end("squeeze")


@rule("dropout", takes=("p=0.5", "training=True"), module=nn.Dropout)
def _dropout(chain: Chain, step: Step, settings: dict[str, Any]) -> None:
    active = step.operation.training if isinstance(step.operation, nn.Module) else settings["training"]
    if active and settings["p"] != 0:
        chain.refuse(step, f"drops values at random (p = {settings['p']}), so that no fixed function was trained; set p = 0 to analyse with the engine")


_MODULES.update({nn.Dropout1d: ("dropout", ("p",)), nn.Dropout2d: ("dropout", ("p",))})
_RULES.update({"dropout1d": _RULES["dropout"], "dropout2d": _RULES["dropout"]})


@rule("contiguous", "identity", module=nn.Identity)
def _identity(chain: Chain, step: Step, settings: dict[str, Any]) -> None:
    del chain, step, settings


@rule("log_softmax", takes=("dim=None",), module=nn.LogSoftmax)
def _log_softmax(chain: Chain, step: Step, settings: dict[str, Any]) -> None:
    if chain.loss not in ("nll", "cross_entropy") or settings["dim"] not in (1, -1) or len(chain.shape) != 1:
        chain.refuse(step, "is smooth; before nll_loss over the classes it is part of cross_entropy")
    chain.loss = "cross_entropy"
    chain.end("log_softmax")
