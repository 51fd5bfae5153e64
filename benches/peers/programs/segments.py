"""The kinks of the autoencoder along segments: `segments.py FOLDER`.

Commands: `propagate`, the same propagation as the other side's (pieces with value and slope of every unit, cut layer by layer at the zeros of
the pre-activations), in float64, all segments as one batch; `sample SEGMENTS POINTS`, the states of all units at evenly spaced
points of the first segments, which finds the kinks with odd numbers of changes between neighbouring points, to the distance of two points.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from worker import answer, timed

# Points that are taken through the network together.
CHUNK = 4096


def propagate(layers, points):
    """The kinks of each segment between consecutive rows of `points`, and the sum of their places."""
    x, v = points[:-1], points[1:] - points[:-1]
    left = torch.zeros(len(x), dtype=x.dtype)
    right = torch.ones_like(left)
    segment = torch.arange(len(x))
    counts, places = torch.zeros(len(x), dtype=torch.int64), 0.0
    for weight, bias in layers:
        a, s = x @ weight.T + bias, v @ weight.T
        length = right - left
        t = -a / s
        piece, unit = torch.nonzero((t > 0) & (t < length[:, None]), as_tuple=True)
        counts += torch.bincount(segment[piece], minlength=len(counts))
        places += (left[piece] + t[piece, unit]).sum().item()
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
        x, v, left, right, segment = value * active, slope * active, begin, end, segment[parent]
    return counts, places


def sample(layers, points, segments, count):
    """The changes of state between neighbouring ones of `count` points on each of the first segments."""
    found = []
    t = torch.linspace(0, 1, count)[:, None]
    for start, end in zip(points[:segments], points[1 : segments + 1]):
        changes, before = 0, None
        for part in t.split(CHUNK):
            x = start + part * (end - start)
            states = []
            for weight, bias in layers:
                a = torch.addmm(bias, x, weight.T)
                states.append(a > 0)
                x = a.relu_()
            states = torch.cat(states, 1)
            changes += int((states[1:] != states[:-1]).sum())
            if before is not None:
                changes += int((states[0] != before).sum())
            before = states[-1]
        found.append(changes)
    return found


def main():
    folder = Path(sys.argv[1])
    tensors = load_file(folder / "segments.safetensors")
    names = sorted({int(name.split(".")[0]) for name in tensors})
    # The output layer has no kinks.
    layers = [(tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in names[:-1]]
    points = torch.from_numpy(np.load(folder / "points.npy"))
    single = [(weight.float(), bias.float()) for weight, bias in layers], points.float()

    def command(words):
        if words[0] == "sample":
            segments, count = map(int, words[1:])
            seconds, found = timed(lambda: sample(*single, segments, count))
            return seconds, {"kinks": found}
        seconds, (counts, places) = timed(lambda: propagate(layers, points))
        return seconds, {"kinks": counts.tolist(), "places": places}

    with torch.inference_mode():
        answer(command)


if __name__ == "__main__":
    main()
