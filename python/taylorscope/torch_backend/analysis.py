"""The analysis of a recorded training by products on torch: what `taylorscope.analyze(..., backend="torch")` does."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taylorscope import _native
from taylorscope.reader import Trace
from taylorscope.torch_backend import activations, tuning
from taylorscope.torch_backend.derivatives import Derivatives, KeptProblem
from taylorscope.torch_backend.losses import Loss, loss_of
from taylorscope.torch_backend.model import Functional, ModelError, plain_kernels
from taylorscope.torch_backend.products import Passes, PassSections, Problem
from taylorscope.torch_backend.progress import Progress
from taylorscope.torch_backend.replay import Replay, agree, check, fitting_loss, losses_of, replay, rows_are_independent
from taylorscope.torch_backend.rounds import Rounds
from taylorscope.torch_backend.team import Team
from taylorscope.torch_backend.units import Layout, Unit, layout_of

__all__ = ["analyze"]

SCALES = {"network": "network", "module": "layer", "layer": "layer", "neuron": "neuron"}


def analyze(
    trace: Trace | str | os.PathLike[str],
    *,
    model: nn.Module,
    criterion: Any = None,
    out: str | os.PathLike[str],
    output: Callable[[Any], Tensor] | None = None,
    scales: Sequence[str] = ("network", "module", "neuron"),
    neurons: int | None = 4,
    prefixes: int = 30,
    window: int | None = None,
    rounds: int | None = None,
    comparators: Sequence[str] | None = None,
    ball_factor: float = 2.0,
    tolerance: float = 1e-4,
    neuron_tolerance: float = 1e-6,
    max_products: int = 128,
    probe: int = 2000,
    explore_every: int | None = None,
    loss_tolerance: float | None = None,
    memory: int | None = None,
    name: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Path | None:
    """Taylor optima and regret of any differentiable model with a convex loss of its outputs, on the device where the model lives.

    Products come from `torch.func`, the certified search is Rust's; the folder and its page are those of `taylorscope analyze`. Values, gradients and
    gaps are in double precision. In processes of `torch.distributed` the rounds are shared out, and rank 0 searches and writes.

    Args:
        trace: of format 2, or its folder.
        model: the one that was recorded, with any weights. It stays as it is. Frozen parameters do not move.
        criterion: loss of outputs and targets, averaged over the minibatch: a module or a function; the one that the trace names by default. It must be
            convex in the outputs and not negative.
        out: folder of the results.
        output: which tensor of what the model returns the loss is of, where that is no tensor.
        scales: of `"network"`, `"module"` (parameters of a module's own) and `"neuron"` (rows of a module's weights).
        neurons: of each module, evenly spaced; all with None.
        prefixes: log-spaced numbers of rounds that optima are found for.
        window: kept rounds to analyse, from the first.
        rounds: of these, evenly spaced ones.
        comparators: of `"ball"` and `"unconstrained"`; by default the ball, and both where that has a closed form.
        ball_factor: the ball's radius is so many times the largest displacement of training.
        tolerance, neuron_tolerance: gaps to reach, as shares of the mean loss.
        max_products: products with the curvature of all rounds that the prefixes of a unit share; more certify smaller gaps.
        probe: datapoints, evenly spaced, on which activations of rectifiers are compared (those of the manifest if it names some); 0 for none.
        explore_every: kept rounds between recorded activations; about 50 configurations by default.
        loss_tolerance: relative difference up to which recomputed losses agree with recorded ones; by the trace's precision by default.
        memory: bytes that the analysis may take on the device; a part of what is free by default.
        name: of the analysis.
        overwrite: whether an analysis in the folder is replaced.
        progress: whether phases and how long they will take are printed.

    Returns:
        The folder; None for ranks other than 0.

    Raises:
        ModelError: if the model is not the one that was recorded or cannot be differentiated this way, with what to do.
        ValueError: for what else is wrong with the arguments or the numbers.
        KeyboardInterrupt: after Ctrl-C; the folder then says that it is not complete.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}, not a torch.nn.Module")
    unknown = [scale for scale in scales if scale not in SCALES]
    if unknown or isinstance(scales, str):
        raise ValueError(f"scales has {unknown or scales!r}; choose from 'network', 'module' and 'neuron'")
    settings = {
        "regret.scales": [SCALES[scale] for scale in dict.fromkeys(scales)],
        "regret.prefixes": prefixes,
        "regret.ball_factor": float(ball_factor),
        "regret.tolerance": float(tolerance),
        "regret.neuron_tolerance": float(neuron_tolerance),
        "regret.max_products": max_products,
        "exploration.probe": probe,
    }
    settings.update({"regret.neurons": neurons} if neurons is not None else {})
    settings.update({"regret.comparators": list(comparators)} if comparators is not None else {})
    settings.update({"regret.rounds": rounds} if rounds is not None else {})
    recorded = trace if isinstance(trace, Trace) else Trace(trace)
    with plain_kernels():
        analysis = Analysis(recorded, model, criterion, output, [SCALES[s] for s in scales], neurons, window, rounds, memory, loss_tolerance)
        if analysis.team.rank != 0:
            analysis.team.serve(analysis, analysis.functional.device)
            return None
        try:
            said = Progress(progress)
            configurations = analysis.configurations(probe, explore_every, said) if probe > 0 else None
            return analysis.search(Path(out), name, settings, configurations, overwrite, said)
        finally:
            analysis.team.end()


