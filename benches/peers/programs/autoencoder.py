"""One epoch of the MNIST autoencoder: `autoencoder.py FOLDER eager|compile OPTIMIZER:RATE`.

Weights and order are those of the other side. The data are one preloaded tensor. The optimizer is the fastest of PyTorch's
implementations (fused, foreach, plain) in a short trial.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn.functional import mse_loss

from worker import answer, order, pixels, timed

SIZES, BATCH = (784, 50, 30, 20, 30, 50, 784), 64
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
IMPLEMENTATIONS = {"fused": {"fused": True}, "foreach": {"foreach": True}, "plain": {"foreach": False}}


def network(folder):
    """The autoencoder with the weights that the other side begins with."""
    layers = []
    for fan_in, fan_out in zip(SIZES, SIZES[1:]):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1])
    net.load_state_dict(load_file(folder / "autoencoder.safetensors"))
    return net


def epoch(net, loss_of, optimizer, inputs, rows, rounds):
    """Trains `rounds` rounds; the losses stay tensors until the end, so that no round waits for them."""
    losses = []
    for n in range(rounds):
        x = inputs[rows[n * BATCH : (n + 1) * BATCH]]
        loss = loss_of(net, x)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def reconstruction(net, x):
    return mse_loss(net(x), x)


def ends(losses):
    """Mean losses of the first and the last hundred rounds."""
    return [losses[:100].double().mean().item(), losses[-100:].double().mean().item()]


def fastest(trial):
    """The name of the fastest implementation that an optimizer has on the CPU, best of three short trials."""
    seconds = {}
    for name, options in IMPLEMENTATIONS.items():
        try:
            seconds[name] = min([trial(options) for _ in range(4)][1:])
        except (TypeError, RuntimeError):  # this optimizer has no such implementation
            continue
    return min(seconds, key=seconds.get)


def main():
    folder, mode, (name, rate) = Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(":")
    inputs, rows = pixels(folder), order(folder)
    rounds = len(rows) // BATCH
    loss_of = torch.compile(reconstruction) if mode == "compile" else reconstruction

    def run(rounds, options):
        net = network(folder)
        optimizer = OPTIMIZERS[name](net.parameters(), lr=float(rate), **options)
        return timed(lambda: epoch(net, loss_of, optimizer, inputs, rows, rounds))

    chosen = fastest(lambda options: run(150, options)[0])

    def command(_):
        seconds, losses = run(rounds, IMPLEMENTATIONS[chosen])
        return seconds, {"losses": ends(losses), "implementation": chosen}

    answer(command)


if __name__ == "__main__":
    main()
