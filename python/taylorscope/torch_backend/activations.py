"""Activation configurations of rectifiers on the probe set, in the recorded states.

Whatever calls `relu` or one of its kin is seen, as a module or a function. A rectifier's neurons are those of the module whose output it takes; one
behind something else (a sum, say) has a place of its own in the list of layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from taylorscope.reader import Trace
from taylorscope.torch_backend.model import Functional
from taylorscope.torch_backend.rounds import as_tensor
from taylorscope.torch_backend.units import Layout

__all__ = ["Recorded", "record"]

# Rectifiers, and whether no gradient passes where they are not active.
RECTIFIERS: dict[Callable[..., Any], bool] = {
    F.relu: True,
    F.relu_: True,
    torch.relu: True,
    torch.relu_: True,
    Tensor.relu: True,
    Tensor.relu_: True,
    F.relu6: True,
    F.leaky_relu: False,
    F.leaky_relu_: False,
    torch.prelu: False,
    F.prelu: False,
}
# Datapoints that go through the model together.
TOGETHER = 256


class Recorded:
    """Packed configurations, as the Rust side takes them."""

    def __init__(self, datapoints: int) -> None:
        self.rounds: list[int] = []
        self.datapoints = datapoints
        # Layer, neuron, positions and whether it rests.
        self.neurons: list[tuple[int, int, int, bool]] = []
        self.bits: list[list[NDArray[np.uint64]]] = []
        # Words for rectifiers that have a place of their own behind the modules.
        self.extra_layers: list[str] = []

    def packed(self) -> tuple[list[int], int, list[tuple[int, int, int, bool]], list[NDArray[np.uint64]]] | None:
        if not self.neurons:
            return None
        return self.rounds, self.datapoints, self.neurons, [np.concatenate(rows) for rows in self.bits]


class _Watch(TorchFunctionMode):
    """Sees the calls of rectifiers in a forward pass."""

    def __init__(self, source: Callable[[Tensor], tuple[int, nn.Module] | None]) -> None:
        super().__init__()
        self._source = source
        # Per call: the layer it belongs to or None, whether it rests, and the states `[datapoints, neurons, positions]`.
        self.calls: list[tuple[int | None, bool, NDArray[np.bool_]]] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in RECTIFIERS and args and isinstance(args[0], Tensor) and args[0].dim() >= 2:
            found = self._source(args[0])
            states = _neurons_second(args[0] > 0, found[1] if found else None)
            self.calls.append((found[0] if found else None, RECTIFIERS[function], states.cpu().numpy()))
        return function(*args, **(kwargs or {}))


def _neurons_second(values: Tensor, module: nn.Module | None) -> Tensor:
    """`[datapoints, neurons, positions]`; neurons are on the last axis behind a linear map, else on the second."""
    last = isinstance(module, (nn.Linear, nn.LayerNorm)) or module is None and values.dim() == 3
    values = values.movedim(-1, 1) if last else values
    return values.flatten(2) if values.dim() > 2 else values.unsqueeze(2)


def record(
    functional: Functional,
    layout: Layout,
    trace: Trace,
    places: Sequence[int],
    probe: NDArray[np.int64],
    progress: Callable[[int, int], None],
) -> Recorded:
    """The configurations at the states of some kept rounds, and after the last update if that is known.

    The model is in `eval` mode for this, so that datapoints do not depend on each other.
    """
    recorded = Recorded(len(probe))
    states: list[tuple[int, dict[str, NDArray[Any]], dict[str, NDArray[Any]]]] = []
    for place in places:
        buffers = {name: trace.buffers(name, [place])[0] for name in trace.buffer_names}
        states.append((int(trace.rounds[place]) - 1, {}, buffers))
    final = trace.final_state()
    if final is not None and states:
        last = int(trace.manifest.get("rounds") or trace.all_rounds[-1])
        if last > states[-1][0]:
            states.append((last, dict(final), states[-1][2]))
    device, dtype = functional.device, functional.dtype
    functional.set_mode("eval")
    with torch.no_grad():
        for at, (updates, state, buffers) in enumerate(states):
            if not state:
                state = {name: trace.states(name, [places[at]])[0] for name in trace.state_names}
            parameters = {name: as_tensor(value, device, dtype) for name, value in state.items()}
            restored = {name: as_tensor(value, device, dtype) for name, value in buffers.items()}
            _append(recorded, layout, _configuration(functional, layout, parameters, restored, trace, probe))
            recorded.rounds.append(updates)
            progress(at + 1, len(states))
    return recorded


def _configuration(
    functional: Functional,
    layout: Layout,
    parameters: dict[str, Tensor],
    buffers: dict[str, Tensor],
    trace: Trace,
    probe: NDArray[np.int64],
) -> list[tuple[int | None, bool, NDArray[np.bool_]]]:
    """The states of all rectifiers on the probe set."""
    numbers = {module.name: layer for layer, module in enumerate(layout.modules)}
    pieces: list[list[tuple[int | None, bool, NDArray[np.bool_]]]] = []
    model = functional.of_type(functional.dtype)
    for start in range(0, len(probe), TOGETHER):
        inputs = trace.inputs(probe[start : start + TOGETHER])
        tensors = {name: as_tensor(value, functional.device, functional.dtype) for name, value in inputs.items()}
        # Outputs of modules, kept alive so that what is at their place in memory is them.
        outputs: list[tuple[Tensor, int, nn.Module]] = []
        hooks = [
            module.register_forward_hook(
                lambda module, _args, output, layer=numbers[name]: outputs.append((output, layer, module))
                if isinstance(output, Tensor)
                else None
            )
            for name, module in model.named_modules()
            if name in numbers
        ]
        source = lambda x: next(((layer, module) for out, layer, module in reversed(outputs) if out is x), None)  # noqa: E731
        watch = _Watch(source)
        try:
            with watch:
                functional(functional.dtype, parameters, buffers, tensors)
        finally:
            for hook in hooks:
                hook.remove()
        pieces.append(watch.calls)
    return [(calls[0][0], calls[0][1], np.concatenate([states for _, _, states in calls])) for calls in zip(*pieces)]


def _append(recorded: Recorded, layout: Layout, configuration: list[tuple[int | None, bool, NDArray[np.bool_]]]) -> None:
    """Adds a row to each neuron's; the first configuration says which neurons there are."""
    first = not recorded.rounds
    at = 0
    for number, (layer, rests, states) in enumerate(configuration):
        _, neurons, positions = states.shape
        if first:
            if layer is None:
                layer = len(layout.modules) + len(recorded.extra_layers)
                recorded.extra_layers.append(f"rectifier {number + 1}, not behind a module")
            taken = sum(1 for known in recorded.neurons if known[0] == layer)
            recorded.neurons += [(layer, taken + m, positions, rests) for m in range(neurons)]
            recorded.bits += [[] for _ in range(neurons)]
        rows = states.transpose(1, 0, 2).reshape(neurons, -1)
        packed = np.packbits(rows, axis=1, bitorder="little")
        packed = np.ascontiguousarray(np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))).view("<u8")
        for m in range(neurons):
            recorded.bits[at + m].append(packed[m].astype(np.uint64))
        at += neurons
