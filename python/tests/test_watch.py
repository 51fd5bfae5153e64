"""What the recorder makes of loops as people write them."""

from __future__ import annotations

import copy
import gc
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ConvNet, mlp
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import taylorscope as ts


def sgd(model, rate=0.1, **settings):
    return torch.optim.SGD(model.parameters(), rate, **settings)


def test_a_plain_loop_is_recorded_as_it_went(tmp_path, images, recorded):
    x, y = images
    model, criterion = mlp(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    scope = ts.watch(model, optimizer, criterion, out=tmp_path)
    states, losses, batches = [], [], []
    for _ in range(3):
        for xb, yb in DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True):
            states.append(copy.deepcopy(model.state_dict()))
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            batches.append((xb.numpy().copy(), yb.numpy().copy()))
        model.eval()
        criterion(model(x), y)
        model.train()
        with torch.no_grad():
            criterion(model(x), y)
    scope.close(analyse=False)
    assert scope.error is None
    trace = recorded(scope.trace)
    assert trace["rounds"].tolist() == list(range(1, 13))
    assert trace["sizes"].tolist() == [64, 64, 64, 8] * 3
    np.testing.assert_allclose(trace["losses"], losses, rtol=1e-12)
    assert len(trace["inputs"]) == len(x), "each row is stored once"
    for found, expected in zip(trace.minibatches(), batches, strict=True):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
    for name, parameter in model.named_parameters():
        stacked = np.stack([state[name].numpy() for state in states])
        np.testing.assert_array_equal(trace["state." + name], stacked)
        np.testing.assert_array_equal(trace.final["state." + name], parameter.detach().numpy())
    told = trace.manifest
    assert (told["loss"], told["target"], told["precision"], told["complete"], told["rounds"]) == ("cross_entropy", "label", "f32", True, 12)
    assert told["optimizer"]["name"] == "adam" and told["optimizer"]["learning_rate"] == 1e-2
    assert told["layers"] == [{"dense": 12}, "relu", {"dense": 4}]
    assert told["parameters"]["2.weight"] == "3.weight"


def test_training_is_the_same_with_and_without(tmp_path, images):
    x, y = images

    def train(watched):
        torch.manual_seed(1)
        model, criterion = mlp(), nn.CrossEntropyLoss()
        optimizer = sgd(model, momentum=0.9)
        scope = ts.watch(model, optimizer, criterion, out=tmp_path) if watched else None
        for xb, yb in DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True):
            optimizer.zero_grad()
            criterion(model(xb), yb).backward()
            optimizer.step()
        if scope is not None:
            scope.close(analyse=False)
        return [parameter.detach().clone() for parameter in model.parameters()], torch.rand(1)

    for a, b in zip(train(False)[0], train(True)[0], strict=True):
        assert torch.equal(a, b)
    assert torch.equal(train(False)[1], train(False)[1])


@pytest.mark.parametrize("divided", [True, False])
def test_accumulated_gradients_are_one_round(tmp_path, images, recorded, divided):
    x, y = images
    model = mlp()
    optimizer = sgd(model)
    scope = ts.watch(model, optimizer, out=tmp_path)
    criterion = scope.wrap(F.cross_entropy)
    whole = []
    for start in (0, 60):
        optimizer.zero_grad()
        with torch.no_grad():
            whole.append(F.cross_entropy(model(x[start : start + 60]), y[start : start + 60]).item())
        for part in range(start, start + 60, 20):
            loss = criterion(model(x[part : part + 20]), y[part : part + 20])
            (loss / 3 if divided else loss).backward()
        optimizer.step()
    scope.close(analyse=False)
    trace = recorded(scope.trace)
    assert trace["sizes"].tolist() == [60, 60]
    np.testing.assert_allclose(trace["losses"], whole, rtol=1e-6)
    np.testing.assert_array_equal(trace.minibatches()[1][0], x[60:120].numpy())
    assert "accumulation" not in trace.manifest["optimizer"]


def test_unequal_minibatches_of_one_step_are_told(tmp_path, images, recorded):
    x, y = images
    model, criterion = mlp(), nn.CrossEntropyLoss()
    optimizer = sgd(model)
    scope = ts.watch(model, optimizer, criterion, out=tmp_path)
    for part in (slice(0, 40), slice(40, 50)):
        (criterion(model(x[part]), y[part]) / 2).backward()
    optimizer.step()
    scope.close(analyse=False)
    assert "not weighted" in recorded(scope.trace).manifest["optimizer"]["accumulation"]


