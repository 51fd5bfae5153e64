"""The exploration metrics by float products: `exploration.py FOLDER`.

Configurations are bytes `[units, rounds, datapoints]`, as comparing pre-activations with zero gives them, and packed bits for the binary
kernels. Commands: `svd` (the definition: singular values of each neuron's matrix), `gram` (eigenvalues of its Gram matrix instead, the
cheaper way), both with novelty and switches; `binary` (the Gram matrices alone, by NumKong's products of bits).
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numkong
import numpy as np
import torch

from worker import THREADS, answer, timed

DATAPOINTS, TOP = 60_000, 50


def floating(states, volume):
    """Novelty, switches and log-volumes; `volume(a, gram)` gives the squares of the singular values, descending."""
    rounds = states.shape[1]
    distances, switches, volumes = torch.zeros(rounds, rounds, dtype=torch.float64), [], []
    for unit in states:
        a = unit.float()
        # Sums of fewer than 2^24 ones are exact in float32.
        gram = (a @ a.T).double()
        active = gram.diagonal()
        between = active[:, None] + active[None, :] - 2 * gram
        distances += between
        switches.append(int(between.diagonal(1).sum()))
        squares = volume(a, gram)
        rank = int((squares > squares[0] * rounds * 8.9e-16).sum())
        volumes.append(0.5 * squares[: min(TOP, rank)].double().log().sum().item())
    novelty = [None] + [int(distances[n, :n].min()) for n in range(1, rounds)]
    return {"novelty": novelty, "switches": switches, "log_volume": volumes}


def by_svd(a, _):
    return torch.linalg.svdvals(a) ** 2


def by_eigenvalues(_, gram):
    return torch.linalg.eigvalsh(gram).flip(0).clamp(min=0)


def binary(packed):
    """The sum of all entries of all Gram matrices, with the neurons on two threads (NumKong's products use one)."""

    def one(rows):
        upper = np.triu(np.asarray(numkong.dots_symmetric(rows, dtype="uint1")))
        return 2 * int(upper.sum(dtype=np.int64)) - int(upper.diagonal().sum(dtype=np.int64))

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(one, packed))


def main():
    words = np.load(Path(sys.argv[1]) / "bits.npy")
    packed = np.ascontiguousarray(words.view(np.uint8))
    bits = [np.unpackbits(unit, axis=1, count=DATAPOINTS, bitorder="little") for unit in packed]
    states = torch.from_numpy(np.stack(bits))
    del bits

    def command(words):
        if words[0] == "binary":
            seconds, total = timed(lambda: binary(packed))
            return seconds, {"total": total}
        volume = {"svd": by_svd, "gram": by_eigenvalues}[words[0]]
        return timed(lambda: floating(states, volume))

    answer(command)


if __name__ == "__main__":
    main()
