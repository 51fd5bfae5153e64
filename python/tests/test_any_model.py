"""Models that the engine does not know, from the training loop to the page."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from models import Radial, RadialNet, Transformer, tokens
from torch import nn

import taylorscope as ts

QUICK = {"backend": "torch", "scales": ("network", "module"), "prefixes": 3, "progress": False}


def train(model, criterion, x, y, rounds=15, optimizer=None):
    optimizer = optimizer or torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(rounds):
        rows = torch.randint(0, len(x), (16,))
        optimizer.zero_grad()
        criterion(model(x[rows]), y[rows]).backward()
        optimizer.step()


def watched(model, criterion, x, y, out, **settings):
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    scope = ts.watch(model, optimizer, criterion if isinstance(criterion, nn.Module) else None, out=out, **settings)
    train(model, criterion if isinstance(criterion, nn.Module) else scope.wrap(criterion), x, y, optimizer=optimizer)
    return scope


@pytest.mark.parametrize("squared", [True, False], ids=["mse", "cross_entropy"])
@pytest.mark.parametrize("kind", [Transformer, RadialNet])
def test_three_lines_give_certified_tables_and_a_page_of_any_model(kind, squared, tmp_path):
    model = kind()
    x, y = tokens(100) if kind is Transformer else (torch.randn(100, 4), torch.arange(100) % 3)
    criterion = nn.MSELoss() if squared else nn.CrossEntropyLoss()
    targets = F.one_hot(y, 7 if kind is Transformer else 3).float() if squared else y
    run = watched(model, criterion, x, targets, tmp_path).close(**QUICK)
    assert run is not None and (run.folder / "report.html").exists() and "<svg" in run._repr_html_()
    modules = [name for name, module in model.named_modules() if list(module.parameters(recurse=False))]
    units = run.units[run.units["comparator"] == "ball"]
    assert units["scale"].tolist() == ["network"] + ["layer"] * len(modules) and len(run.layers) == len(modules)
    assert (units["gap"] <= 1.001e-4 * units["mean_loss"]).all(), units[["scale", "layer", "gap", "mean_loss"]]
    assert (units["taylor_optimum"] >= 0).all() and (units["mean_regret"] > 0).any()


def test_an_analysis_later_needs_the_model_and_the_loss(tmp_path):
    model = RadialNet()
    x, y = torch.randn(80, 4), torch.randn(80, 3)

    def pinball(outputs, targets):
        return torch.maximum(0.3 * (targets - outputs), 0.7 * (outputs - targets)).mean()

    scope = watched(model, pinball, x, y, tmp_path)
    assert scope.close() is None and scope.error is None
    with pytest.raises(TypeError, match="model=model"):
        ts.analyze(tmp_path, backend="torch", progress=False)
    with pytest.raises(ValueError, match="'pinball'.*criterion="):
        ts.analyze(tmp_path, backend="torch", model=RadialNet(), progress=False)
    later = ts.analyze(tmp_path, backend="torch", model=RadialNet(), criterion=pinball, scales=("network",), prefixes=2, progress=False)
    assert later.summary["loss"] == "pinball" and len(later.units)


def test_what_goes_wrong_in_closing_is_a_warning(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(Radial(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    scope = watched(model, nn.CrossEntropyLoss(), torch.randn(80, 4), torch.arange(80) % 3, tmp_path)
    with pytest.warns(RuntimeWarning, match="the analysis failed.*dropout was active in training"):
        assert scope.close(**QUICK) is None
