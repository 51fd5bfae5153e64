"""The first pass over the rounds: losses against the recorded ones, and how units moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import vjp

from taylorscope.reader import Trace
from taylorscope.torch_backend.losses import CrossEntropy, CustomLoss, Loss, MeanSquaredError
from taylorscope.torch_backend.model import Functional, ModelError
from taylorscope.torch_backend.products import Passes
from taylorscope.torch_backend.rounds import Loaded, Rounds
from taylorscope.torch_backend.team import Team
from taylorscope.torch_backend.units import Layout, Unit

__all__ = ["Replay", "agree", "fitting_loss", "replay", "rows_are_independent"]

# Relative and absolute differences of losses that a precision leaves.
TOLERANCES = {"f64": (1e-6, 1e-9), "f32": (1e-3, 1e-6), "tf32": (1e-2, 1e-4), "bf16": (5e-2, 1e-2), "f16": (2e-2, 1e-3)}
# An update is a step of plain SGD if it differs by less than this share of the step, and of the weights, from one.
STEP, ROUNDING = 1e-3, 1e-6


@dataclass
class Replay:
    """What the rounds showed."""

    losses: NDArray[np.float64]
    displacements: NDArray[np.float64]
    """`[units, rounds]`: `|W^n - W^1|`."""
    gradients: NDArray[np.float64]
    """`[units, rounds]`: `|g_n|`."""
    plain_sgd: bool
    """Whether every update is a step along the gradient with the rate that was told."""


def fitting_loss(loss: Loss, outputs: Tensor, targets: Tensor) -> Loss:
    """The loss, by its own function where the written-out Hessian does not fit the shapes or targets of these minibatches."""
    if isinstance(loss, MeanSquaredError) and targets.numel() != outputs.numel():
        return CustomLoss(nn.functional.mse_loss, loss.name)
    if isinstance(loss, CrossEntropy):
        classes = outputs.dim() >= 3 and targets.shape == outputs.shape[:2] + outputs.shape[3:]
        plain = classes and not targets.is_floating_point() and bool((targets >= 0).all())
        if not plain:
            return CustomLoss(nn.functional.cross_entropy, loss.name)
    return loss


def agree(recorded: NDArray[np.float64], recomputed: NDArray[np.float64], precision: str, tolerance: float | None) -> int | None:
    """The first place where losses differ by more than their precision leaves."""
    relative, absolute = TOLERANCES.get(precision, TOLERANCES["f32"])
    relative = relative if tolerance is None else tolerance
    differs = ~(np.abs(recorded - recomputed) <= relative * np.abs(recorded) + absolute)
    return int(np.argmax(differs)) if differs.any() else None


def reasons(model: nn.Module) -> str:
    """Why a recomputed loss may differ, the likely ones for this model first."""
    found = []
    dropout = [name for name, m in model.named_modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]
    if dropout:
        found.append(f"dropout was active in training ({', '.join(dropout[:3])}), so its losses are random: record with p = 0")
    if any(isinstance(m, nn.modules.batchnorm._NormBase) for m in model.modules()):
        found.append("normalization used statistics that were not recorded")
    found.append("the loss has a part that is not of the outputs (a penalty on weights), or another criterion was handed over")
    found.append("another model was handed over, or one with other settings")
    found.append("the forward pass draws random numbers, or training computed in a lower precision than the trace says")
    return "; ".join(found)


def rows_are_independent(functional: Functional, loaded: Loaded, dtype: torch.dtype) -> bool:
    """Whether the outputs for a datapoint do not depend on the others of its minibatch, as with statistics of minibatches they do."""
    first = loaded.part(0, 1)
    whole = {name: tensor[0] for name, tensor in first.inputs.items()}
    batch = len(next(iter(whole.values())))
    parameters = {name: tensor[0] for name, tensor in first.parameters.items()}
    buffers = {name: tensor[0] for name, tensor in first.buffers.items()}
    outputs = functional(dtype, parameters, buffers, whole)
    if outputs.dim() == 0 or len(outputs) != batch:
        return False
    half = max(1, batch // 2)
    try:
        alone = functional(dtype, parameters, buffers, {name: tensor[:half] for name, tensor in whole.items()})
    except (RuntimeError, ValueError):
        return False
    scale = outputs.abs().max().item() + 1e-30
    return alone.shape == outputs[:half].shape and (alone - outputs[:half]).abs().max().item() <= 1e-5 * scale


def losses_of(functional: Functional, loss: Loss, rounds: Rounds, passes: Passes, places: Sequence[int], dtype: torch.dtype) -> list[float]:
    """Recomputed losses of a few rounds of this process."""
    out: list[float] = []
    for r in places:
        for _, _, _, loaded in rounds.parts(r, r + 1, dtype):
            outputs = passes.function(loaded, (), dtype)({})
            out.append(float(loss.value_gradient(outputs, loaded.targets)[0][0]))
    return out


def replay(
    trace: Trace,
    rounds: Rounds,
    layout: Layout,
    passes: Passes,
    loss: Loss,
    units: Sequence[Unit],
    team: Team,
    dtype: torch.dtype,
    rate: float | None,
) -> Replay:
    """Losses, gradients and displacements of all rounds; `rate` is that of plain SGD, if the trace tells that."""
    count, wide = rounds.count, torch.float64
    found = np.zeros((1 + 2 * len(units), count))
    off_steps = 0.0
    final = trace.final_state() if rate is not None else None
    names = tuple(layout.shapes)
    for chunk in rounds.chunks:
        loaded = rounds.load(chunk, dtype)
        moving = {name: loaded.parameters[name] for name in names}
        outputs, pull = vjp(passes.function(loaded, names, dtype), moving)
        values, cotangents = loss.value_gradient(outputs, loaded.targets)
        gradients = pull(cotangents)[0]
        found[0, chunk.rounds] = values.double().cpu().numpy()
        moved = {name: moving[name].double() - rounds.first[name] for name in names}
        found[1 : 1 + len(units), chunk.rounds] = layout.norms(moved, units)
        found[1 + len(units) :, chunk.rounds] = layout.norms(gradients, units)
        if rate is not None:
            off_steps += _off_steps(rounds.states_after(chunk, final), moving, gradients, rate)
    total = team.gather(torch.from_numpy(np.append(found.ravel(), off_steps)).to(wide)).numpy()
    found, steps = total[:-1].reshape(found.shape), total[-1]
    return Replay(found[0], found[1 : 1 + len(units)], found[1 + len(units) :], rate is not None and steps == 0)


def _off_steps(after: Sequence[dict[str, Tensor] | None], moving: dict[str, Tensor], gradients: dict[str, Tensor], rate: float) -> int:
    """Updates that are no steps of plain SGD with this rate."""
    off = 0
    for r, state in enumerate(after):
        if state is None:
            continue
        rest = step = weight = 0.0
        for name, new in state.items():
            update, g = new - moving[name][r].double(), gradients[name][r].double() * rate
            rest += float((update + g).square().sum())
            step += float(g.square().sum())
            weight += float(new.square().sum())
        off += rest**0.5 > STEP * step**0.5 + ROUNDING * weight**0.5
    return off


def check(model: Functional, recorded: NDArray[np.float64], found: NDArray[np.float64], numbers: NDArray[np.int64], precision: str, tolerance: float | None) -> str:
    """A sentence on how well the losses agree.

    Raises:
        ModelError: with the likely reasons, if they do not.
    """
    at = agree(recorded, found, precision, tolerance)
    if at is not None:
        raise ModelError(
            f"the loss of round {numbers[at]} was recorded as {recorded[at]:.9g}, but its state and minibatch give {found[at]:.9g}. Likely reasons: "
            f"{reasons(model.module)}"
        )
    worst = np.max(np.abs(recorded - found) / np.maximum(np.abs(recorded), 1e-12))
    return f"the recomputed losses agree with the recorded ones to {worst:.0e} of the loss at worst"