@pytest.mark.parametrize("to_none", [True, False])
def test_steps_that_are_skipped_after_an_overflow_are_no_rounds(tmp_path, images, recorded, to_none):
    x, y = images
    model, criterion = mlp(), nn.CrossEntropyLoss()
    optimizer = sgd(model)
    scaler = torch.amp.GradScaler("cpu")
    scope = ts.watch(model, optimizer, criterion, out=tmp_path)
    for number in range(5):
        with torch.autocast("cpu", torch.bfloat16):
            loss = criterion(model(x[20 * number : 20 * number + 20]), y[20 * number : 20 * number + 20])
        optimizer.zero_grad(set_to_none=to_none)
        scaler.scale(loss).backward()
        if number == 2:
            model[1].weight.grad[0, 0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
    scope.close(analyse=False)
    trace = recorded(scope.trace)
    assert trace["sizes"].tolist() == [20] * 4
    np.testing.assert_array_equal(trace.minibatches()[2][0], x[60:80].numpy())
    assert trace.manifest["precision"] == "bf16"


@pytest.mark.parametrize("wrapped", ["compile", "parallel"])
def test_wrapped_models_have_plain_names(tmp_path, images, recorded, wrapped):
    x, y = images
    inner, criterion = mlp(), nn.CrossEntropyLoss()
    model = torch.compile(inner, backend="eager") if wrapped == "compile" else nn.DataParallel(inner)
    optimizer = sgd(model)
    scope = ts.watch(model, optimizer, criterion, out=tmp_path)
    for _ in range(2):
        optimizer.zero_grad()
        criterion(model(x[:32]), y[:32]).backward()
        optimizer.step()
    scope.close(analyse=False)
    trace = recorded(scope.trace)
    assert len(trace["rounds"]) == 2 and "state.1.weight" in trace.arrays and trace.manifest["layers"]


def test_autoencoders_are_seen_by_memory_and_by_bytes(tmp_path, images, recorded):
    x = images[0].view(200, 64)
    model, criterion = nn.Sequential(nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 64)), nn.MSELoss()
    optimizer = sgd(model)
    scope = ts.watch(model, optimizer, criterion, out=tmp_path)
    for target in (x[:30].clone(), x[:30].clone()):
        optimizer.zero_grad()
        xb = x[:30]
        criterion(model(xb), target).backward()
        optimizer.step()
    optimizer.zero_grad()
    criterion(model(xb), xb).backward()
    optimizer.step()
    scope.close(analyse=False)
    trace = recorded(scope.trace)
    assert trace.manifest["target"] == "input" and "targets" not in trace.arrays and len(trace["rounds"]) == 3


def test_sampled_rounds_and_a_budget(tmp_path, images, recorded):
    x, y = images
    model, criterion = mlp(), nn.CrossEntropyLoss()
    optimizer = sgd(model)
    scope = ts.watch(model, optimizer, criterion, out=tmp_path / "every", every=5)
    other = ts.watch(model, optimizer, criterion, out=tmp_path / "budget", max_bytes=400_000)
    for _ in range(400):
        optimizer.zero_grad()
        criterion(model(x[:32]), y[:32]).backward()
        optimizer.step()
    scope.close(analyse=False)
    other.close(analyse=False)
    assert scope.error is None and other.error is None
    trace = recorded(scope.trace)
    assert trace["rounds"].tolist() == list(range(1, 401, 5)) and trace["all_rounds"].tolist() == list(range(1, 401))
    size = sum(path.stat().st_size for path in other.trace.iterdir())
    kept = recorded(other.trace)["rounds"]
    assert size < 440_000 and len(set(np.diff(kept))) == 1 and kept[-1] > 350


def test_what_changes_is_told_and_what_is_unknown_is_named(tmp_path, images, recorded):
    x, y = images
    model = mlp()
    optimizer = torch.optim.SGD([{"params": model[1].parameters()}, {"params": model[3].parameters(), "lr": 0.01}], lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    cases = {
        "cross_entropy with label_smoothing=0.1": nn.CrossEntropyLoss(label_smoothing=0.1),
        "cross_entropy with weight": nn.CrossEntropyLoss(weight=torch.ones(4)),
        "cross_entropy with reduction=sum": nn.CrossEntropyLoss(reduction="sum"),
    }
    for name, criterion in cases.items():
        scope = ts.watch(model, optimizer, criterion, out=tmp_path / name.replace(" ", "-"))
        for _ in range(2):
            optimizer.zero_grad()
            (1e-3 * criterion(model(x[:32]), y[:32])).backward()
            optimizer.step()
            schedule.step()
        scope.close(analyse=False)
        told = recorded(scope.trace).manifest
        assert told["loss"] == name
        assert told["optimizer"]["schedule"] == "changes" and told["optimizer"]["parameter_groups"] == 2
    scope = ts.watch(model, optimizer, nn.CrossEntropyLoss(), out=tmp_path / "ignored")
    ignored = y.clone()
    ignored[3] = -100
    scope.criterion(model(x[:32]), ignored[:32]).backward()
    optimizer.step()
    scope.close(analyse=False)
    assert "ignored targets" in recorded(scope.trace).manifest["loss"]


def test_frozen_parameters_buffers_and_a_function_as_criterion(tmp_path, images, recorded):
    x, y = images
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4))
    model[1].requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    scope = ts.watch(model, optimizer, out=tmp_path)
    criterion = scope.wrap(F.cross_entropy)
    for _ in range(3):
        optimizer.zero_grad()
        criterion(model(x[:32]), target=y[:32]).backward()
        optimizer.step()
    scope.close(analyse=False)
    trace = recorded(scope.trace)
    assert (np.diff(trace["state.1.weight"], axis=0) == 0).all() and trace["buffer.2.running_mean"].shape == (3, 6)
    assert "layers" not in trace.manifest and "2 (BatchNorm1d)" in trace.manifest["conversion"]


