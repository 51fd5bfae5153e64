"""Results of the command line, read in Python."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import taylorscope as ts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "digits"
    quick = ["--set", "regret.prefixes=4", "--set", "regret.neurons=2", "--set", "regret.max_products=20", "--set", "regret.scales=['network','neuron']"]
    command = [sys.executable, "-m", "taylorscope", "run", "digits-autoencoder", "--epochs", "1", "--optimizer", "sgd", "--optimizer", "adam", "--quiet"]
    subprocess.run([*command, *quick, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
    return out


def test_tables_are_frames_with_columns_of_their_kind(folder):
    run = ts.read(folder)
    assert len(run) == 2 and [one.label for one in run] == ["sgd", "adam"]
    regret = run.regret
    assert set(regret["optimizer"]) == {"sgd", "adam"}
    assert str(regret["layer"].dtype) == str(regret["neuron"].dtype) == str(regret["rounds"].dtype) == "Int64"
    assert regret["layer"].isna().any() and regret["attained"].dtype == bool
    adam = run["adam"]
    np.testing.assert_allclose(adam.regret["mean_regret"], adam.regret["mean_loss"] - adam.regret["taylor_optimum"], atol=1e-12)
    assert len(adam.rounds) == adam.summary["optimizers"][1]["rounds"]
    assert ts.read(folder / "adam").label == "adam"
    assert len(adam.novelty) and len(adam.neurons) and len(adam.units) and len(adam.epochs)
    with pytest.raises(KeyError, match="sgd, adam"):
        run["rmsprop"]
    with pytest.raises(KeyError, match="there are"):
        run.table("nonsense")
    with pytest.raises(FileNotFoundError, match="no results"):
        ts.read(folder / "figures")


def test_without_pandas_tables_are_arrays(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    regret = ts.read(folder)["adam"].regret
    assert regret["rounds"].dtype == np.int64 and np.isnan(regret["layer"]).any() and regret["attained"].dtype == bool


def test_a_run_shows_itself(folder):
    run = ts.read(folder)
    shown = run._repr_html_()
    assert "<svg" in shown and "adam" in shown and "taylor optimum" in shown
    assert "adam (network)" in repr(run)
    assert run.figure(run.figures[0]).svg.startswith("<svg")
    assert run.report().name == "report.html"
    with pytest.raises(KeyError, match="regret"):
        run.figure("nonsense")


def test_runs_side_by_side_and_scalars(folder, tmp_path):
    assert ts.compare(folder, ts.read(folder), out=tmp_path / "both").exists()

    class Writer:
        def __init__(self):
            self.scalars = {}

        def add_scalar(self, name, value, step):
            self.scalars.setdefault(name, []).append((step, value))

    writer = Writer()
    run = ts.read(folder)
    run.log_to(writer)
    assert len(writer.scalars["taylorscope/adam/loss"]) == len(run["adam"].rounds)
    assert len(writer.scalars["taylorscope/sgd/mean_regret"]) == 4
    logged = []
    run["adam"].log_to(type("Wandb", (), {"log": staticmethod(logged.append)})())
    assert any("taylorscope/novelty" in entry for entry in logged)
    with pytest.raises(TypeError, match="add_scalar"):
        run.log_to(3)
