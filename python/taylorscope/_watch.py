"""Recording a training as it goes: `watch` and the `Scope` that it gives."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from taylorscope import _folders, convert
from taylorscope._describe import LossTold, loss_of, optimizer_of, refuse_optimizer
from taylorscope._minibatches import Minibatch, Minibatches, weights_fit
from taylorscope._native import Recorder
from taylorscope._state import Slot, StateCopies
from taylorscope._tensors import NotRecordable, tensors_in, unwrapped
from taylorscope._writer import Round, Writer

if TYPE_CHECKING:
    from taylorscope.results import Run

# A shard is written at least this often, so that a process that is killed loses no more.
SHARD_SECONDS = 3.0
# After this many steps of which nothing was seen, that is said.
PATIENCE = 3


def watch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    criterion: nn.Module | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    every: int = 1,
    max_bytes: int | None = None,
    probe: int | Sequence[int] | None = None,
    overwrite: bool = False,
) -> Scope:
    """Records the training that follows, by hooks on `model`, `criterion` and `optimizer`; the loop stays as it is.

    model
        What the loop calls: a module, also one of `torch.compile`, `DataParallel` or `DistributedDataParallel` (rank 0 records, and the
        trace holds its share of each minibatch). Calls under `torch.no_grad` or after `model.eval()` are evaluation and not recorded.
    optimizer
        Whose steps are the rounds. After gradient accumulation a round has all minibatches of the step.
    criterion
        A loss module, called as `criterion(output, target)`. If yours is a function, write `criterion = scope.wrap(F.cross_entropy)`; or
        call `scope.record(inputs, targets, loss)` in the loop.
    out
        The folder: the trace goes to `out/trace`, its analysis to `out/analysis`. The first free one of `runs/MODEL`, `runs/MODEL-2`, ...
        unless given.
    every
        Rounds between those whose states are kept; losses are kept of all.
    max_bytes
        Room for the trace. Where it would take more, every second round is dropped, so that what stays covers the whole training.
    probe
        For activation patterns: how many rows of the data (evenly spaced), or which, counted in the order of their first appearance.
    overwrite
        Whether a trace that is in the folder is replaced.

    Returns a scope. `run = scope.close()` after training analyses what was recorded.

    Raises `NotRecordable` for what cannot be recorded (LBFGS, sharded parameters, ...), `TypeError` for arguments of the wrong kind and
    `OSError` or `ValueError` for a folder that cannot be taken. From then on the recorder raises nothing: if something goes wrong, it
    warns once and lets training go on without it.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}, not a torch.nn.Module")
    if criterion is not None and not isinstance(criterion, nn.Module):
        name = getattr(criterion, "__name__", "f")
        raise TypeError(f"{name} is a function, which has no hooks; leave criterion out, and write criterion = scope.wrap({name})")
    if not isinstance(every, int) or every < 1:
        raise ValueError(f"every is {every!r}; it is a number of rounds, at least 1")
    return Scope(model, refuse_optimizer(optimizer), criterion, out, every, max_bytes, probe, overwrite)


