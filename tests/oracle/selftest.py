"""Tests the oracle: runs made here, tables made by a second, slower way, and tables with one wrong number.

    python tests/oracle/selftest.py [--quick]

The second way: Jacobians by finite differences, optima by projected accelerated gradient descent or L-BFGS, and
exploration by loops over sets. The oracle must accept these tables, and reject them after any single change.
Before that, PyTorch's numbers in tests/data are compared with the oracle and with textbook formulas.
"""

import argparse
import concurrent.futures
import contextlib
import csv
import io
import itertools
import json
import struct
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scipy import optimize

import oracle
from linearize import SLOPES, Block, Round, vector
from tracefile import Trace

DATA = Path(__file__).parents[1] / "data"

RECTIFIERS = {
    "relu": lambda a: np.maximum(a, 0),
    "leaky_relu": lambda a: np.maximum(a, 0.01 * a),
    "abs": np.abs,
}
PREFIXES = (1, 4, 35, 60)
ROUNDS, BATCH, PROBE, EVERY = 60, 4, 15, 6


# --- a network as one flat vector of weights ----------------------------------------------------------------------


class Net:
    """A dense network. Behind its weights of one layer, flat, come those of the next; a neuron's end with its bias, if it has one."""

    def __init__(self, sizes, unit, loss, unbiased=()):
        self.input, self.outputs_count, self.unit, self.loss = sizes[:1], sizes[-1], unit, loss
        self.biased = [k not in unbiased for k in range(len(sizes) - 1)]
        self.widths = [(o, i + bias) for i, o, bias in zip(sizes, sizes[1:], self.biased)]
        self.indices = [2 * k for k in range(len(self.widths))]
        entries = [{"dense": o if bias else {"units": o, "bias": False}} for o, bias in zip(sizes[1:], self.biased)]
        self.layers = list(itertools.chain(*([entry, unit] for entry in entries)))[:-1]
        self.edges = np.cumsum([0] + [o * i for o, i in self.widths])

    def matrices(self, w):
        return [w[a:b].reshape(shape) for a, b, shape in zip(self.edges, self.edges[1:], self.widths)]

    def tensors(self, w):
        """The tensors of a trace."""
        result = {}
        for index, m, bias in zip(self.indices, self.matrices(w), self.biased):
            result[f"{index}.weight"] = m[:, :-1] if bias else m
            if bias:
                result[f"{index}.bias"] = m[:, -1]
        return result

    def pre(self, w, x):
        """The pre-activations of all layers, [datapoints, places, units]."""
        result = []
        for m, bias in zip(self.matrices(w), self.biased):
            a = x @ m[:, :-1].T + m[:, -1] if bias else x @ m.T
            result.append(a[:, None])
            x = RECTIFIERS[self.unit](a)
        return result

    def outputs(self, w, x):
        return self.pre(w, x)[-1][:, 0]

    def losses(self, f, y):
        if self.loss == "mse":
            return np.mean((f - y) ** 2, 1)
        return np.logaddexp.reduce(f, 1) - (f * y).sum(1)

    def loss_gradient(self, f, y):
        if self.loss == "mse":
            return 2 / f.shape[1] * (f - y)
        return np.exp(f - np.logaddexp.reduce(f, 1)[:, None]) - y

    def jacobian(self, w, x, step=1e-5):
        """[batch, outputs, weights] by central differences."""
        columns = []
        for j in range(len(w)):
            e = np.zeros_like(w)
            e[j] = step
            columns.append((self.outputs(w + e, x) - self.outputs(w - e, x)) / (2 * step))
        return np.stack(columns, -1)

    def units(self):
        """scale, layer, neuron, indices of the unit's weights."""
        yield "network", "", "", np.arange(self.edges[-1])
        for k, (a, b) in enumerate(zip(self.edges, self.edges[1:])):
            yield "layer", self.indices[k], "", np.arange(a, b)
            for neuron, row in enumerate(np.arange(a, b).reshape(self.widths[k])):
                yield "neuron", self.indices[k], neuron, row


