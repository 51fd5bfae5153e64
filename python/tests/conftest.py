"""What tests share: small trainings, and traces read without the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

torch.set_num_threads(1)


class Recorded:
    """A trace as arrays: all shards one after the other."""

    def __init__(self, folder: Path) -> None:
        self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        shards = [load_file(path) for path in sorted(folder.glob("shard-*.safetensors"))]
        names = {name for shard in shards for name in shard}
        self.arrays = {name: np.concatenate([shard[name] for shard in shards if name in shard]) for name in names}
        final = folder / "final.safetensors"
        self.final = load_file(final) if final.exists() else None

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def minibatches(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Inputs and targets of each round."""
        ends = np.cumsum(self["sizes"])
        rows = [self["rows"][end - size : end] for end, size in zip(ends, self["sizes"], strict=True)]
        targets = self.arrays.get("targets", self["inputs"])
        return [(self["inputs"][part], targets[part]) for part in rows]


@pytest.fixture
def recorded():
    return Recorded


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor]:
    """Images of four classes, 8 x 8, that can be told apart: `[200, 1, 8, 8]` and `[200]`."""
    labels = torch.arange(200) % 4
    x = 0.3 * torch.rand(200, 1, 8, 8)
    for row, label in enumerate(labels.tolist()):
        x[row, 0, 2 * label : 2 * label + 2] += 0.7
    return x, labels


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 4))


class ConvNet(nn.Module):
    """As in many a tutorial: functional calls, and rectifiers behind pools."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 3, padding=1)
        self.conv2 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.fc1 = nn.Linear(16, 8)
        self.fc2 = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu(nn.functional.max_pool2d(self.conv1(x), 2))
        x = nn.functional.relu(nn.functional.max_pool2d(self.conv2(x), 2))
        x = x.view(x.size(0), -1)
        return self.fc2(self.fc1(x).relu())
