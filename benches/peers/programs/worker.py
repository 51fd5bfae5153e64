"""The protocol of both sides of a comparison: every line of the standard input is a command, answered by a line of JSON with the seconds
that it took, facts that the other side must agree with, and the peak memory so far. Set-up is never timed."""

import json
import resource
import sys
import time

import numpy as np
import torch

THREADS = 2


def answer(command):
    """Says that set-up is done, then answers commands until the input ends. `command(words)` returns seconds and facts."""
    # What libraries print goes to the standard error, so that the answers stay alone.
    out, sys.stdout = sys.stdout, sys.stderr

    def reply(**fields):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({**fields, "peak_bytes": peak}), file=out, flush=True)

    reply(ready=True)
    for line in sys.stdin:
        try:
            seconds, facts = command(line.split())
            reply(seconds=seconds, facts=facts)
        except Exception as error:
            reply(error=f"{type(error).__name__}: {error}")


def timed(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def pixels(folder):
    """MNIST as one tensor, `[rows, 784]` in [0, 1]."""
    return torch.from_numpy(np.load(folder / "pixels.npy")).float() / 255


def order(folder):
    """The order of the datapoints in the epoch."""
    return torch.from_numpy(np.load(folder / "order.npy").astype(np.int64))


torch.set_num_threads(THREADS)
torch.manual_seed(0)
