"""Products with the curvature of Taylor losses by `torch.func`, and Adam's passes over recorded Jacobians: `optimum.py FOLDER ROUNDS`.

The rounds are those that the other side recorded. Commands:
`product START..END`: `(1/N) sum_n J_n' (2/K) J_n v` for the weights of these blocks, by a jvp and a vjp over all rounds, many rounds to a
batched product;
`jacobians BLOCK ROUNDS`: records the output Jacobians of some rounds and times a pass of Adam over them, as the paper did; the seconds are
those of the pass, per round.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch.func import functional_call, jvp, vjp, vmap

from autoencoder import BATCH, SIZES, network
from worker import answer, order, pixels, timed

# Rounds that go through a batched product together.
TOGETHER = 32


class Rounds:
    def __init__(self, folder, rounds):
        self.net = network(folder)
        self.states = torch.from_numpy(np.load(folder / "states.npy"))
        self.x = pixels(folder)[order(folder)[: rounds * BATCH]].view(rounds, BATCH, -1)
        self.rounds = rounds
        # Per block where its matrix [units, inputs + 1] lies in the flat vector.
        shapes = [(fan_out, fan_in + 1) for fan_in, fan_out in zip(SIZES, SIZES[1:])]
        ends = np.cumsum([a * b for a, b in shapes])
        self.shapes, self.starts = shapes, [0, *ends[:-1]]

    def parameters(self, flat, blocks):
        """Named weights and biases of some blocks from flat vectors `[..., length]` that begin with the first of them."""
        named, at = {}, 0
        for l in blocks:
            rows, columns = self.shapes[l]
            matrix = flat[..., at : at + rows * columns].view(*flat.shape[:-1], rows, columns)
            named[f"{2 * l}.weight"], named[f"{2 * l}.bias"] = matrix[..., :-1], matrix[..., -1]
            at += rows * columns
        return named

    def flat(self, named, blocks):
        parts = [torch.cat([named[f"{2 * l}.weight"], named[f"{2 * l}.bias"][..., None]], -1).flatten(-2) for l in blocks]
        return torch.cat(parts, -1)

    def length(self, blocks):
        return sum(rows * columns for rows, columns in (self.shapes[l] for l in blocks))

    def product(self, blocks, v):
        direction = self.parameters(v, blocks)
        scale = 2 / (SIZES[-1] * self.rounds * BATCH)

        def one(state, x):
            all_parameters = self.parameters(state, range(len(self.shapes)))
            moving = {name: all_parameters.pop(name) for name in direction}

            def outputs(moving):
                return functional_call(self.net, {**all_parameters, **moving}, (x,))

            _, tangent = jvp(outputs, (moving,), (direction,))
            _, pull = vjp(outputs, moving)
            return pull(tangent * scale)[0]

        total = 0
        for first in range(0, self.rounds, TOGETHER):
            chunk = slice(first, first + TOGETHER)
            images = vmap(one)(self.states[chunk], self.x[chunk])
            total = total + self.flat(images, blocks).sum(0)
        return total

    def jacobian(self, block, n):
        """The factors of `G = J (x) x`: `J: [batch, outputs, units]` and the block's inputs, at the weights of round `n`."""
        parameters = self.parameters(self.states[n], range(len(self.shapes)))
        hidden, tape = self.x[n], []
        for l in range(len(self.shapes)):
            tape.append(hidden)
            a = hidden @ parameters[f"{2 * l}.weight"].T + parameters[f"{2 * l}.bias"]
            hidden = a.relu()
        j = torch.eye(SIZES[-1]).expand(BATCH, -1, -1)
        for l in range(len(self.shapes) - 1, block, -1):
            j = (j @ parameters[f"{2 * l}.weight"]) * (tape[l] > 0)[:, None]
        return j.contiguous(), torch.cat([tape[block], torch.ones(BATCH, 1)], 1), a


def adam_pass(recorded, targets, v, optimizer, shape):
    """One gradient of the mean Taylor loss over the recorded rounds, and a step of Adam."""
    gradient = torch.zeros(shape)
    for (j, x, f), start, y in zip(recorded, targets[0], targets[1]):
        moved = x @ (v.detach() - start).T
        residual = f + torch.einsum("iku,iu->ik", j, moved) - y
        pulled = torch.einsum("iku,ik->iu", j, residual)
        gradient += pulled.T @ x
    v.grad = gradient * (2 / (SIZES[-1] * BATCH * len(recorded)))
    optimizer.step()


def main():
    rounds = Rounds(Path(sys.argv[1]), int(sys.argv[2]))

    def product(blocks):
        start, end = map(int, blocks.split(".."))
        blocks = range(start, end)
        places = torch.arange(rounds.length(blocks), dtype=torch.float64)
        direction = torch.sin(0.37 * places)
        seconds, image = timed(lambda: rounds.product(blocks, direction.float()))
        image = image.double()
        return seconds, {"form": (image @ torch.sin(0.61 * places)).item(), "norm": image.norm().item()}

    def jacobians(block, count):
        block, count = int(block), int(count)
        start = rounds.starts[block]
        shape = rounds.shapes[block]
        matrices = [rounds.states[n][start : start + shape[0] * shape[1]].view(shape) for n in range(count)]
        recording, recorded = timed(lambda: [rounds.jacobian(block, n) for n in range(count)])
        v = torch.nn.Parameter(matrices[0].clone())
        optimizer = torch.optim.Adam([v], fused=True)
        targets = (matrices, [rounds.x[n] for n in range(count)])
        passes = [timed(lambda: adam_pass(recorded, targets, v, optimizer, shape))[0] for _ in range(3)]
        size = sum(j.nbytes for j, _, _ in recorded) / count
        return min(passes) / count, {"recording": recording / count, "bytes": size}

    with torch.no_grad():
        answer(lambda words: {"product": product, "jacobians": jacobians}[words[0]](*words[1:]))


if __name__ == "__main__":
    main()
