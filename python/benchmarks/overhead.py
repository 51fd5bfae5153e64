"""How much longer an epoch takes while every round is recorded: the MNIST autoencoder with minibatches of 64, by Adam, on two threads.

    python python/benchmarks/overhead.py FOLDER_WITH_MNIST [--epochs 5] [--out FOLDER]

FOLDER holds train-images-idx3-ubyte, plain or with .gz. Epochs with and without the recorder take turns in one process; the medians are
compared. Without a folder the images are random numbers, which takes the same time.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import taylorscope as ts


def images(folder: Path | None) -> torch.Tensor:
    if folder is None:
        return torch.rand(60_000, 784)
    path = next(path for path in folder.rglob("train-images*idx3-ubyte*"))
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=16).reshape(-1, 784).astype(np.float32) / 255)


def network() -> nn.Sequential:
    sizes = [784, 50, 30, 20, 30, 50, 784]
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def epoch(data: torch.Tensor, out: Path | None) -> float:
    """Seconds of an epoch, those included that the recorder takes to begin and to end."""
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = nn.MSELoss()
    start = time.perf_counter()
    scope = ts.watch(model, optimizer, criterion, out=out) if out is not None else None
    for rows in torch.randperm(len(data)).split(64):
        x = data[rows]
        optimizer.zero_grad()
        loss = criterion(model(x), x)
        loss.backward()
        optimizer.step()
    if scope is not None:
        scope.close(analyse=False)
        assert scope.error is None, scope.error
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    data = images(arguments.folder)
    plain, recorded = [], []
    epoch(data[:6400], None)
    for _ in range(arguments.epochs):
        with tempfile.TemporaryDirectory(dir=arguments.out) as folder:
            plain.append(epoch(data, None))
            recorded.append(epoch(data, Path(folder) / "run"))
            shutil.rmtree(folder, ignore_errors=True)
            Path(folder).mkdir(exist_ok=True)
    without, with_ = statistics.median(plain), statistics.median(recorded)
    print(f"an epoch: {without:.3f} s, recorded {with_:.3f} s: {100 * (with_ / without - 1):.1f}% more (medians of {arguments.epochs})")


if __name__ == "__main__":
    main()
