"""A script that was written without the package, and three lines: a page whose numbers are those of an equal trace of format 1."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import ConvNet, mlp
from safetensors.numpy import save_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import taylorscope as ts

QUICK = {"prefixes": 3, "neurons": 2, "max_products": 60, "progress": False}


def train(model, optimizer, criterion, images, epochs=2, drop_last=False):
    for _ in range(epochs):
        for x, y in DataLoader(TensorDataset(*images), batch_size=32, shuffle=True, drop_last=drop_last):
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()


@pytest.mark.parametrize("network", [mlp, ConvNet])
def test_three_lines_give_a_full_page(tmp_path, images, network):
    model, criterion = network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    scope = ts.watch(model, optimizer, criterion, out=tmp_path)
    train(model, optimizer, criterion, images)
    run = scope.close(**QUICK)
    assert run is not None and len(run.rounds) == 14
    assert {"network", "layer", "neuron"} == set(run.units["scale"]) and len(run.novelty) and len(run.neurons)
    assert run.report().exists() and "<svg" in run._repr_html_()
    assert run.summary["optimizers"][0]["name"] == "adam" and not run.summary["optimizers"][0].get("warnings")
    assert ts.read(tmp_path).folder == run.folder


def as_format_1(trace, folder, layers):
    """The same training as a trace of format 1, written by hand."""
    folder.mkdir()
    parameters = trace.manifest["parameters"]
    states = {key: np.concatenate([trace["state." + name], trace.final["state." + name][None]]) for key, name in parameters.items()}
    save_file(states, folder / "weights-00000.safetensors")
    np.save(folder / "batches.npy", trace["rows"].reshape(len(trace["rounds"]), -1))
    np.save(folder / "inputs.npy", trace["inputs"].reshape(len(trace["inputs"]), *trace.manifest["input"]))
    np.save(folder / "targets.npy", trace["targets"])
    np.save(folder / "losses.npy", trace["losses"])
    told = {key: trace.manifest[key] for key in ("input", "layers", "loss", "target", "optimizer")}
    told |= {"format": 1, "rounds": len(trace["rounds"]), "batch_size": int(trace["sizes"][0])}
    assert told["layers"] == layers or layers is None
    (folder / "manifest.json").write_text(json.dumps(told))
    return folder


@pytest.mark.parametrize("network", [mlp, ConvNet])
def test_the_numbers_are_those_of_an_equal_trace_of_format_1(tmp_path, images, network, recorded):
    model, criterion = network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scope = ts.watch(model, optimizer, criterion, out=tmp_path / "run")
    train(model, optimizer, criterion, images, drop_last=True)
    run = scope.close(**QUICK)
    other = ts.analyze(as_format_1(recorded(scope.trace), tmp_path / "plain", None), out=tmp_path / "other", **QUICK)
    a, b = run.regret, other.regret
    assert len(a) == len(b) > 10
    for name in ("scale", "comparator", "rounds"):
        assert (a[name] == b[name]).all()
    np.testing.assert_allclose(a["mean_loss"], b["mean_loss"], rtol=1e-6)
    # Each optimum lies between its value and the value less its gap.
    low, high = np.maximum(a["taylor_optimum"] - a["gap"], b["taylor_optimum"] - b["gap"]), np.minimum(a["taylor_optimum"], b["taylor_optimum"])
    assert (low <= high + 1e-6 * np.abs(high)).all()
    assert run.novelty["min_hamming"].tolist()[1:] == other.novelty["min_hamming"].tolist()[1:]


def test_what_the_engine_does_not_know_is_said_with_the_call_that_does_it(tmp_path, images, capsys):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.GELU(), nn.Linear(6, 4))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scope = ts.watch(model, optimizer, criterion, out=tmp_path)
    train(model, optimizer, criterion, images, epochs=1)
    assert scope.close() is None
    said = capsys.readouterr().err
    assert "2 (GELU)" in said and 'backend="torch"' in said
    with pytest.raises(ts.AnalyzeError, match="GELU"):
        ts.analyze(scope)
    run = ts.analyze(scope, backend="torch", model=model, criterion=criterion, scales=("network",), prefixes=2, max_products=20)
    assert set(run.units["scale"]) == {"network"}


def test_errors_of_the_program_are_errors_here(tmp_path):
    with pytest.raises(ts.AnalyzeError, match="no manifest.json"):
        ts.analyze(tmp_path)
    with pytest.raises(ValueError, match="backend"):
        (tmp_path / "manifest.json").write_text("{}")
        ts.analyze(tmp_path, backend="gpu")
    with pytest.raises(ts.AnalyzeError, match="format"):
        ts.analyze(tmp_path, out=tmp_path / "out", progress=False)


def test_a_trace_of_a_killed_training_analyses(tmp_path, images):
    model, criterion = mlp(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with ts.watch(model, optimizer, criterion, out=tmp_path) as scope:
        train(model, optimizer, criterion, images)
    # As after a kill: without an end, and with a shard that is not whole.
    (scope.trace / "final.safetensors").unlink()
    (scope.trace / "shard-00001.safetensors.part").write_bytes(b"half")
    told = json.loads((scope.trace / "manifest.json").read_text())
    del told["rounds"], told["complete"]
    (scope.trace / "manifest.json").write_text(json.dumps(told))
    assert len(ts.analyze(scope.out, **QUICK).rounds) == 14
