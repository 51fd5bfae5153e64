"""Training with the diagonal of the Gauss-Newton matrix in every round, by BackPACK, and without: `streaming.py FOLDER`.

BackPACK (as Cockpit uses it) gives the diagonal exactly or by Monte Carlo with one sample; the other side's sums need the exact curvature. Commands:
`plain`, `exact`, `mc`, each with a number of rounds from the initial weights, SGD; and `curvature`, the exact diagonal of the first round.
"""

import sys
from pathlib import Path

import torch
from backpack import backpack, extend
from backpack.extensions import DiagGGNExact, DiagGGNMC

from autoencoder import BATCH, ends, epoch, network, reconstruction
from worker import answer, order, pixels, timed

EXTENSIONS = {"exact": DiagGGNExact, "mc": DiagGGNMC}


def main():
    folder = Path(sys.argv[1])
    inputs, rows = pixels(folder), order(folder)
    # BackPACK's mean squared error is the same number as PyTorch's functional form.
    criterion = extend(torch.nn.MSELoss())

    def extended_epoch(extension, rounds):
        net = extend(network(folder))
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0, fused=True)
        losses = []
        with backpack(extension()):
            for n in range(rounds):
                x = inputs[rows[n * BATCH : (n + 1) * BATCH]]
                loss = criterion(net(x), x)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
        return torch.stack(losses), net

    def command(words):
        kind, rounds = words[0], int(words[1])
        if kind == "plain":
            net = network(folder)
            optimizer = torch.optim.SGD(net.parameters(), lr=1.0, fused=True)
            seconds, losses = timed(lambda: epoch(net, reconstruction, optimizer, inputs, rows, rounds))
        elif kind == "curvature":
            seconds, (losses, net) = timed(lambda: extended_epoch(DiagGGNExact, 1))
            diagonal = [
                (layer.weight.diag_ggn_exact.sum() + layer.bias.diag_ggn_exact.sum()).item()
                for layer in net
                if isinstance(layer, torch.nn.Linear)
            ]
            return seconds, {"diagonal": diagonal}
        else:
            seconds, (losses, _) = timed(lambda: extended_epoch(EXTENSIONS[kind], rounds))
        return seconds / rounds, {"losses": ends(losses)}

    answer(command)


if __name__ == "__main__":
    main()
