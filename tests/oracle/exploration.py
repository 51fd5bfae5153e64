"""The exploration metrics, straight from their definitions on unpacked bits.

The program computes in f32, so a pre-activation within its rounding error of 0 may get the other state there. Such
bits are counted per configuration and neuron (`doubtful`), and bound by how much the metrics may differ.
"""

import numpy as np

from linearize import forward


def configurations(trace, rounds, probe):
    """Per hidden layer: `active` [configuration, place, unit] and `doubtful` of the same shape.

    A place is a datapoint, for a convolution a datapoint and a position.
    """
    active, doubtful = [], []
    for r in rounds:
        steps = forward(trace.blocks, trace.state(r), probe)[:-1]
        active.append([(s.pre > 0).reshape(-1, s.pre.shape[2]) for s in steps])
        doubtful.append([s.doubtful.reshape(-1, s.pre.shape[2]) for s in steps])
    return [np.array(a) for a in zip(*active)], [np.array(d) for d in zip(*doubtful)]


def winners(trace, rounds, probe):
    """The same for the winners of max-pools: a place is a datapoint, a window and a place in it."""
    chosen, doubtful = [], []
    for r in rounds:
        steps = [s for s in forward(trace.blocks, trace.state(r), probe) if s.unclear is not None]
        last = [np.moveaxis(s.weights, 1, -1) for s in steps]
        chosen.append([w.reshape(-1, w.shape[-1]) > 0 for w in last])
        spread = [np.broadcast_to(np.moveaxis(s.unclear, 1, -1)[:, :, :, None], w.shape) for s, w in zip(steps, last)]
        doubtful.append([d.reshape(-1, d.shape[-1]) for d in spread])
    return [np.array(c) for c in zip(*chosen)], [np.array(d) for d in zip(*doubtful)]


def novelty(active):
    """Least distance to any earlier configuration and distance to the previous one (None for the first), bits."""
    count = len(active[0])
    distance = np.zeros((count, count), np.int64)
    for a in active:
        bits = a.reshape(count, -1).astype(np.float32)
        gram = np.rint(bits @ bits.T).astype(np.int64)  # exact below 2^24
        distance += np.diag(gram)[:, None] + np.diag(gram)[None, :] - 2 * gram
    nearest = [None] + [int(distance[n, :n].min()) for n in range(1, count)]
    previous = [None] + [int(distance[n, n - 1]) for n in range(1, count)]
    return nearest, previous, sum(a[0].size for a in active)


def spectrum(states, volume=50):
    """`rank, log_volume, log_det` of one neuron's 0/1 matrix [configuration, datapoint]."""
    a = states.astype(np.float64)
    s = np.linalg.svd(a, compute_uv=False)
    rank = int(np.sum(s > max(a.shape) * np.finfo(float).eps * max(s[0], 1.0)))
    return rank, float(np.log(s[: min(volume, rank)]).sum()), float(0.5 * np.log1p(s**2).sum())