class Analysis:
    """A trace with the model that it is of, replayed: where the search gets the products of units from."""

    def __init__(
        self,
        trace: Trace,
        model: nn.Module,
        criterion: Any,
        output: Callable[[Any], Tensor] | None,
        scales: Sequence[str],
        neurons: int | None,
        window: int | None,
        rounds: int | None,
        memory: int | None,
        loss_tolerance: float | None,
    ) -> None:
        started = time.perf_counter()
        self.trace = trace
        self.checks: list[str] = []
        self.warnings: list[str] = list(trace.notes)
        self.functional = Functional(model, output)
        device = self.functional.device
        self.layout: Layout = layout_of(self.functional.module, self.functional.trainable & set(trace.state_names))
        if not self.layout.shapes:
            raise ModelError("no trainable parameter of the model is in the trace; hand over the model that was recorded")
        self.wide = torch.float64 if device.type != "mps" else torch.float32
        self.team = Team(device, self.wide)
        places = _chosen(len(trace), window, rounds)
        self.rounds = Rounds(trace, places, self.layout, device, self.team.share)
        self.passes = Passes(self.functional)
        self._room = room = memory or tuning.default_memory(device)
        self.rounds.cut(1, 0)
        self.loss: Loss = self._fit(loss_of(criterion, str(trace.manifest.get("loss"))), loss_tolerance)
        self.dtype, note = tuning.tune(self.passes, self.rounds, self.layout, self.loss, self.wide, room)
        self.checks.append(note)
        self.units = self.layout.units(scales, neurons)
        self.seen: Replay = replay(trace, self.rounds, self.layout, self.passes, self.loss, self.units, self.team, self.wide, self._rate())
        precision = str(trace.manifest.get("precision", "f32"))
        self.checks.append(check(self.functional, self.rounds.losses, self.seen.losses, self.rounds.numbers, precision, loss_tolerance))
        if self.loss.name not in ("mse", "cross_entropy"):
            self.checks.append("that the loss is convex in the outputs is checked along directions, not proved")
        self._derivatives = self._derivatives_of_scales()
        self._current: Problem | None = None
        self.team.worker = self
        self.seconds = time.perf_counter() - started

    def _fit(self, loss: Loss, tolerance: float | None) -> Loss:
        """The loss in a form that fits the minibatches, with the modules in the mode in which losses agree with those recorded."""
        rounds, functional = self.rounds, self.functional
        mine = rounds.mine
        some = sorted({mine[0], mine[len(mine) // 2], mine[-1]}) if mine else []
        precision = str(self.trace.manifest.get("precision", "f32"))
        chosen: str | None = None
        for mode in ("given", "train", "eval"):
            functional.set_mode(mode)
            if not some:
                break
            loaded = next(rounds.parts(some[0], some[0] + 1, self.wide))[3]
            loss = fitting_loss(loss, self._first_outputs(loaded), loaded.targets)
            found = np.array(losses_of(functional, loss, rounds, self.passes, some, self.wide))
            if agree(rounds.losses[some], found, precision, tolerance) is None:
                chosen = mode
                break
        # Rank 0 decides for all. Without agreement the replay says which round differs.
        chosen = self.team.same(chosen or "given")
        functional.set_mode(chosen)
        if chosen != "given":
            self.checks.append(f"the losses are those of the model in {chosen} mode, which is taken instead of the modes that it has now")
        return loss

    def _first_outputs(self, loaded: Any) -> Tensor:
        """The outputs of a round, without `vmap` where the model does not allow it, and not in double precision where it does not."""
        try:
            return self.passes.function(loaded, (), self.wide)({})
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a model raises under vmap
            self.passes.vectorized = False
            try:
                return self.passes.function(loaded, (), self.wide)({})
            except Exception:
                raise ModelError(
                    f"the model does not run on the recorded minibatches in double precision: {error}; does its forward pass make tensors of a fixed "
                    "type? Make them with the type of the inputs (torch.zeros_like, x.new_zeros)"
                ) from error

    def _rate(self) -> float | None:
        """The rate of plain SGD, if the manifest tells that and all rounds are analysed."""
        told = dict(self.trace.manifest.get("optimizer") or {})
        rate = told.pop("learning_rate", told.pop("lr", None))
        name = str(told.pop("name", "")).rsplit(".", 1)[-1].lower()
        off = all(value in (None, False, 0, "", "none", "None", "constant") for value in told.values())
        every = np.array_equal(self.rounds.numbers, np.arange(1, self.rounds.count + 1))
        return float(rate) if name == "sgd" and off and every and isinstance(rate, (int, float)) and rate > 0 else None

    def _derivatives_of_scales(self) -> dict[str, Derivatives]:
        """For each scale, where derivatives of the outputs may be kept."""
        outputs, independent = (1, 1), True
        if self.rounds.chunks:
            loaded = self.rounds.load(self.rounds.chunks[0], self.wide).part(0, 1)
            found = self.passes.function(loaded, (), self.wide)({})[0]
            outputs = (max(int(self.trace.sizes.max()), 1), found.numel() // max(len(found), 1) * int(self.trace.sizes.max()))
            independent = rows_are_independent(self.functional, loaded, self.wide)
        outputs, independent = self.team.same((outputs, independent))
        if not independent:
            self.checks.append("outputs depend on the whole minibatch, as with statistics of minibatches; no minibatch is split")
        made: dict[str, Derivatives] = {}
        for scale, room in (("neuron", self._room // 2), ("layer", self._room // 4), ("network", self._room // 4)):
            units = [unit for unit in self.units if unit.scale == scale]
            common = (self.rounds, self.layout, self.passes, self.loss)
            made[scale] = Derivatives(*common, units, outputs, independent, room, self.wide)
        return made

    def configurations(self, probe: int, every: int | None, said: Progress) -> Any:
        """Packed configurations of the rectifiers on the probe set, with the words for those behind no module."""
        told = self.trace.manifest.get("probe")
        count = self.trace.datapoints
        rows = np.array(told, np.int64) if told else np.arange(min(probe, count)) * count // min(probe, count)
        step = every or max(1, len(self.rounds.places) // 50)
        places = self.rounds.places[::step]
        said("phase", "activations", 0, 0)
        mode = [module.training for module in self.functional.module.modules()]
        try:
            recorded = activations.record(self.functional, self.layout, self.trace, places, rows, lambda done, of: said("progress", "", done, of))
        except (RuntimeError, ValueError, IndexError) as error:
            self.warnings.append(f"activations were not recorded: {error}")
            return None
        finally:
            self.functional.restore(mode)
        return recorded if recorded.neurons else None

    def search(
        self,
        out: Path,
        name: str | None,
        settings: dict[str, Any],
        configurations: activations.Recorded | None,
        overwrite: bool,
        said: Progress,
    ) -> Path:
        """Searches, and writes the folder."""
        manifest, trace = self.trace.manifest, self.trace
        layers = [module.words for module in self.layout.modules]
        layers += configurations.extra_layers if configurations else []
        told = {
            "name": name or trace.folder.resolve().name,
            "label": _safe((manifest.get("optimizer") or {}).get("name") or "trace"),
            "trace": str(trace.folder),
            "digest": trace.digest(),
            "optimizer": {k: v for k, v in (manifest.get("optimizer") or {}).items() if v is not None},
            "plain_sgd": self._rate() if self.seen.plain_sgd else None,
            "dataset": str((manifest.get("data") or {}).get("name") or (manifest.get("data") or {}).get("dataset") or "recorded minibatches"),
            "loss": self.loss.name,
            # In a summary, values that are given are called labels, too.
            "target": "input" if manifest.get("target") == "input" else "label",
            "layers": layers,
            "rounds": self.rounds.numbers.tolist(),
            "per_epoch": int(np.clip(trace.datapoints // max(int(np.median(trace.sizes)), 1), 1, trace.all_rounds[-1])),
            "checks": self.checks,
            "warnings": self.warnings,
            "seconds": self.seconds,
            "units": [(unit.scale, unit.layer, unit.neuron) for unit in self.units],
        }
        settings_text = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        try:
            return _native.analyze_external(
                json.dumps(told),
                self.seen.losses.tolist(),
                trace.all_rounds.tolist(),
                trace.all_losses.tolist(),
                np.ascontiguousarray(self.seen.displacements),
                np.ascontiguousarray(self.seen.gradients),
                configurations.packed() if configurations else None,
                self,
                out,
                settings_text,
                overwrite,
                said,
            )
        finally:
            said.end()

    # What the search calls, and what every process does of it.

    def open(self, scale: str, layer: int | None, neuron: int | None) -> Problem:
        """The Taylor losses of a unit."""
        self.team.sum("open", [self.units.index(Unit(scale, layer, neuron))], torch.zeros(0))
        assert self._current is not None
        return self._current

    def do(self, operation: str, numbers: list[int], vector: Tensor) -> Tensor:
        """This process's share of a sum."""
        if operation == "open":
            self._current = self._problem(self.units[numbers[0]])
            return vector
        assert self._current is not None
        return self._current.do(operation, numbers, vector)

    def size_of(self, operation: str, numbers: list[int], vector: Tensor) -> int:
        """How many numbers `do` gives."""
        return 0 if operation == "open" or self._current is None else self._current.size_of(operation, numbers, vector)

    def _problem(self, unit: Unit) -> Problem:
        device = self.functional.device
        kept = self._derivatives.get(unit.scale)
        if kept is not None and (unit.scale == "neuron" or kept.fits(unit)):
            return KeptProblem(unit, kept, self.layout, self.loss, self.team, device, self.wide)
        sections = PassSections(self.rounds, self.layout, self.passes, unit, self._room // 4)
        return Problem(sections, self.loss, self.team, device, self.dtype)


def _chosen(kept: int, window: int | None, rounds: int | None) -> list[int]:
    """Places of the kept rounds that are analysed: of the first so many, evenly spaced ones."""
    for name, value in (("window", window), ("rounds", rounds)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; at least one round has to be analysed")
    last = min(kept, window or kept)
    return list(range(last)) if rounds is None or rounds >= last else [place * last // rounds for place in range(rounds)]


def _safe(text: str) -> str:
    """A text as the name of a folder."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text).strip(".-").lower()[:64] or "trace"
