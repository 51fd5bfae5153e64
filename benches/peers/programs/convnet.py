"""Steps of the CIFAR-10 convolutional network with Adam: `convnet.py FOLDER eager|compile`.

3 x [conv 5x5, 64 maps, ReLU, 2x2 max-pool], dense 192 ReLU, dense 10; cross-entropy, batch 128, on the other side's random images.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from autoencoder import IMPLEMENTATIONS, fastest
from worker import answer, timed

BATCH, STEPS = 128, 4


def network(folder):
    layers = []
    for channels in (3, 64, 64):
        layers += [nn.Conv2d(channels, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 192), nn.ReLU(), nn.Linear(192, 10))
    net.load_state_dict(load_file(folder / "convnet.safetensors"))
    return net


class Training:
    """Steps from the initial weights, through the images in their order, over and over."""

    def __init__(self, folder, loss_of, options):
        self.net = network(folder)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3, **options)
        self.images = torch.from_numpy(np.load(folder / "images.npy"))
        self.labels = torch.from_numpy(np.load(folder / "labels.npy").astype(np.int64))
        self.loss_of, self.steps = loss_of, 0

    def step(self):
        first = self.steps * BATCH % len(self.images)
        self.steps += 1
        loss = self.loss_of(self.net, self.images[first : first + BATCH], self.labels[first : first + BATCH])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def classification(net, x, y):
    return nn.functional.cross_entropy(net(x), y)


def main():
    folder, mode = Path(sys.argv[1]), sys.argv[2]
    loss_of = torch.compile(classification) if mode == "compile" else classification

    def trial(options):
        training = Training(folder, loss_of, options)
        return timed(training.step)[0]

    chosen = fastest(trial)
    training = Training(folder, loss_of, IMPLEMENTATIONS[chosen])

    def command(_):
        seconds, losses = timed(lambda: [training.step() for _ in range(STEPS)])
        return seconds / STEPS, {"losses": losses, "implementation": chosen}

    answer(command)


if __name__ == "__main__":
    main()
