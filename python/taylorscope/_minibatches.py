"""From calls of model and criterion to the minibatches whose gradients a step uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from taylorscope._describe import LossTold, precision_of
from taylorscope._tensors import NotRecordable, share_memory, tensors_in


@dataclass(eq=False)
class Call:
    """A call of the model in training. Its inputs are copies, or None in rounds whose states are not kept."""

    inputs: dict[str, Tensor] | None
    # As they were handed over, to recognise targets that are the inputs; let go with the step.
    first: Tensor | None
    size: int
    output: Tensor | None
    precision: str
    losses: int = 0


@dataclass(eq=False)
class Minibatch:
    """A minibatch with its loss, and in what proportion its gradient went into the step."""

    inputs: dict[str, Tensor] | None
    targets: Tensor | None
    targets_are_inputs: bool
    size: int
    loss: Tensor | float
    told: LossTold
    precision: str
    call: Call | None
    made: int
    weight: Tensor | None = None
    begun: int = 0


@dataclass
class Minibatches:
    """Collects minibatches until the step takes them.

    A loss counts when it is propagated backward (a hook on it says so), and no longer if gradients were cleared after that: then no step
    used it, as after an overflow in mixed precision.
    """

    gradients_are_clear: Callable[[], bool]
    guard: Callable[[Callable[[], None]], None]
    warn: Callable[[str], None]
    calls: list[Call] = field(default_factory=list)
    pending: list[Minibatch] = field(default_factory=list)
    unused: int = 0
    seen: int = 0
    precision: str | None = None
    _clock: int = 0
    _warned: bool = False

    def called(self, arguments: tuple[Any, ...], keywords: dict[str, Any], result: Any, parameters: list[Tensor], keep: bool) -> Call:
        """The model was called in training."""
        labels = {name: keywords[name] for name in ("labels",) if isinstance(keywords.get(name), Tensor)}
        tensors = tensors_in(arguments, {name: value for name, value in keywords.items() if name not in labels})
        if not tensors:
            raise NotRecordable("the model was called without a tensor; record by scope.record(inputs, targets, loss)")
        first = next(iter(tensors.values()))
        size = first.shape[0] if first.dim() else 0
        for name, tensor in tensors.items():
            if tensor.dim() == 0 or tensor.shape[0] != size:
                raise NotRecordable(f"{name} of the model has shape {list(tensor.shape)}; the first axis of every input must be that of the {size} datapoints")
        output = _output(result)
        # That of the first call is that of the trace.
        self.precision = precision = self.precision or precision_of(output if output is not None else first, parameters)
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()} if keep else None
        if self.calls and not self.calls[-1].losses:
            self._watch_orphan(self.calls[-1])
        call = Call(copies, first, size, output, precision)
        self.calls.append(call)
        self.seen += 1
        # Models of some libraries compute their loss themselves.
        own = getattr(result, "loss", None)
        if labels and isinstance(own, Tensor):
            self.lost(own, labels["labels"], LossTold("the model's own loss"), call, keep)
        return call

    def _watch_orphan(self, call: Call) -> None:
        """A call without a loss is one for looking, unless something is propagated back through it."""
        output = call.output
        if output is None or not output.requires_grad:
            return

        def used(_: Tensor) -> None:
            def refuse() -> None:
                raise NotRecordable(
                    "the model was called more than once for one loss (as in a GAN or a siamese network); record what is a round for you by "
                    "scope.record(inputs, targets, loss)"
                )

            self.guard(refuse)

        output.register_hook(used)

    def call_of(self, prediction: Any) -> Call | None:
        """The call whose output a criterion was given, else the last one."""
        if isinstance(prediction, Tensor):
            for call in reversed(self.calls):
                if call.output is not None and share_memory(call.output, prediction):
                    return call
        return self.calls[-1] if self.calls else None

    def lost(self, loss: Any, targets: Tensor | None, told: LossTold, call: Call | None, keep: bool) -> None:
        """A loss was computed from a call's output."""
        if call is None:
            raise NotRecordable("a loss was computed before the model that is watched was called; watch the module that the loop calls")
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise NotRecordable("the criterion gives a loss for each datapoint; record their mean by scope.record(inputs, targets, loss)")
        call.losses += 1
        same = targets is not None and call.first is not None and share_memory(call.first, targets)
        copied = targets.detach().clone() if keep and targets is not None and not same else None
        self.add(Minibatch(call.inputs, copied, same, call.size, loss.detach().clone(), told, call.precision, call, self._tick()), loss)

    def add(self, minibatch: Minibatch, loss: Tensor | float) -> None:
        """Takes a minibatch; it counts from when its loss is propagated backward, or at once if nothing says when that is."""
        if not isinstance(loss, Tensor):
            self._begin(minibatch, None)
        elif loss.requires_grad:
            loss.register_hook(lambda gradient: self.guard(lambda: self._begin(minibatch, gradient)))

    def _tick(self) -> int:
        self._clock += 1
        return self._clock

    def _begin(self, minibatch: Minibatch, gradient: Tensor | None) -> None:
        """The backward pass of a minibatch begins."""
        if minibatch.begun:  # A graph that is kept may be gone through twice; the second time adds to the same minibatch.
            return
        if self.pending and self.pending[-1].begun < minibatch.made and self.gradients_are_clear():
            self.unused += len(self.pending)
            self.pending.clear()
        minibatch.begun = self._tick()
        minibatch.weight = gradient.detach() if gradient is not None else None
        for other in self.pending:
            if other.call is not None and other.call is minibatch.call:
                raise NotRecordable(
                    "two losses of one call of the model are propagated backward; add them up in a function of your own, "
                    "criterion = scope.wrap(function)"
                )
            if minibatch.made < other.begun and not self._warned:
                self._warned = True
                self.warn(
                    "the model is called several times before a backward pass (as in a GAN); a round then takes all these minibatches as one, and "
                    "the mean of their losses"
                )
        self.pending.append(minibatch)

    def take(self) -> list[Minibatch]:
        """The minibatches of the step that was made."""
        taken, self.pending = self.pending, []
        self.calls.clear()
        return taken


def _output(result: Any) -> Tensor | None:
    """The tensor that a model gives, or the first of several."""
    if isinstance(result, Tensor):
        return result
    for name in ("logits", "last_hidden_state"):
        if isinstance(getattr(result, name, None), Tensor):
            return getattr(result, name)
    if isinstance(result, tuple | list):
        return next((part for part in result if isinstance(part, Tensor)), None)
    return None


def weights_fit(minibatches: list[Minibatch]) -> bool:
    """Whether gradients went into the step in proportion to sizes, so that it follows the mean over all datapoints of the round."""
    if len(minibatches) < 2 or any(minibatch.weight is None for minibatch in minibatches):
        return True
    weights = torch.stack([minibatch.weight.double().reshape(()) for minibatch in minibatches if minibatch.weight is not None])
    sizes = torch.tensor([float(minibatch.size) for minibatch in minibatches], dtype=torch.float64, device=weights.device)
    shares, wanted = weights / weights.sum(), sizes / sizes.sum()
    return bool((shares - wanted).abs().max() < 1e-3)
