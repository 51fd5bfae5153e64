"""Trainings for tests, written as traces of format 2 by a few plain lines that share nothing with the recorder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn


def train(
    folder: Path,
    model: nn.Module,
    criterion: Callable[[Any, Tensor], Tensor],
    inputs: Tensor | Mapping[str, Tensor],
    targets: Tensor | None,
    *,
    rounds: int,
    batch: int,
    loss: str,
    rate: float = 0.1,
    optimizer: torch.optim.Optimizer | None = None,
    layers: Sequence[Any] | None = None,
    every: int = 1,
    shard: int = 16,
    seed: int = 0,
    output: Callable[[Any], Tensor] = lambda out: out,
    final: bool = True,
) -> Path:
    """Trains and records. `inputs` by keyword if there are several; without `targets` the inputs are the targets."""
    named = {"": inputs} if isinstance(inputs, Tensor) else dict(inputs)
    count = len(next(iter(named.values())))
    steps = optimizer or torch.optim.SGD(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    folder.mkdir(parents=True)
    order: dict[int, int] = {}
    kept: list[dict[str, Any]] = []
    losses: list[float] = []
    written = 0
    for number in range(1, rounds + 1):
        rows = torch.randperm(count, generator=generator)[:batch]
        x = {name: tensor[rows] for name, tensor in named.items()}
        y = x[""] if targets is None else targets[rows]
        state = {f"state.{n}": p.detach().numpy().copy() for n, p in model.named_parameters()}
        state |= {f"buffer.{n}": b.numpy().copy() for n, b in model.named_buffers() if b.is_floating_point()}
        steps.zero_grad()
        out = output(model(x[""]) if "" in x else model(**x))
        value = criterion(out, y)
        value.backward()
        losses.append(float(value.detach()))
        if (number - 1) % every == 0:
            kept.append({"round": number, "loss": losses[-1], "rows": rows.tolist(), "state": state})
        steps.step()
        if len(kept) == shard or number == rounds:
            _write_shard(folder / f"shard-{written:05}.safetensors", kept, order, named, targets)
            kept, written = [], written + 1
    name = type(steps).__name__
    manifest = {
        "format": 2,
        "input": list(next(iter(named.values())).shape[1:]),
        "loss": loss,
        "target": "input" if targets is None else "label" if not targets.is_floating_point() else "values",
        "precision": "f64" if next(model.parameters()).dtype == torch.float64 else "f32",
        "optimizer": {"name": name.lower(), "learning_rate": steps.param_groups[0]["lr"]},
        "every": every,
        "rounds": rounds,
        "complete": True,
    }
    if layers is not None:
        manifest["layers"] = list(layers)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    if final:
        state = {f"state.{n}": p.detach().numpy().copy() for n, p in model.named_parameters()}
        save_file(state, folder / "final.safetensors", {"format": "2", "rounds": str(rounds)})
    return folder


def _write_shard(path: Path, kept: list[dict[str, Any]], order: dict[int, int], named: Mapping[str, Tensor], targets: Tensor | None) -> None:
    new = [row for row in dict.fromkeys(row for r in kept for row in r["rows"]) if row not in order]
    order.update({row: len(order) + at for at, row in enumerate(new)})
    tensors = {
        "rounds": np.array([r["round"] for r in kept], np.int64),
        "losses": np.array([r["loss"] for r in kept], np.float64),
        "sizes": np.array([len(r["rows"]) for r in kept], np.int64),
        "rows": np.array([order[row] for r in kept for row in r["rows"]], np.int64),
    }
    tensors |= {f"inputs.{name}" if name else "inputs": tensor[new].numpy() for name, tensor in named.items()}
    if targets is not None:
        tensors["targets"] = targets[new].numpy()
    if kept:
        tensors |= {name: np.stack([r["state"][name] for r in kept]) for name in kept[0]["state"]}
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path, {"format": "2"})