class ConvNet(Net):
    """A convolution on images of 2 channels, a rectifier, a pool and a dense layer, position by position.

    `pool` is the entry of the layer list, of windows that may overlap; the kernel is 3 x 3 with padding 1.
    """

    def __init__(self, side, maps, pool, unit, loss):
        self.input, self.unit, self.loss, self.outputs_count = (2, side, side), unit, loss, 3
        ((self.pooling, (self.size, self.stride)),) = pool.items()
        self.pooled = (side - self.size) // self.stride + 1
        self.widths = [(maps, 2 * 9 + 1), (3, maps * self.pooled**2 + 1)]
        self.indices, self.biased = [0, 4], [True, True]
        self.layers = [{"conv": {"maps": maps, "kernel": 3, "padding": 1, "stride": 1}}, unit]
        self.layers += [{self.pooling: {"size": self.size, "stride": self.stride}}, "flatten", {"dense": 3}]
        self.edges = np.cumsum([0] + [o * i for o, i in self.widths])

    def tensors(self, w):
        tensors = super().tensors(w)
        tensors["0.weight"] = tensors["0.weight"].reshape(-1, 2, 3, 3)
        return tensors

    def pre(self, w, x):
        filters, dense = self.matrices(w)
        side = self.input[1]
        padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
        a = np.zeros((len(x), side * side, len(filters)))
        for y, column in itertools.product(range(side), repeat=2):
            patch = padded[:, :, y : y + 3, column : column + 3].reshape(len(x), -1)
            a[:, y * side + column] = patch @ filters[:, :-1].T + filters[:, -1]
        images = RECTIFIERS[self.unit](a).reshape(len(x), side, side, -1)
        pooled = np.zeros((len(x), len(filters), self.pooled, self.pooled))
        for i, j in itertools.product(range(self.pooled), repeat=2):
            window = images[:, i * self.stride :, j * self.stride :][:, : self.size, : self.size]
            reduce = np.max if self.pooling == "max_pool" else np.mean
            pooled[:, :, i, j] = reduce(window, axis=(1, 2))
        out = pooled.reshape(len(x), -1) @ dense[:, :-1].T + dense[:, -1]
        return [a, out[:, None]]


# --- a run --------------------------------------------------------------------------------------------------------


def train(net, optimizer, seed, dtype):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, *net.input)).astype(dtype)
    if net.loss == "mse":
        y = x if net.input == (net.outputs_count,) else rng.normal(size=(40, net.outputs_count)).astype(dtype)
    else:
        y = np.eye(net.outputs_count)[rng.integers(net.outputs_count, size=40)]
    batches = np.stack([rng.choice(40, BATCH, replace=False) for _ in range(ROUNDS)])
    w = (rng.normal(size=net.edges[-1]) * 0.7).astype(dtype)
    states, jacobians, second = [w], [], np.zeros(len(w))
    for rows in batches:
        xb, yb, w64 = x[rows].astype(float), y[rows].astype(float), states[-1].astype(float)
        jacobians.append(net.jacobian(w64, xb))
        g = np.einsum("io,iow->w", net.loss_gradient(net.outputs(w64, xb), yb), jacobians[-1]) / BATCH
        if optimizer == "rmsprop":
            second = 0.9 * second + 0.1 * g**2
            g = 0.2 * g / (np.sqrt(second) + 1e-8)
        elif optimizer == "adagrad":
            second = second + g**2
            g = g / (np.sqrt(second) + 1e-8)
        states.append((w64 - 0.05 * g).astype(dtype))
    return x, y, batches, states, jacobians


def write_safetensors(path, tensors):
    header, blobs, offset = {}, [], 0
    for name, t in tensors.items():
        blobs.append(np.ascontiguousarray(t).tobytes())
        kind = {"f4": "F32", "f8": "F64", "i8": "I64"}[t.dtype.str[1:]]
        header[name] = {"dtype": kind, "shape": t.shape, "data_offsets": [offset, offset + len(blobs[-1])]}
        offset += len(blobs[-1])
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def write_trace_files(folder, shards, inputs, targets, batches, manifest):
    """A trace with these shards of tensors by name; the manifest is completed."""
    folder.mkdir(parents=True, exist_ok=True)
    for s, tensors in enumerate(shards):
        write_safetensors(folder / f"weights-{s:05}.safetensors", tensors)
    np.save(folder / "inputs.npy", inputs)
    np.save(folder / "targets.npy", targets)
    np.save(folder / "batches.npy", batches)
    rounds, batch = batches.shape
    known = {"format": 1, "rounds": rounds, "batch_size": batch, "data": {"name": "random"}}
    known["optimizer"] = {"name": "sgd", "learning_rate": 0.05}
    (folder / "manifest.json").write_text(json.dumps(known | manifest))


