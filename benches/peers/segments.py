"""The kinks of the MNIST autoencoder along many segments in PyTorch, the peer of `cargo run --release --example segments`.

    cargo run --release --example segments -- 1000 FOLDER
    python benches/peers/segments.py FOLDER [--repeats 5] [--threads 2]

FOLDER has the weights and the segments' ends that the example wrote. The propagation is the same: pieces with value and slope of every
unit, cut layer by layer at the zeros of the pre-activations, in float64. All segments are one batch, so that the products are large.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file


def kinks(layers, starts):
    """The number of kinks on the segments between consecutive rows of `starts`."""
    x, v = starts[:-1], starts[1:] - starts[:-1]
    left = torch.zeros(len(x), dtype=x.dtype)
    right = torch.ones_like(left)
    total = 0
    for weight, bias in layers:
        a, s = x @ weight.T + bias, v @ weight.T
        length = right - left
        t = -a / s
        piece, unit = torch.nonzero((t > 0) & (t < length[:, None]), as_tuple=True)
        total += len(piece)
        # The left ends of all new pieces, sorted by piece and place.
        parent = torch.cat([torch.arange(len(left)), piece])
        offset = torch.cat([torch.zeros_like(left), t[piece, unit]])
        order = torch.argsort(offset, stable=True)
        order = order[torch.argsort(parent[order], stable=True)]
        parent, offset = parent[order], offset[order]
        begin = left[parent] + offset
        last = torch.ones(len(parent), dtype=torch.bool)
        last[:-1] = parent[1:] != parent[:-1]
        end = torch.where(last, right[parent], torch.roll(begin, -1))
        value, slope = a[parent] + s[parent] * offset[:, None], s[parent]
        active = value + slope * (0.5 * (end - begin))[:, None] > 0
        x, v, left, right = value * active, slope * active, begin, end
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tensors = load_file(arguments.folder / "weights.safetensors")
    names = sorted({int(name.split(".")[0]) for name in tensors})
    # The output layer has no kinks.
    layers = [(tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in names[:-1]]
    starts = torch.from_numpy(np.load(arguments.folder / "starts.npy"))
    seconds = []
    with torch.inference_mode():
        found = kinks(layers, starts)
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            kinks(layers, starts)
            seconds.append(time.perf_counter() - start)
    print(f"{len(starts) - 1} segments, {found} kinks: {statistics.median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f})")


if __name__ == "__main__":
    main()