def _rank() -> tuple[int, int]:
    """This process among those of `torch.distributed`, and how many there are."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class Scope:
    """A training that is being recorded. Made by `watch`."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        criterion: nn.Module | None,
        out: str | os.PathLike[str] | None,
        every: int,
        max_bytes: int | None,
        probe: int | Sequence[int] | None,
        overwrite: bool,
    ) -> None:
        self.model, self.optimizer, self.criterion = model, optimizer, criterion
        self.rank, self.ranks = _rank()
        self.probe = probe
        #: Why recording ended before `close`, if it did.
        self.error: Exception | None = None
        self._every, self._max_bytes, self._overwrite = every, max_bytes, overwrite
        self._handles: list[Any] = []
        self._writer: Writer | None = None
        self._finalizer: Any = None
        self._slot: Slot | None = None
        self._round = 0
        self._missed = 0
        self._closed = False
        self._rate: Any = None
        self._loss = ""
        self._manifest: dict[str, Any] = {}
        self._told: dict[int, LossTold] = {}
        self._criteria: list[Any] = []
        self._given = out
        if self.rank == 0:
            self._refuse_model()
            self._copies = StateCopies(model)
            self._parameters = [parameter for parameter in unwrapped(model).parameters()]
            self._minibatches = Minibatches(self._gradients_are_clear, self._guard, self._warn)
            #: The folder of trace and analysis.
            self.out = _folders.claim(out, type(unwrapped(model)).__name__.lower(), overwrite)
            self._attach()

    @property
    def trace(self) -> Path:
        """The folder of the trace. Processes other than that of rank 0 know it if `out` was given."""
        if self.rank != 0 and self._given is None:
            raise ValueError("rank 0 records, and chose the folder; give ts.watch a folder (out=...) that all processes know")
        return (self.out if self.rank == 0 else Path(self._given)) / _folders.TRACE

    @property
    def loss_function(self) -> Any:
        """The criterion that was seen, a module or a function of outputs and targets; None if there was none."""
        return self._criteria[0] if self._criteria else self.criterion

    def __repr__(self) -> str:
        state = "closed" if self._closed else "stopped" if self.error else "recording"
        return f"<taylorscope.Scope {str(getattr(self, 'out', ''))!r}: {self._round} rounds, {state}>"

    # What the loop may call.

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A criterion that is a function, `function(output, target, ...)`, so that its losses are seen."""

        @functools.wraps(function)
        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            result = function(*arguments, **keywords)
            self._guard(lambda: self._criterion_called(function, arguments, keywords, result))
            return result

        return wrapped

    def record(self, inputs: Any, targets: Tensor | None, loss: Tensor | float, *, name: str = "recorded") -> None:
        """Records a minibatch by hand, before its step: inputs (a tensor, a tuple or a dictionary of tensors, as the model takes them),
        targets (None if they are the inputs) and the mean loss. `name` is that of the loss, `"mse"` or `"cross_entropy"` where it is one of these.
        """
        self._guard(lambda: self._record(inputs, targets, loss, name))

    def close(self, analyse: bool = True, **settings: Any) -> Run | None:
        """Ends the recording, and analyses it: with the engine where the model is a list of layers that it knows, or by `backend="torch"` any model.

        `settings` are those of `ts.analyze`. Returns the run; or None if there is nothing to analyse, or if another call does it, which is said.
        With `torch.distributed` rank 0 analyses alone; by `backend="torch"` all processes do, and all have to close.
        """
        if self._closed:
            raise ValueError("the scope is closed; ts.analyze analyses its trace again")
        self._finish(complete=self.error is None)
        by_torch = settings.get("backend") == "torch"
        together = by_torch and analyse and self.ranks > 1
        if together:
            torch.distributed.barrier()  # The trace is whole when all read it.
        if not analyse or (self.rank != 0 and not together):
            return None
        if self.rank == 0 and not self._is_analysable(by_torch):
            return None
        from taylorscope.analysis import analyze

        settings.setdefault("overwrite", self._overwrite)
        try:
            return analyze(self, **settings)
        except (RuntimeError, ValueError) as error:
            # What comes after the training, such as saving the model, goes on.
            self._warn(f"the analysis failed, the trace is in {self.trace}: {error}")
            return None

    def _is_analysable(self, by_torch: bool) -> bool:
        """Whether there is a trace that the backend knows; if not, that is said."""
        if self._writer is None:
            if self.error is None and self._missed < PATIENCE:
                self._warn(self._nothing_seen())
            return False
        loss = self._manifest["loss"]
        if by_torch or ("layers" in self._manifest and loss in ("mse", "cross_entropy")):
            return True
        unknown = self._manifest.get("conversion") or f"the loss is {loss}"
        print(
            f"{self.trace} holds {self._round} rounds. The engine does not know this training: {unknown}.\n"
            'Analyse it by products on torch, now by ts.analyze(scope, backend="torch"), or later, with the model and the loss that were trained, by '
            f'ts.analyze({str(self.out)!r}, backend="torch", model=model, criterion=criterion)',
            file=sys.stderr,
        )
        return False

    def __enter__(self) -> Scope:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends the recording, without an analysis."""
        if not self._closed:
            self._finish(complete=kind is None and self.error is None)

    # Hooks.

    def _refuse_model(self) -> None:
        kinds = {type(module).__name__ for module in self.model.modules()}
        if "FullyShardedDataParallel" in kinds or any(type(p).__name__ == "DTensor" for p in self.model.parameters()):
            raise NotRecordable("the parameters are sharded over processes (FSDP), so no process has the state; train with DistributedDataParallel to record")
        if any(isinstance(parameter, nn.parameter.UninitializedParameter) for parameter in self.model.parameters()):
            raise NotRecordable("the model has lazy layers without shapes yet; call it once before ts.watch")
        own = {id(parameter) for parameter in self.model.parameters()}
        if not own:
            raise NotRecordable("the model has no parameters")
        if not any(id(parameter) in own for group in self.optimizer.param_groups for parameter in group["params"]):
            raise NotRecordable("the optimizer has no parameter of the model; was it made before the model was moved or wrapped?")

    def _attach(self) -> None:
        def called(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], result: Any) -> None:
            self._guard(lambda: self._model_called(arguments, keywords, result))

        def lost(criterion: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], result: Any) -> None:
            self._guard(lambda: self._criterion_called(criterion, arguments, keywords, result))

        def before(_: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            self._guard(self._before_step)

        def after(_: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            self._guard(self._after_step)

        self._handles.append(self.model.register_forward_hook(called, with_kwargs=True))
        if self.criterion is not None:
            self._handles.append(self.criterion.register_forward_hook(lost, with_kwargs=True))
        self._handles.append(self.optimizer.register_step_pre_hook(before))
        self._handles.append(self.optimizer.register_step_post_hook(after))

    def _is_training(self) -> bool:
        return self.model.training and torch.is_grad_enabled() and not torch.compiler.is_compiling()

    def _keeps_next(self) -> bool:
        if self._writer is None:
            return True
        return self._round % self._writer.recorder.every == 0

    def _model_called(self, arguments: tuple[Any, ...], keywords: dict[str, Any], result: Any) -> None:
        if self._is_training():
            self._minibatches.called(arguments, keywords, result, self._parameters, self._keeps_next())

    def _criterion_called(self, criterion: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], result: Any) -> None:
        if not self._is_training() or self.rank != 0:
            return
        prediction = arguments[0] if arguments else keywords.get("input")
        target = arguments[1] if len(arguments) > 1 else keywords.get("target")
        call = self._minibatches.call_of(prediction)
        told = self._told.get(id(criterion))
        if told is None:
            told = self._told[id(criterion)] = loss_of(criterion, arguments, keywords, call.output if call is not None else None)
            # Kept, so that no other criterion has its id.
            self._criteria.append(criterion)
        self._minibatches.lost(result, target if isinstance(target, Tensor) else None, told, call, self._keeps_next())

    def _record(self, inputs: Any, targets: Tensor | None, loss: Tensor | float, name: str) -> None:
        if self.rank != 0:
            return
        arguments, keywords = ((), inputs) if isinstance(inputs, dict) else ((*inputs,) if isinstance(inputs, tuple | list) else (inputs,), {})
        copies = {key: tensor.detach().clone() for key, tensor in tensors_in(arguments, keywords).items()}
        first = next(iter(copies.values()))
        known = loss.detach().clone() if isinstance(loss, Tensor) else float(loss)
        precision = self._minibatches.precision or "f32"
        told = targets.detach().clone() if targets is not None else None
        batch = Minibatch(copies, told, targets is None, first.shape[0], known, LossTold(name), precision, None, self._minibatches._tick())
        self._minibatches.add(batch, loss if isinstance(loss, Tensor) and loss.requires_grad else float(known))

    def _before_step(self) -> None:
        found = getattr(self.optimizer, "found_inf", None)
        if isinstance(found, Tensor) and bool(found.item()):
            self._slot = None
            self._minibatches.take()  # A fused optimizer skips this step after an overflow.
            return
        self._slot = self._copies.copy(self._wait) if self._keeps_next() else None

    def _wait(self, number: int) -> None:
        if self._writer is not None:
            self._writer.recorder.wait(number)

    def _after_step(self) -> None:
        slot, self._slot = self._slot, None
        minibatches = self._minibatches.take()
        if not minibatches:
            self._miss()
            return
        if self._writer is None:
            self._begin(minibatches)
        assert self._writer is not None
        self._note(minibatches)
        self._round += 1
        self._writer.put(self._as_round(minibatches, slot))

    def _miss(self) -> None:
        """A step without a minibatch that was seen: of training that is elsewhere, or because something is not watched."""
        self._missed += 1
        if self._missed == PATIENCE and self._writer is None:
            self._warn(self._nothing_seen())

    def _nothing_seen(self) -> str:
        calls, losses = "no call of the model in training was seen", "no loss was seen"
        advice = (
            "watch the module that the loop calls, after torch.compile or DistributedDataParallel have wrapped it, in training mode"
            if not self._minibatches.unused and not self._seen_calls()
            else "give ts.watch the criterion, or write criterion = scope.wrap(F.cross_entropy) or scope.record(inputs, targets, loss)"
        )
        return f"nothing is recorded: {losses if self._seen_calls() else calls}; {advice}"

    def _seen_calls(self) -> bool:
        return self._minibatches._warned or bool(self._minibatches.calls) or self._minibatches.seen > 0

    def _as_round(self, minibatches: list[Minibatch], slot: Slot | None) -> Round:
        first = minibatches[0]
        losses = [(minibatch.loss, minibatch.size) for minibatch in minibatches]
        round_ = Round(self._round, losses, summed=first.told.summed, slot=slot)
        kept = [minibatch.inputs for minibatch in minibatches]
        if slot is None or any(inputs is None for inputs in kept):
            round_.slot = None
            return round_
        round_.inputs = {name: [inputs[name] for inputs in kept if inputs is not None] for name in kept[0] or {}}
        is_input = self._manifest["target"] == "input"
        if not all(minibatch.targets_are_inputs for minibatch in minibatches):
            round_.targets = [self._target_of(minibatch) for minibatch in minibatches]
            round_.targets_are_inputs = is_input
        elif not is_input:
            round_.targets = [self._target_of(minibatch) for minibatch in minibatches]
        if first.told.ignored is not None and self._manifest["loss"] == "cross_entropy":
            round_.check = functools.partial(_ignored_targets, first.told.ignored)
        return round_

    def _target_of(self, minibatch: Minibatch) -> Tensor:
        if minibatch.targets is not None:
            return minibatch.targets
        if minibatch.targets_are_inputs and minibatch.inputs:
            return next(iter(minibatch.inputs.values()))
        raise NotRecordable("the loss has no tensor of targets, which the rounds before had")

    # Beginning and end.

    def _begin(self, minibatches: list[Minibatch]) -> None:
        """Begins the trace, once the first round says what it holds."""
        first = minibatches[0]
        if first.inputs is None:
            raise NotRecordable("the first round has no inputs")
        self._loss = first.told.name
        self._manifest = self._describe(first)
        recorder = Recorder(
            self.trace,
            json.dumps(self._manifest),
            self._copies.parameters,
            self._copies.buffers,
            every=self._every,
            max_bytes=self._max_bytes,
            shard_seconds=SHARD_SECONDS,
            overwrite=self._overwrite,
        )
        alive = weakref.ref(self)

        def describe(keys: dict[str, Any]) -> None:
            if (scope := alive()) is not None:
                scope._set_manifest(keys)

        self._writer = Writer(recorder, describe)
        # At the end of the process, or where nobody holds the scope any more, the trace ends as it is.
        self._finalizer = weakref.finalize(self, _end, self._writer)

    def _describe(self, first: Minibatch) -> dict[str, Any]:
        assert first.inputs is not None
        names = list(first.inputs)
        example = first.inputs[names[0]]
        manifest: dict[str, Any] = {
            "input": list(example.shape[1:]),
            "loss": first.told.name,
            "target": self._target_kind(first, example),
            "precision": first.precision,
            "optimizer": optimizer_of(self.optimizer),
            "model": self._model_text(),
        }
        self._rate = self.optimizer.param_groups[0].get("lr")
        if isinstance(self.probe, Sequence):
            manifest["probe"] = [int(row) for row in self.probe]
        converted = convert.layers_of(self.model, list(example.shape), manifest["loss"]) if names == ["inputs"] else "the model has several inputs"
        if isinstance(converted, str):
            manifest["conversion"] = converted
        else:
            manifest.update(layers=converted.layers, parameters=converted.parameters, loss=converted.loss)
            if converted.input is not None:
                manifest["input"] = converted.input
        return manifest

    def _target_kind(self, first: Minibatch, example: Tensor) -> str:
        targets = first.targets
        if first.targets_are_inputs:
            return "input"
        if targets is None:
            raise NotRecordable("the loss has no tensor of targets; record by scope.record(inputs, targets, loss)")
        if targets.numel() == example.numel() and targets.dtype == example.dtype and torch.equal(targets.reshape(-1), example.reshape(-1)):
            return "input"
        return "values" if targets.is_floating_point() else "label"

    def _model_text(self) -> str:
        text = str(unwrapped(self.model))
        if self.ranks > 1:
            text += f"\nrank 0 of {self.ranks} processes: the trace holds its share of each minibatch, and updates follow the mean gradient of all"
        return text

    def _note(self, minibatches: list[Minibatch]) -> None:
        """Notes what changes on the way."""
        if any(minibatch.told.name != self._loss for minibatch in minibatches):
            others = next(minibatch.told.name for minibatch in minibatches if minibatch.told.name != self._loss)
            raise NotRecordable(f"the loss is {others}, but was {self._loss} in the rounds before")
        rate = self.optimizer.param_groups[0].get("lr")
        if rate != self._rate and "schedule" not in self._manifest["optimizer"]:
            self._set_manifest({"optimizer": {**self._manifest["optimizer"], "schedule": "changes"}})
        uneven = "minibatches of unequal sizes in one step, not weighted by them"
        if len(minibatches) > 1 and "accumulation" not in self._manifest["optimizer"] and not weights_fit(minibatches):
            self._set_manifest({"optimizer": {**self._manifest["optimizer"], "accumulation": uneven}})

    def _set_manifest(self, keys: dict[str, Any]) -> None:
        self._manifest.update(keys)
        assert self._writer is not None
        self._writer.recorder.describe(json.dumps(keys))

    def _gradients_are_clear(self) -> bool:
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        return not any(bool(gradient.count_nonzero()) for gradient in gradients)

    def _finish(self, complete: bool) -> None:
        self._closed = True
        self._detach()
        if self._writer is None:
            return
        self._finalizer.detach()
        try:
            final = self._copies.copy(self._wait) if self.error is None else None
            self._writer.finish(final, complete)
        except Exception as error:
            if self.error is None:
                self._stop(error)

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _guard(self, action: Callable[[], None]) -> None:
        """Does something for the recording; whatever fails ends it, and never the training."""
        if self.error is not None or self._closed:
            return
        try:
            action()
        except Exception as error:
            self._stop(error)

    def _stop(self, error: Exception) -> None:
        self.error = error
        self._detach()
        self._minibatches.take()
        if self._writer is not None and not self._closed:
            self._finalizer()  # What was recorded is written now, as nobody may close the scope.
        if isinstance(error, NotRecordable | OSError):
            what = str(error)
        else:
            what = f"{type(error).__name__}: {error}"
        rounds = self._writer.rounds if self._writer is not None else 0
        kept = f"; the rounds before are in {self.trace}" if rounds else ""
        self._warn(f"recording ended after {rounds} rounds, training goes on: {what}{kept}")

    def _warn(self, text: str) -> None:
        try:
            warnings.warn(f"taylorscope: {text}", RuntimeWarning, stacklevel=2)
        except RuntimeWarning:  # Where warnings are errors, training goes on all the same.
            print(f"taylorscope: {text}", file=sys.stderr)


def _end(writer: Writer) -> None:
    """Ends a trace that nobody closed."""
    with contextlib.suppress(Exception):
        writer.finish(None, False)


def _ignored_targets(ignored: int, targets: list[Tensor]) -> dict[str, Any] | None:
    """The name of the loss once a target is one that does not count."""
    if any(bool((part == ignored).any()) for part in targets):
        return {"loss": f"cross_entropy with ignored targets ({ignored})"}
    return None
