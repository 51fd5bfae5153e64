"""What an analysis by products on torch takes: a transformer of two blocks with layer norm and GELU (about 7,000 weights), and a net with a
module of its own, each recorded by `watch` for 60 rounds.

    python python/benchmarks/torch_backend.py [--rounds 60] [--products 128]

Prints for each model and loss the seconds, and the largest gaps of the ball as shares of the mean loss.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import taylorscope as ts

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from models import RadialNet, Transformer, tokens  # noqa: E402


def transformer() -> tuple[nn.Module, Tensor, Tensor]:
    return Transformer(width=20), *tokens(2000)


def radial() -> tuple[nn.Module, Tensor, Tensor]:
    x = torch.randn(2000, 20)
    return RadialNet(20, 100, 40, 7), x, (x[:, :7] * x[:, 7:14]).argmax(1)


def measure(make, squared: bool, rounds: int, products: int) -> str:
    torch.manual_seed(0)
    model, x, y = make()
    target = nn.functional.one_hot(y, 7).float() if squared else y
    criterion = nn.MSELoss() if squared else nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with tempfile.TemporaryDirectory() as out:
        scope = ts.watch(model, optimizer, criterion, out=out)
        for _ in range(rounds):
            rows = torch.randint(0, len(x), (32,))
            optimizer.zero_grad()
            criterion(model(x[rows]), target[rows]).backward()
            optimizer.step()
        started = time.perf_counter()
        run = scope.close(backend="torch", scales=("network", "module"), max_products=products, progress=False)
        seconds = time.perf_counter() - started
        assert run is not None
        regret = run.regret[run.regret["comparator"] == "ball"]
        share = regret["gap"] / regret["mean_loss"]
        gaps = {scale: (share[regret["scale"] == scale].max(), share[(regret["scale"] == scale) & (regret["rounds"] == rounds)].max()) for scale in ("network", "layer")}
        weights = sum(parameter.numel() for parameter in model.parameters())
        words = ", ".join(f"{scale} {worst:.1e} (all rounds {last:.1e})" for scale, (worst, last) in gaps.items())
        return f"{type(model).__name__} of {weights} weights, {type(criterion).__name__}: {seconds:.0f} s, gaps at most {words}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--products", type=int, default=128)
    arguments = parser.parse_args()
    for make in (transformer, radial):
        for squared in (True, False):
            print(measure(make, squared, arguments.rounds, arguments.products), flush=True)


if __name__ == "__main__":
    main()