def stacked_tensors(net, states):
    named = [net.tensors(w) for w in states]
    return {name: np.stack([tensors[name] for tensors in named]) for name in named[0]}


def manifest_of(net, optimizer, run):
    target = "input" if run[1] is run[0] else "label"
    known = {"input": list(net.input), "layers": net.layers, "loss": net.loss, "target": target}
    return known | {"optimizer": {"name": optimizer, "learning_rate": 0.05}}


def write_trace(folder, net, optimizer, run, shard=25):
    x, y, batches, states, _ = run
    shards = [stacked_tensors(net, states[start : start + shard]) for start in range(0, len(states), shard)]
    targets = y if net.loss == "mse" else y.argmax(1)
    write_trace_files(folder, shards, x, targets, batches, manifest_of(net, optimizer, run))


def write_recording(folder, net, optimizer, run, shard=25):
    """The same training in format 2: a row stands in the shard that uses it first, and parameters have other names."""
    x, y, batches, states, _ = run
    folder.mkdir()
    places = {}
    for number, start in enumerate(range(0, len(batches), shard)):
        rows = batches[start : start + shard]
        new = [row for row in dict.fromkeys(rows.ravel().tolist()) if row not in places]
        places |= {row: len(places) + at for at, row in enumerate(new)}
        numbers = np.arange(start + 1, start + len(rows) + 1)
        tensors = {"rounds": numbers, "losses": np.zeros(len(rows)), "sizes": np.full(len(rows), rows.shape[1])}
        tensors |= {"rows": np.array([places[row] for row in rows.ravel().tolist()]), "inputs": x[new]}
        if y is not x:
            tensors["targets"] = y[new] if net.loss == "mse" else y[new].argmax(1)
        named = stacked_tensors(net, states[start : start + len(rows)])
        write_safetensors(folder / f"shard-{number:05}.safetensors", tensors | {f"state.net.{k}": t for k, t in named.items()})
    final = net.tensors(states[-1])
    write_safetensors(folder / "final.safetensors", {f"state.net.{name}": tensor for name, tensor in final.items()})
    manifest = manifest_of(net, optimizer, run) | {"format": 2, "parameters": {name: f"net.{name}" for name in final}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def read_alike(one, other):
    """Whether two traces have the same states and minibatches."""
    same = [one.rounds == other.rounds, one.states == other.states, one.single == other.single]
    for index in range(one.states):
        same += [np.array_equal(a, b) for a, b in zip(one.state(index), other.state(index), strict=True)]
    for index in range(one.rounds):
        same += [np.array_equal(a, b) for a, b in zip(one.batch(index), other.batch(index), strict=True)]
    return all(same)


# --- the tables, the slow way -------------------------------------------------------------------------------------


class Taylor:
    """F(v) and its gradient for one unit and prefix, in the displacement from the unit's first weights."""

    def __init__(self, net, run, indices, n):
        x, y, batches, states, jacobians = run
        self.net, self.y = net, np.concatenate([y[rows] for rows in batches[:n]]).astype(float)
        self.j = np.concatenate([j[:, :, indices] for j in jacobians[:n]])
        first = states[0].astype(float)
        constants = []
        for rows, w, j in zip(batches[:n], states, jacobians):
            w = w.astype(float)
            constants.append(net.outputs(w, x[rows].astype(float)) - j[:, :, indices] @ (w - first)[indices])
        self.constant = np.concatenate(constants)
        self.size = len(indices)

    def __call__(self, v):
        f = self.constant + self.j @ v
        gradient = np.einsum("io,iow->w", self.net.loss_gradient(f, self.y), self.j) / len(f)
        return self.net.losses(f, self.y).mean(), gradient

    def gap(self, v, radius):
        gradient = self(v)[1]
        return radius * np.linalg.norm(gradient) + gradient @ v

    def in_ball(self, radius, steps=30000):
        """Projected accelerated gradient descent with restarts."""
        rows = self.j.reshape(-1, self.size)
        curvature = (2 / self.j.shape[1] if self.net.loss == "mse" else 0.5) * np.linalg.norm(rows, 2) ** 2
        step = len(self.j) / max(curvature, 1e-12)
        v = previous = np.zeros(self.size)
        t = 1.0
        for i in range(steps):
            ahead = v + (t - 1) / (t + 2) * (v - previous)
            new = ahead - step * self(ahead)[1]
            new *= min(1.0, radius / max(np.linalg.norm(new), 1e-300))
            t = 1.0 if (ahead - new) @ (new - v) > 0 else t + 1
            previous, v = v, new
            if i % 50 == 0 and self.gap(v, radius) < 1e-9:
                break
        return v

    def unconstrained(self, displacement):
        if self.net.loss == "mse":
            rows, t = self.j.reshape(-1, self.size), (self.y - self.constant).ravel()
            return np.linalg.lstsq(rows, t, rcond=1e-9)[0]
        result = optimize.minimize(self, np.zeros(self.size), jac=True, options={"gtol": 1e-7, "maxiter": 40})
        far = 1000 * displacement
        return result.x * min(1.0, far / max(np.linalg.norm(result.x), 1e-300))


def regret_tables(net, optimizer, run):
    x, y, batches, states, jacobians = run
    w = [s.astype(float) for s in states]
    f = [net.outputs(wn, x[rows].astype(float)) for wn, rows in zip(w, batches)]
    losses = np.array([net.losses(fn, y[rows]).mean() for fn, rows in zip(f, batches)])
    gradients = np.array(
        [np.einsum("io,iow->w", net.loss_gradient(fn, y[rows]), j) / BATCH for fn, rows, j in zip(f, batches, jacobians)]
    )
    regret, units = [], []
    for scale, layer, neuron, indices in net.units():
        # One ball for all prefixes.
        farthest = max(np.linalg.norm((wn - w[0])[indices]) for wn in w[:ROUNDS])
        for comparator in ("unconstrained", "ball"):
            rows = []
            for n in PREFIXES:
                apart = max(np.abs((wn - w[0])[indices]).max() for wn in w[:n])
                norms = np.linalg.norm(gradients[:n, indices], axis=1)
                taylor = Taylor(net, run, indices, n)
                v = taylor.in_ball(2 * farthest) if comparator == "ball" else taylor.unconstrained(farthest)
                distance = np.linalg.norm(v)
                radius = 2 * farthest if comparator == "ball" else 2 * max(distance, farthest)
                mean, optimum = losses[:n].mean(), taylor(v)[0]
                sgd = distance**2 / (0.1 * n) + 0.025 * np.sum(norms**2) / n if optimizer == "sgd" else ""
                coordinates = np.sqrt(np.sum(gradients[:n, indices] ** 2, axis=0)).sum()
                factor = (apart + distance) ** 2 / (2 * 0.05) + 0.05
                adagrad = factor * coordinates / n if optimizer == "adagrad" else ""
                zinkevich = 3 * max(norms) * 2 * farthest / np.sqrt(n)
                gap = max(0.0, taylor.gap(v, radius))
                row = [scale, layer, neuron, comparator, n, mean, optimum, mean - optimum, gap, "true"]
                rows.append(row + [distance, zinkevich, sgd, adagrad, radius])
            used = [(np.log(r[4]), np.log(r[7])) for r in rows if r[4] > 30 and r[7] > 0]
            slope = (used[1][1] - used[0][1]) / (used[1][0] - used[0][0]) if len(used) == 2 else ""
            last = [*rows[-1][:4], len(indices), *rows[-1][5:10], 1, rows[-1][10]]
            units.append(last + [farthest, max(norms), slope, len(used), rows[-1][-1]])
            regret += rows
    return losses, regret, units


def exploration_tables(net, run):
    x, states = run[0].astype(float), run[3]
    rounds = list(range(0, ROUNDS + 1, EVERY))
    configurations = []  # of (layer, neuron, datapoint, place)
    for r in rounds:
        pre = net.pre(states[r].astype(float), x[:PROBE])[:-1]
        on = ((k, m, i, p) for k, a in enumerate(pre) for i, p, m in np.argwhere(a > 0).tolist())
        configurations.append(set(on))
    counts = [a.shape[2] for a in pre]
    bits = sum(a.size for a in pre)
    return measured(rounds, configurations, net.indices, counts, bits, rests=net.unit == "relu")


def pool_tables(net, run):
    """The same of the winners of the max-pool, found window by window."""
    x, states = run[0].astype(float), run[3]
    rounds = list(range(0, ROUNDS + 1, EVERY))
    side = net.input[1]
    configurations = []
    for r in rounds:
        images = RECTIFIERS[net.unit](net.pre(states[r].astype(float), x[:PROBE])[0]).reshape(PROBE, side, side, -1)
        places = range(images.shape[3]), range(PROBE), range(net.pooled), range(net.pooled)
        won = set()
        for m, datapoint, i, j in itertools.product(*places):
            window = images[datapoint, i * net.stride :, j * net.stride :, m][: net.size, : net.size]
            won.add((0, m, datapoint, (i, j, int(np.argmax(window)))))
        configurations.append(won)
    bits = len(won) * net.size**2
    return measured(rounds, configurations, [2], [images.shape[3]], bits, rests=False)


def measured(rounds, configurations, layers, counts, bits, rests):
    """Both tables of configurations as sets of (number of the layer, neuron, datapoint, place). A neuron that `rests` has no
    gradient where it is not active."""
    novelty = []
    for n, current in enumerate(configurations):
        distances = [len(current ^ earlier) for earlier in configurations[:n]]
        row = [rounds[n], min(distances), distances[-1]] if n else [0, "", ""]
        novelty.append(row + [bits])
    neurons = []
    for k, count in enumerate(counts):
        for neuron in range(count):
            on = [{state[2:] for state in c if state[:2] == (k, neuron)} for c in configurations]
            gram = np.array([[len(a & b) for b in on] for a in on], float)
            values = np.linalg.eigvalsh(gram)[::-1]
            rank = int(np.sum(values > 1e-9 * max(values[0], 1)))
            volume = 0.5 * np.log(values[: min(50, rank)]).sum()
            determinant = 0.5 * np.linalg.slogdet(np.eye(len(gram)) + gram)[1]
            switches = sum(len(a ^ b) for a, b in zip(on, on[1:]))
            fraction = sum(map(len, on)) / (bits / sum(counts) * len(on))
            dead = str(rests and not on[-1]).lower()
            neurons.append([layers[k], neuron, switches, rank, volume, determinant, fraction, dead])
    return novelty, neurons


COLUMNS = {
    "rounds.csv": "round,epoch,loss",
    "regret.csv": "scale,layer,neuron,comparator,rounds,mean_loss,taylor_optimum,mean_regret,gap,attained,distance,"
    "bound_zinkevich,bound_sgd,bound_adagrad,radius",
    "units.csv": "scale,layer,neuron,comparator,dimension,mean_loss,taylor_optimum,mean_regret,gap,attained,iterations,"
    "distance,displacement,gradient_bound,slope,slope_points,radius",
    "novelty.csv": "round,min_hamming,previous_hamming,bits",
    "neurons.csv": "layer,neuron,switches,rank,log_volume,log_det,active_fraction,dead",
}
COLUMNS |= {f"pool_{name}": COLUMNS[name] for name in ("novelty.csv", "neurons.csv")}


def write_table(folder, name, rows):
    with open(folder / name, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS[name].split(","))
        writer.writerows([[repr(float(c)) if isinstance(c, float) else c for c in row] for row in rows])


def make_run(folder, net, optimizer, seed, dtype):
    run = train(net, optimizer, seed, dtype)
    write_trace(folder / "trace", net, optimizer, run)
    write_recording(folder / "recording", net, optimizer, run)
    losses, regret, units = regret_tables(net, optimizer, run)
    novelty, neurons = exploration_tables(net, run)
    tables = {
        "rounds.csv": [[n, 1, loss] for n, loss in enumerate(losses.tolist(), 1)],
        "regret.csv": regret,
        "units.csv": units,
        "novelty.csv": novelty,
        "neurons.csv": neurons,
    }
    if any("max_pool" in layer for layer in net.layers):
        tables["pool_novelty.csv"], tables["pool_neurons.csv"] = pool_tables(net, run)
    for name, rows in tables.items():
        write_table(folder, name, rows)
    np.save(folder / "probe.npy", np.arange(PROBE))
    return tables


# --- PyTorch's numbers ---------------------------------------------------------------------------------------------


def close(ours, theirs, tolerance=1e-12):
    return np.allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def passes_agree(case):
    """The oracle's linearization has PyTorch's loss, gradients and curvatures, kinks included."""
    hidden = len(case["layers"]) - 1
    layers = [np.column_stack([layer["weight"], layer["bias"]]) for layer in case["layers"]]
    targets = np.array(case["targets"])
    targets = targets if case["loss_name"] == "mse" else np.eye(case["sizes"][-1])[targets]
    blocks = [Block(2 * k, slopes=SLOPES[case["unit"]] if k < hidden else None) for k in range(hidden + 1)]
    linear = Round(
        SimpleNamespace(
            loss=case["loss_name"],
            blocks=blocks,
            state=lambda index: layers,
            batch=lambda index: (np.array(case["inputs"]), targets),
        ),
        0,
    )
    if case["loss_name"] == "mse":
        curvature = [2 * (j[:, :, 0] ** 2).mean(1) for j in linear.jacobians]
    else:
        p = np.exp(linear.outputs) / np.exp(linear.outputs).sum(1, keepdims=True)
        jacobians = [j[:, :, 0] for j in linear.jacobians]
        mean = [np.einsum("io,ioa->ia", p, j) for j in jacobians]
        curvature = [np.einsum("io,ioa->ia", p, j**2) - m**2 for j, m in zip(jacobians, mean)]
    same = [close(linear.loss, case["loss"])]
    for layer, gradient, q in zip(case["layers"], linear.gradient(), curvature):
        same += [close(gradient[:, :-1], layer["weight_gradient"]), close(gradient[:, -1], layer["bias_gradient"])]
        same.append(close(q, layer["curvature"]))
    return all(same)


def convolutions_agree(case):
    """The oracle's linearization has PyTorch's outputs, gradients, tangents and Jacobian of a convolutional network."""
    with tempfile.TemporaryDirectory() as folder:
        shapes = case["shapes"]
        tensors = {name: np.array(values).reshape(1, *shapes[name]) for name, values in case["weights"].items()}
        batch = len(case["inputs"]) // int(np.prod(case["input"]))
        targets = np.array(case["targets"])
        write_trace_files(
            Path(folder),
            [tensors],
            np.array(case["inputs"]).reshape(batch, *case["input"]),
            targets.reshape(batch, -1) if case["loss_name"] == "mse" else targets,
            np.arange(batch)[None],
            {"input": case["input"], "layers": case["layers"], "loss": case["loss_name"], "target": "values"},
        )
        trace = Trace(folder)
        linear = Round(trace, 0)

    def matrices(tensors):
        tensors = {name: np.array(values).reshape(shapes[name]) for name, values in tensors.items()}
        pairs = ((tensors[f"{k}.weight"], tensors[f"{k}.bias"]) for k in trace.indices)
        return [np.column_stack([weight.reshape(len(weight), -1), bias]) for weight, bias in pairs]

    direction = vector(("network", None, None), matrices(case["direction"]))
    same = [close(linear.loss, case["loss"]), close(linear.outputs.ravel(), case["outputs"])]
    same += [close(ours, theirs) for ours, theirs in zip(linear.gradient(), matrices(case["gradients"]))]
    same.append(close((linear.jacobian(("network", None, None)) @ direction).ravel(), case["tangent"], 1e-10))
    same.append(close(linear.jacobian(("neuron", 0, 0)).ravel(), case["jacobian"]))
    return all(same)


def scheduled(entry, n):
    """The learning rate of step n of the 50."""
    warm = min(1.0, n / entry["warmup"]) if "warmup" in entry else 1.0
    shape = {"cosine": (1 + np.cos(np.pi * (n - 1) / 50)) / 2, "inverse_sqrt": n**-0.5}
    return entry["learning_rate"] * warm * shape.get(entry.get("schedule"), 1.0)


def neurons_of(sizes):
    """For each neuron of a dense network the places of its weights and its bias in a flat vector: 0.weight, 0.bias, ..."""
    at = 0
    for inputs, units in zip(sizes, sizes[1:]):
        for a in range(units):
            yield [*range(at + a * inputs, at + (a + 1) * inputs), at + units * inputs + a]
        at += units * (inputs + 1)


def update(entry, state, g, n, w, sizes):
    """The change of the weights w in step n, from the textbook formulas."""
    name, eta, epsilon = entry["name"], scheduled(entry, n), entry.get("epsilon")
    settings = entry.get("settings", {})
    if name in ("momentum", "nesterov"):
        state["m"] = entry["momentum"] * state.get("m", 0) + g
        return -eta * (state["m"] if name == "momentum" else g + entry["momentum"] * state["m"])
    if name in ("adam", "adamw"):
        state["m"] = entry["beta1"] * state.get("m", 0) + (1 - entry["beta1"]) * g
        state["v"] = entry["beta2"] * state.get("v", 0) + (1 - entry["beta2"]) * g**2
        mean, square = state["m"] / (1 - entry["beta1"] ** n), state["v"] / (1 - entry["beta2"] ** n)
        return -eta * (mean / (np.sqrt(square) + epsilon) + settings.get("weight_decay", 0) * w)
    if name == "rmsprop":
        keep = entry["smoothing"]
        state["v"] = keep * state.get("v", 0) + (1 - keep) * g**2
        state["m"] = keep * state.get("m", 0) + (1 - keep) * g
        spread = state["v"] - (state["m"] ** 2 if settings.get("centered") else 0)
        state["b"] = entry.get("momentum", 0) * state.get("b", 0) + g / (np.sqrt(spread) + epsilon)
        return -eta * state["b"]
    if name == "adagrad":
        state["v"] = state.get("v", 0) + g**2
        return -eta * g / (np.sqrt(state["v"]) + epsilon)
    if name == "adagrad_full":
        change = np.zeros_like(g)
        for places in neurons_of(sizes):
            key, part = places[0], g[places]
            state[key] = state.get(key, 0) + np.outer(part, part)
            values, vectors = np.linalg.eigh(state[key])
            kept = values > 1e-14 * values.max()
            root = np.sqrt(values[kept]) + epsilon
            change[places] = -eta * vectors[:, kept] @ (vectors[:, kept].T @ part / root)
        return change
    if name == "rprop":
        turn = np.sign(g * state.get("g", 0 * g))
        factor = np.choose(turn.astype(int) + 1, [settings["eta_minus"], 1.0, settings["eta_plus"]])
        state["s"] = np.clip(state.get("s", eta) * factor, settings["step_min"], settings["step_max"])
        state["g"] = np.where(turn < 0, 0, g)
        return -state["s"] * np.sign(state["g"])
    return -eta * (np.sign(g) if name == "sign_sgd" else g)


def optimizer_agrees(entry, initial, gradients, sizes):
    w, state, same = np.array(initial), {}, []
    for n, g in enumerate(np.array(gradients), 1):
        w = w + update(entry, state, g, n, w, sizes)
        if str(n) in entry["weights"]:
            same.append(close(w, entry["weights"][str(n)]))
    return len(same) == 5 and all(same)


def check_data():
    """PyTorch's numbers, each with its name and whether it is the oracle's."""
    for case in json.loads((DATA / "passes.json").read_text())["cases"]:
        yield passes_agree(case), f"passes.json: {case['unit']}, {case['loss_name']}, {case['sizes']}"
    for case in json.loads((DATA / "convolutions.json").read_text())["cases"]:
        yield convolutions_agree(case), f"convolutions.json: {case['name']}"
    table = json.loads((DATA / "optimizers.json").read_text())
    gradients = {entry["name"]: entry["gradients"] for entry in table["optimizers"]}
    for entry in table["optimizers"] + table["replays"]:
        given = gradients[entry.get("gradients_of", entry["name"])]
        yield optimizer_agrees(entry, table["initial"], given, table["sizes"]), f"optimizers.json: {entry['name']}"


# --- the test -----------------------------------------------------------------------------------------------------

RUNS = [
    (Net((3, 3, 2, 3), "relu", "mse"), "sgd", np.float64),
    (Net((3, 4, 3), "relu", "mse"), "rmsprop", np.float32),
    (Net((3, 4, 2), "leaky_relu", "mse"), "sgd", np.float64),
    (Net((3, 4, 3), "abs", "cross_entropy"), "sgd", np.float64),
    (Net((3, 3, 3, 3), "relu", "cross_entropy"), "rmsprop", np.float64),
    (ConvNet(4, 2, {"max_pool": (2, 2)}, "relu", "cross_entropy"), "sgd", np.float64),
    (ConvNet(5, 2, {"max_pool": (3, 2)}, "leaky_relu", "mse"), "rmsprop", np.float64),
    (ConvNet(4, 2, {"avg_pool": (2, 1)}, "abs", "cross_entropy"), "sgd", np.float32),
    (Net((3, 4, 3), "relu", "mse", unbiased=(0, 1)), "sgd", np.float64),
    (Net((3, 3, 4, 3), "leaky_relu", "cross_entropy", unbiased=(1,)), "adagrad", np.float64),
]
UNCHECKED = {("rounds.csv", "epoch"), ("regret.csv", "attained"), ("units.csv", "attained"), ("units.csv", "iterations")}
KEYS = {"scale", "layer", "neuron", "comparator", "rounds", "round"}


def wrong(value):
    if value in ("true", "false"):
        return "false" if value == "true" else "true"
    if value == "":
        return 1.0
    return value + 1 if isinstance(value, int) else value * 1.03 + 1e-3


def mutations(tables):
    """Every checked column once, wrong in its table's last row."""
    for name, rows in tables.items():
        for i, column in enumerate(COLUMNS[name].split(",")):
            if column not in KEYS and (name, column) not in UNCHECKED:
                changed = [list(row) for row in rows]
                changed[-1][i] = wrong(changed[-1][i])
                yield name, column, changed
    optimum = COLUMNS["regret.csv"].split(",").index("taylor_optimum")
    for sign in (-1, 1):  # an optimum 1e-3 off, certified and consistent otherwise
        changed = [list(row) for row in tables["regret.csv"]]
        for row in changed:
            row[optimum] *= 1 + sign * 1e-3
            row[optimum + 1] = row[optimum - 1] - row[optimum]
        yield "regret.csv", f"taylor_optimum, all rows, {sign * 1e-3}", changed


def check_run(number, quick):
    """The oracle's text about one run, and for each thing that must hold whether it does, with its name."""
    arguments = oracle.parser().parse_args(["-", "--units", "100", "--prefixes", "10"])
    net, optimizer, dtype = RUNS[number]
    name = f"run {number}: {net.layers}, {net.loss}, {optimizer}, {np.dtype(dtype).name}"
    with tempfile.TemporaryDirectory() as temporary, contextlib.redirect_stdout(io.StringIO()) as text:
        folder = Path(temporary)
        tables = make_run(folder, net, optimizer, seed=number, dtype=dtype)
        report = oracle.compare(folder / "trace", folder, arguments)
        report.print(name)
        found = [(report.failed() == 0, f"{name} is accepted")]
        alike = read_alike(Trace(folder / "trace"), Trace(folder / "recording"))
        found.append((alike, f"{name} is read alike from both formats"))
        for at, (table, column, changed) in enumerate(mutations(tables)):
            if quick and at % len(RUNS) != number:
                continue
            write_table(folder, table, changed)
            report = oracle.compare(folder / "trace", folder, arguments)
            found.append((report.failed() > 0, f"{name} is rejected when {table} {column} is wrong"))
            write_table(folder, table, tables[table])
    return text.getvalue(), found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="make each change to the tables of one run only, not of all")
    quick = parser.parse_args().quick
    found = list(check_data())
    with concurrent.futures.ProcessPoolExecutor() as pool:
        for text, checks in pool.map(check_run, range(len(RUNS)), itertools.repeat(quick)):
            print(text, end="")
            found += checks
    failed = [what for holds, what in found if not holds]
    for what in failed:
        print(f"FAILED: {what}")
    print(f"\n{len(found) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
