"""Trainings of the engine, done again in PyTorch from the same weights and with the same minibatches."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

import taylorscope as ts

SETTINGS = {"prefixes": 4, "neurons": 2, "max_products": 120, "window": "all"}


def by_the_engine(out, experiment, optimizer, precision, network):
    """A run of one epoch that keeps its trace."""
    settings = [f"regret.{name}={value!r}" for name, value in SETTINGS.items()]
    settings += [f"training.precision={precision!r}", 'regret.comparators=["ball"]', *network]
    command = ["-m", "taylorscope", "run", experiment, "--epochs", "1", "--optimizer", optimizer, "--keep-trace", "--quiet", "--out", str(out)]
    subprocess.run([sys.executable, *command, *(f"--set={setting}" for setting in settings)], check=True, stdout=subprocess.DEVNULL)
    return ts.read(out)[optimizer], out / optimizer / "trace"


def network_of(manifest):
    """The layer list as modules."""
    modules, shape = [], list(manifest["input"])
    for layer in manifest["layers"]:
        name, told = next(iter(layer.items())) if isinstance(layer, dict) else (layer, None)
        if name == "dense":
            modules.append(nn.Linear(shape[0], told))
            shape = [told]
        elif name == "conv":
            modules.append(nn.Conv2d(shape[0], told["maps"], told["kernel"], padding=told["padding"], stride=told["stride"]))
            shape[0] = told["maps"]
        elif name == "max_pool":
            size, stride = (told["size"], told["stride"]) if isinstance(told, dict) else (told, told)
            modules.append(nn.MaxPool2d(size, stride))
            shape[1:] = [(side - size) // stride + 1 for side in shape[1:]]
        else:
            modules.append({"relu": nn.ReLU, "flatten": nn.Flatten}[name]())
            shape = [int(np.prod(shape))] if name == "flatten" else shape
    return nn.Sequential(*modules)


def again(trace, out, optimizer, dtype):
    """The training of a trace in PyTorch, watched."""
    manifest = json.loads((trace / "manifest.json").read_text())
    first = load_file(trace / "weights-00000.safetensors")
    model = network_of(manifest).to(dtype)
    model.load_state_dict({name: torch.from_numpy(states[0].copy()).to(dtype) for name, states in first.items()})
    x = torch.from_numpy(np.load(trace / "inputs.npy")).to(dtype)
    x = x.reshape(-1, *manifest["input"])
    is_input = manifest["target"] == "input"
    y = x if is_input else torch.from_numpy(np.load(trace / "targets.npy").astype(np.int64))
    criterion = nn.MSELoss() if manifest["loss"] == "mse" else nn.CrossEntropyLoss()
    steps = optimizer(model.parameters(), lr=manifest["optimizer"]["learning_rate"])
    scope = ts.watch(model, steps, criterion, out=out)
    for rows in np.load(trace / "batches.npy").astype(np.int64):
        steps.zero_grad()
        criterion(model(x[rows]), y[rows]).backward()
        steps.step()
    return scope


CASES = {
    "dense, f64": ("digits-classifier", "sgd", torch.optim.SGD, "f64", ['network.layers=[{dense=12},"relu",{dense=8},"relu",{dense=10}]']),
    "dense, f32": ("digits-autoencoder", "sgd", torch.optim.SGD, "f32", ['network.layers=[{dense=12},"relu",{dense=64}]']),
    "adam, f64": ("digits-autoencoder", "adam", torch.optim.Adam, "f64", ['network.layers=[{dense=12},"relu",{dense=64}]']),
    "convolutions, f64": ("digits-convnet", "sgd", torch.optim.SGD, "f64", []),
}


@pytest.mark.parametrize("case", CASES)
def test_a_training_in_pytorch_has_the_tables_of_the_same_training_of_the_engine(case, tmp_path):
    experiment, name, optimizer, precision, network = CASES[case]
    theirs, trace = by_the_engine(tmp_path / "engine", experiment, name, precision, network)
    dtype = torch.float64 if precision == "f64" else torch.float32
    ours = again(trace, tmp_path / "torch", optimizer, dtype).close(**SETTINGS, comparators=("ball",), progress=False)
    # In single precision two orders of additions drift apart in the course of an epoch.
    near = 1e-8 if precision == "f64" else 2e-4
    np.testing.assert_allclose(ours.rounds["loss"], theirs.rounds["loss"], rtol=near)
    a, b = ours.regret, theirs.regret
    assert len(a) == len(b) > 20
    for column in ("scale", "layer", "neuron", "comparator", "rounds"):
        assert a[column].equals(b[column]), column
    for column in ("mean_loss", "radius", "bound_zinkevich", "bound_sgd"):
        np.testing.assert_allclose(a[column].astype(float), b[column].astype(float), rtol=10 * near, atol=1e-9, err_msg=column)
    # Each optimum lies between its value and its value less its gap.
    low, high = np.maximum(*(t["taylor_optimum"] - t["gap"] for t in (a, b))), np.minimum(a["taylor_optimum"], b["taylor_optimum"])
    assert (low <= high + near * a["mean_loss"]).all()
    assert (a["gap"] <= 2e-2 * a["mean_loss"]).all(), "gaps that say something"