def test_a_closure_of_another_optimizer_than_lbfgs(tmp_path, images, recorded):
    x, y = images
    model, criterion = mlp(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters())
    scope = ts.watch(model, optimizer, criterion, out=tmp_path)
    before = []

    def closure():
        optimizer.zero_grad()
        loss = criterion(model(x[:16]), y[:16])
        loss.backward()
        return loss

    for _ in range(3):
        before.append(model[1].weight.detach().clone().numpy())
        optimizer.step(closure)
    scope.close(analyse=False)
    np.testing.assert_array_equal(recorded(scope.trace)["state.1.weight"], np.stack(before))


def test_several_inputs_and_rounds_by_hand(tmp_path, images, recorded):
    x, y = images

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(64, 4), nn.Linear(64, 4)

        def forward(self, left, right=None):
            return self.a(left) + self.b(right)

    model = Two()
    optimizer = sgd(model)
    flat = x.view(200, 64)
    scope = ts.watch(model, optimizer, nn.CrossEntropyLoss(), out=tmp_path / "two")
    scope.criterion(model(flat[:9], right=flat[9:18]), y[:9]).backward()
    optimizer.step()
    scope.close(analyse=False)
    trace = recorded(scope.trace)
    assert trace["inputs.0"].shape == (9, 64) and trace["inputs.right"].shape == (9, 64)
    assert "several inputs" in trace.manifest["conversion"]

    model = mlp()
    optimizer = sgd(model)
    scope = ts.watch(model, optimizer, out=tmp_path / "hand")
    loss = F.cross_entropy(model(x[:9]), y[:9])
    scope.record(x[:9], y[:9], loss, name="cross_entropy")
    loss.backward()
    optimizer.step()
    scope.close(analyse=False)
    assert recorded(scope.trace)["losses"].tolist() == [loss.item()]


def refused(kind, *words):
    return pytest.raises(kind, match=".*".join(words))


def test_what_cannot_be_watched_is_refused_by_name(tmp_path, images):
    model = mlp()
    with refused(ts.NotRecordable, "LBFGS"):
        ts.watch(model, torch.optim.LBFGS(model.parameters()), nn.MSELoss(), out=tmp_path)
    with refused(TypeError, "mse_loss is a function", "scope.wrap"):
        ts.watch(model, sgd(model), F.mse_loss, out=tmp_path)
    with refused(ts.NotRecordable, "no parameter of the model"):
        ts.watch(model, sgd(mlp()), nn.MSELoss(), out=tmp_path)
    with refused(ts.NotRecordable, "lazy"):
        ts.watch(nn.Sequential(nn.LazyLinear(3)), sgd(model), nn.MSELoss(), out=tmp_path)
    with refused(TypeError, "not a torch.nn.Module"):
        ts.watch(lambda x: x, sgd(model), nn.MSELoss(), out=tmp_path)
    with refused(ValueError, "every"):
        ts.watch(model, sgd(model), nn.MSELoss(), out=tmp_path, every=0)


def stops(tmp_path, loop, words, rounds):
    """Runs a loop under watch, which warns once with these words after so many rounds and does not end."""
    model = mlp()
    optimizer = sgd(model)
    scope = ts.watch(model, optimizer, nn.CrossEntropyLoss(), out=tmp_path)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        loop(model, optimizer, scope.criterion)
        scope.close(analyse=False)
    said = [str(warning.message) for warning in said if "taylorscope" in str(warning.message)]
    assert len(said) == 1 and words in said[0], said
    assert f"after {rounds} rounds" in said[0], said
    return scope


