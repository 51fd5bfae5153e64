"""One epoch of the MNIST autoencoder in eager PyTorch, the peer of `taylorscope run mnist-autoencoder --train-only`.

    python benches/peers/autoencoder.py DATA [--repeats 5] [--threads 2] [--optimizer sgd:1]...

DATA is the folder with train-images-idx3-ubyte, plain or .gz. The data are one preloaded tensor, shuffled anew every
epoch. Each optimizer's implementation (fused, foreach or plain) is the fastest of a short trial.
"""

import argparse
import gzip
import statistics
import struct
import time
from pathlib import Path

import torch
from torch.nn.functional import mse_loss

SIZES, BATCH = (784, 50, 30, 20, 30, 50, 784), 64
OPTIMIZERS = {"sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop, "adam": torch.optim.Adam}
IMPLEMENTATIONS = {"fused": {"fused": True}, "foreach": {"foreach": True}, "plain": {"foreach": False}}


def read_images(folder):
    path = next((p for p in (folder / "train-images-idx3-ubyte", folder / "train-images-idx3-ubyte.gz") if p.exists()), None)
    if path is None:
        raise SystemExit(f"no train-images-idx3-ubyte[.gz] in {folder}")
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    magic, count, height, width = struct.unpack(">4I", data[:16])
    if magic != 2051 or len(data) != 16 + count * height * width:
        raise SystemExit(f"{path} is not an IDX image file")
    pixels = torch.frombuffer(bytearray(data[16:]), dtype=torch.uint8)
    return pixels.view(count, height * width).float() / 255


def network():
    torch.manual_seed(0)
    layers = []
    for fan_in, fan_out in zip(SIZES, SIZES[1:]):
        dense = torch.nn.Linear(fan_in, fan_out)
        torch.nn.init.kaiming_uniform_(dense.weight, nonlinearity="relu")
        torch.nn.init.zeros_(dense.bias)
        layers += [dense, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def epoch(net, optimizer, inputs, rounds):
    """Trains `rounds` rounds; the losses stay tensors until the end, so that no round waits for them."""
    order = torch.randperm(len(inputs))
    losses = []
    for n in range(rounds):
        x = inputs[order[n * BATCH : (n + 1) * BATCH]]
        loss = mse_loss(net(x), x)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def timed(name, learning_rate, options, inputs, rounds):
    net = network()
    optimizer = OPTIMIZERS[name](net.parameters(), lr=learning_rate, **options)
    start = time.perf_counter()
    losses = epoch(net, optimizer, inputs, rounds)
    return time.perf_counter() - start, losses


def fastest(name, learning_rate, inputs, rounds):
    """The name of the fastest implementation that this optimizer has on the CPU, best of three short trials."""
    seconds = {}
    for implementation, options in IMPLEMENTATIONS.items():
        try:
            trials = [timed(name, learning_rate, options, inputs, rounds)[0] for _ in range(4)]
        except (TypeError, RuntimeError):  # this optimizer has no such implementation
            continue
        seconds[implementation] = min(trials[1:])
    return min(seconds, key=seconds.get)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with the MNIST files")
    parser.add_argument("--repeats", type=int, default=5, help="epochs timed, each from the same initial weights")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--optimizer", action="append", metavar="NAME:LR", help="default: sgd:1 rmsprop:1e-3 adam:1e-3")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    inputs = read_images(arguments.data)
    rounds = len(inputs) // BATCH
    print(f"torch {torch.__version__}, {arguments.threads} threads, {rounds} rounds an epoch, batch {BATCH}")
    for entry in arguments.optimizer or ["sgd:1", "rmsprop:1e-3", "adam:1e-3"]:
        name, _, learning_rate = entry.partition(":")
        learning_rate = float(learning_rate)
        implementation = fastest(name, learning_rate, inputs, min(rounds, 150))
        runs = [timed(name, learning_rate, IMPLEMENTATIONS[implementation], inputs, rounds) for _ in range(arguments.repeats)]
        seconds = [run[0] for run in runs]
        losses = runs[0][1]
        first, last = losses[:100].mean().item(), losses[-100:].mean().item()
        print(
            f"{name:<9}{statistics.median(seconds):.3f} s/epoch  loss {first:.4f} (first 100 rounds)"
            f" {last:.4f} (last 100)  [{implementation}, lr {learning_rate:g},"
            f" {min(seconds):.3f} to {max(seconds):.3f} s over {len(seconds)} epochs]",
            flush=True,
        )


if __name__ == "__main__":
    main()
