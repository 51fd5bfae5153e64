"""Training steps of the CIFAR-10 convnet in eager PyTorch, the peer of `taylorscope run cifar10-convnet --train-only`.

    python benches/peers/convnet.py [--steps 30] [--threads 2]

The network is 3 x [conv 5x5, 64 maps, ReLU, 2x2 max-pool], dense 192 ReLU, dense 10; cross-entropy, batch 128, Adam. Images are random:
the time of a step does not depend on them. Prints the median and the least time of a step, and the peak memory.
"""

import argparse
import resource
import statistics
import time

import torch
from torch import nn

BATCH = 128


def network():
    torch.manual_seed(0)
    layers = []
    for channels in (3, 64, 64):
        layers += [nn.Conv2d(channels, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 192), nn.ReLU(), nn.Linear(192, 10))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    net = network()
    optimizer = torch.optim.Adam(net.parameters())
    images, labels = torch.rand(4 * BATCH, 3, 32, 32), torch.randint(10, (4 * BATCH,))
    seconds = []
    for _ in range(arguments.steps + 3):
        rows = torch.randint(len(images), (BATCH,))
        start = time.perf_counter()
        loss = nn.functional.cross_entropy(net(images[rows]), labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    seconds = seconds[3:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"torch {torch.__version__}, {arguments.threads} threads: {1e3 * statistics.median(seconds):.1f} ms a step"
        f" ({1e3 * min(seconds):.1f} to {1e3 * max(seconds):.1f} over {len(seconds)}), peak memory {peak:.0f} MB"
    )


if __name__ == "__main__":
    main()
