"""Trainings recorded by `watch` and analysed by the engine, for the oracle.

    python python/tests/watched.py FOLDER

Writes FOLDER/sgd, an autoencoder in single precision whose last minibatches are short, FOLDER/adam, a convolutional classifier in double precision.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from conftest import ConvNet
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import taylorscope as ts

SETTINGS = {"prefixes": 4, "neurons": 3, "max_products": 60, "comparators": ("ball", "unconstrained"), "progress": False}


def train(model, optimizer, criterion, x, y, out):
    scope = ts.watch(model, optimizer, criterion, out=out)
    for _ in range(2):
        for xb, yb in DataLoader(TensorDataset(x, y), batch_size=24, shuffle=True):
            optimizer.zero_grad()
            criterion(model(xb), yb).backward()
            optimizer.step()
    assert scope.close(**SETTINGS) is not None and scope.error is None, scope.error


def main(out: Path) -> None:
    torch.manual_seed(0)
    x = torch.rand(200, 12) @ torch.rand(12, 12) / 6
    autoencoder = nn.Sequential(nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 12))
    train(autoencoder, torch.optim.SGD(autoencoder.parameters(), lr=0.3), nn.MSELoss(), x, x, out / "sgd")
    images, labels = torch.rand(200, 1, 8, 8, dtype=torch.float64), torch.arange(200) % 4
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 2 * label : 2 * label + 2] += 0.7
    classifier = ConvNet().double()
    train(classifier, torch.optim.Adam(classifier.parameters(), lr=1e-2), nn.CrossEntropyLoss(), images, labels, out / "adam")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