def test_recording_stops_where_training_is_no_rounds_and_training_goes_on(tmp_path, images, recorded):
    x, y = images

    def step(model, optimizer, loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def siamese(model, optimizer, criterion):
        for _ in range(3):
            step(model, optimizer, criterion(model(x[:8]) - model(x[8:16]), y[:8]))

    def two_losses(model, optimizer, criterion):
        for _ in range(3):
            output = model(x[:8])
            step(model, optimizer, criterion(output, y[:8]) + criterion(2 * output, y[:8]))

    def replaced(model, optimizer, criterion):
        for number in range(4):
            if number == 2:
                model[3] = nn.Linear(12, 4)
            step(model, optimizer, criterion(model(x[:8]), y[:8]))

    def reshaped(model, optimizer, criterion):
        step(model, optimizer, criterion(model(x[:8]), y[:8]))
        model[3].weight.data, model[3].bias.data = torch.zeros(5, 12), torch.zeros(5)
        optimizer.zero_grad()
        step(model, optimizer, criterion(model(x[:8]), y[:8]))

    def infinite(model, optimizer, criterion):
        for number in range(6):
            factor = float("inf") if number >= 3 else 1.0
            step(model, optimizer, criterion(model(x[:8] * factor), y[:8]))

    def list_of_inputs(model, optimizer, criterion):
        model.forward = lambda parts: nn.Sequential.forward(model, parts[0])
        for _ in range(3):
            step(model, optimizer, criterion(model([x[:8]]), y[:8]))

    stops(tmp_path / "a", siamese, "more than once for one loss", 0)
    stops(tmp_path / "b", two_losses, "two losses", 0)
    stops(tmp_path / "c", replaced, "module 3 was replaced", 2)
    stops(tmp_path / "d", reshaped, "3.weight was of", 1)
    scope = stops(tmp_path / "e", infinite, "the loss of round 4 is nan", 3)
    assert len(recorded(scope.trace)["rounds"]) == 3 and recorded(scope.trace).manifest["complete"] is False
    stops(tmp_path / "f", list_of_inputs, "argument 0 is a list", 0)


def test_a_model_that_is_called_several_times_before_a_backward_pass_is_warned_of(tmp_path, images, recorded):
    x, y = images
    model, criterion = mlp(), nn.CrossEntropyLoss()
    optimizer = sgd(model)
    scope = ts.watch(model, optimizer, criterion, out=tmp_path)
    with pytest.warns(RuntimeWarning, match="several times before a backward pass"):
        for _ in range(2):
            optimizer.zero_grad()
            (criterion(model(x[:8]), y[:8]) + criterion(model(x[8:16]), y[8:16])).backward()
            optimizer.step()
    scope.close(analyse=False)
    assert recorded(scope.trace)["sizes"].tolist() == [16, 16]


def test_nothing_seen_is_said(tmp_path, images):
    x, y = images
    model = mlp()
    optimizer = sgd(model)
    scope = ts.watch(model, optimizer, out=tmp_path)
    with pytest.warns(RuntimeWarning, match="no loss was seen.*scope.wrap"):
        for _ in range(4):
            optimizer.zero_grad()
            F.cross_entropy(model(x[:8]), y[:8]).backward()
            optimizer.step()
    assert scope.close() is None


def test_a_folder_with_a_trace_is_replaced_only_if_told(tmp_path, images):
    x, y = images
    for overwrite in (False, True):
        model, criterion = mlp(), nn.CrossEntropyLoss()
        optimizer = sgd(model)
        scope = ts.watch(model, optimizer, criterion, out=tmp_path, overwrite=overwrite)
        criterion(model(x[:8]), y[:8]).backward()
        optimizer.step()
        scope.close(analyse=False)
        with pytest.raises(ValueError, match="overwrite=True"):
            ts.watch(model, optimizer, criterion, out=tmp_path)


def test_a_context_and_a_scope_that_is_let_go_leave_a_trace(tmp_path, images, recorded):
    x, y = images

    def train(out, fail):
        model, criterion = ConvNet(), nn.CrossEntropyLoss()
        optimizer = sgd(model)
        with ts.watch(model, optimizer, criterion, out=out) as scope:
            for number in range(4):
                optimizer.zero_grad()
                criterion(model(x[:8]), y[:8]).backward()
                optimizer.step()
                if fail and number == 2:
                    raise KeyboardInterrupt
        return scope.trace

    assert recorded(train(tmp_path / "a", False)).manifest["complete"] is True
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", True)
    trace = recorded(tmp_path / "b" / "trace")
    assert len(trace["rounds"]) == 3 and trace.manifest["complete"] is False and trace.final is not None
    gc.collect()
