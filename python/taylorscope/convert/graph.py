"""What a model does with its input, step by step."""

from __future__ import annotations

import inspect
import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from taylorscope.convert.chain import Obstacle


# Where torch lies, whose lines are not the user's.
_TORCH = Path(torch.__file__).parent


@dataclass
class Step:
    """A module, function or method that takes the value so far. `arguments` are those behind it; sizes of the value are `SIZE`."""

    operation: Any
    name: str
    arguments: list[Any] = field(default_factory=list)
    keywords: dict[str, Any] = field(default_factory=dict)
    line: str = ""


class Size:
    """A size that is known only when the model runs: that of the datapoints."""

    def __repr__(self) -> str:
        return "SIZE"


SIZE = Size()


class _Tracer(fx.Tracer):
    record_stack_traces = True


def steps_of(model: nn.Module) -> Iterator[Step]:
    """The steps from input to output. Raises `Obstacle` where they are no chain."""
    if not isinstance(model, nn.Sequential) and _is_layer(model):
        yield Step(model, "")
        return
    try:
        graph = _Tracer().trace(model, _defaults(model))
    except Exception as error:
        yield from _walk(model, error)
        return
    yield from _follow(graph, model)


def _is_layer(module: nn.Module) -> bool:
    return module.__module__.startswith("torch.nn.") and not isinstance(module, nn.Sequential)


def _defaults(model: nn.Module) -> dict[str, Any]:
    """The values of arguments that calls leave out."""
    parameters = list(inspect.signature(model.forward).parameters.values())[1:]
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _walk(model: nn.Module, error: Exception) -> Iterator[Step]:
    """The modules in the order of their declaration, where the forward pass cannot be followed. Whether that is what it does is found out when
    the losses are compared."""
    for name, module in model.named_modules():
        if name and _is_layer(module):
            yield Step(module, name)
        elif name and not list(module.children()):
            raise Obstacle(f"module {name} is a {type(module).__name__}, and the forward pass cannot be followed ({error})")


def _follow(graph: fx.Graph, model: nn.Module) -> Iterator[Step]:
    values: dict[fx.Node, Any] = {}
    current: fx.Node | None = None
    for node in graph.nodes:
        if node.op == "placeholder":
            current = current or node
            if node is not current:
                values[node] = SIZE  # An argument that calls leave out.
        elif node.op == "get_attr":
            values[node] = operator.attrgetter(str(node.target))(model)
        elif node.op == "output":
            if node.args[0] is not current:
                raise Obstacle("the model's output is not one tensor, the last one that it computes")
        elif _is_size(node, values):
            values[node] = SIZE
        elif node.users or node.op != "call_function":
            yield _step(node, current, values, model)
            current = node


def _is_size(node: fx.Node, values: dict[fx.Node, Any]) -> bool:
    """Whether a node asks for the size of the datapoints' axis (`x.size(0)`, `x.shape[0]`), or for arguments that calls leave out."""
    inputs = node.all_input_nodes
    if inputs and all(values.get(argument) is SIZE for argument in inputs) and node.target is not operator.getitem:
        return True
    if node.op == "call_function" and node.target is getattr and node.args[1] == "shape":
        return True
    if node.op == "call_method" and node.target == "size":
        return len(node.args) == 1 or node.args[1] == 0
    if node.op == "call_function" and node.target is operator.getitem and values.get(node.args[0]) is SIZE:
        return node.args[1] == 0
    return False


def _line(node: fx.Node) -> str:
    """Where the step stands in the user's file."""
    found = re.findall(r'File "([^"]+)", line (\d+), in (\S+)', node.stack_trace or "")
    found = [place for place in found if not Path(place[0]).is_relative_to(_TORCH)]
    return f"{Path(found[-1][0]).name}, line {found[-1][1]}" if found else ""


def _step(node: fx.Node, current: fx.Node | None, values: dict[fx.Node, Any], model: nn.Module) -> Step:
    line = _line(node)
    target = node.target
    name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    inputs = [argument for argument in node.all_input_nodes if argument not in values]
    if inputs != [current]:
        place = f" ({line})" if line else ""
        what = "a sum of two values" if target in (operator.add, operator.iadd, torch.add) else f"{name} of a value that is not the last one"
        raise Obstacle(f"{what}{place}: the engine's networks are chains of layers here")
    operation = operator.attrgetter(target)(model) if node.op == "call_module" else target

    def known(argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return values[argument]
        if isinstance(argument, tuple | list):
            return [known(part) for part in argument]
        return argument

    first, *rest = node.args if node.args else [node.kwargs.get("input")]
    if first is not current:
        raise Obstacle(f"{name} takes the value so far as another argument than its first" + (f" ({line})" if line else ""))
    keywords = {key: known(value) for key, value in node.kwargs.items() if key != "input"}
    return Step(operation, name, [known(argument) for argument in rest], keywords, line)
