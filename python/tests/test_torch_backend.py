"""The torch backend against the engine, against dense problems solved another way, and against what goes wrong."""

from __future__ import annotations

import copy
import csv
import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import Gated, Transformer, tokens
from recorded import train
from safetensors.numpy import save_file
from scipy.optimize import minimize as scipy_minimize
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn import functional as F

import taylorscope
from taylorscope import reader
from taylorscope.torch_backend import ModelError, analyze

LABEL = "sgd"


def rows(folder: Path, table: str = "regret.csv") -> list[dict[str, str]]:
    with open(folder / LABEL / table) as file:
        return list(csv.DictReader(file))


def key(row: dict[str, str]) -> tuple[str, ...]:
    return row["scale"], row["layer"], row["neuron"], row["comparator"], row["rounds"]


def to_format_1(trace: Path, folder: Path) -> Path:
    """The same trace for engines that read the first format alone."""
    read = reader.Trace(trace)
    folder.mkdir()
    final = read.final_state()
    assert final is not None
    names = {name: np.concatenate([read.states(name, range(len(read))), final[name][None]]) for name in read.state_names}
    save_file(names, folder / "weights-00000.safetensors")
    np.save(folder / "batches.npy", np.stack([read.rows(place) for place in range(len(read))]))
    everything = np.arange(read.datapoints)
    np.save(folder / "inputs.npy", read.inputs(everything)[""])
    targets = read.targets(everything)
    if targets is not None:
        np.save(folder / "targets.npy", targets)
    np.save(folder / "losses.npy", read.losses)
    kept = {name: read.manifest[name] for name in ("input", "layers", "loss", "target", "optimizer")}
    kept["target"] = "label" if kept["target"] == "values" else kept["target"]
    manifest = kept | {"format": 1, "rounds": len(read), "batch_size": int(read.sizes[0])}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def by_the_engine(trace: Path, out: Path, *settings: str) -> Path:
    chosen = [f"--set={setting}" for setting in ('regret.comparators=["ball"]', "regret.prefixes=4", *settings)]
    arguments = ["-m", "taylorscope", "analyze", str(trace), "--out", str(out), "--quiet", *chosen]
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return out


def mlp() -> tuple[nn.Module, list[Any], tuple[int, ...]]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    return model, [{"dense": 6}, "relu", {"dense": 4}, "relu", {"dense": 3}], (5,)


def cnn() -> tuple[nn.Module, list[Any], tuple[int, ...]]:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 3))
    conv = {"conv": {"maps": 3, "kernel": 3, "padding": 1}}
    return model, [conv, "relu", {"max_pool": {"size": 2, "stride": 2}}, "flatten", {"dense": 3}], (1, 6, 6)


@pytest.mark.parametrize("make", [mlp, cnn])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_units_are_those_of_the_engine(make: Any, loss: str, tmp_path: Path) -> None:
    model, layers, shape = make()
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(60, *shape, generator=generator)
    y = torch.randint(0, 3, (60,), generator=generator) if loss == "cross_entropy" else torch.randn(60, 3, generator=generator)
    criterion = F.cross_entropy if loss == "cross_entropy" else F.mse_loss
    trace = train(tmp_path / "trace", model, criterion, x, y, rounds=20, batch=10, loss=loss, layers=layers, rate=0.05)
    engine = by_the_engine(to_format_1(trace, tmp_path / "trace1"), tmp_path / "engine", "regret.neurons=\"all\"", "exploration.probe=60")
    ours = analyze(trace, model=model, out=tmp_path / "torch", comparators=["ball"], prefixes=4, neurons=None, probe=60, progress=False)
    assert ours is not None
    places = {str(at): str(number) for number, at in enumerate(i for i, layer in enumerate(layers) if isinstance(layer, dict) and "max_pool" not in layer)}
    expected = {}
    for row in rows(engine):
        row["layer"] = places.get(row["layer"], "")
        expected[key(row)] = row
    found = {key(row): row for row in rows(ours)}
    assert found.keys() == expected.keys() and len(found) > 20
    for unit, row in found.items():
        other = expected[unit]
        for column in ("mean_loss", "bound_zinkevich", "bound_sgd", "radius"):
            assert float(row[column]) == pytest.approx(float(other[column]), rel=2e-4), (unit, column)
        slack = float(row["gap"]) + float(other["gap"]) + 1e-5 * float(row["mean_loss"])
        assert abs(float(row["taylor_optimum"]) - float(other["taylor_optimum"])) <= slack, unit
    configurations = rows(ours, "neurons.csv")
    assert len(configurations) > 0 and rows(ours, "novelty.csv")
    # Exploration is asked for at other rounds there; the initial and the last configuration are the same.
    assert rows(ours, "novelty.csv")[0]["bits"] == rows(engine, "novelty.csv")[0]["bits"]
    assert (ours / "report.html").exists()


def dense_problem(trace: Path, model: nn.Module, criterion: Any, names: list[str]) -> tuple[Any, float]:
    """The mean Taylor loss as a function of a displacement, by explicit Jacobians in double precision; and the ball's radius."""
    read = reader.Trace(trace)
    wide = copy.deepcopy(model).double()
    for module in wide.modules():
        # Statistics that are not tracked are not written, as nothing may be inside of a derivative.
        if isinstance(module, nn.BatchNorm1d) and module.training:
            module.track_running_stats = False
    parts = []
    first: np.ndarray | None = None
    farthest = 0.0
    for place in range(len(read)):
        state = {name: torch.from_numpy(read.states(name, [place]))[0].double() for name in read.state_names}
        inputs, targets = read.minibatch(place)
        tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
        tensors = {name: value.double() if value.is_floating_point() else value for name, value in tensors.items()}
        y = torch.from_numpy(targets)
        y = y.double() if y.is_floating_point() else y

        def outputs(moving: dict[str, Tensor]) -> Tensor:
            arguments = (tensors[""],) if "" in tensors else ()
            keywords = {} if "" in tensors else tensors
            return functional_call(wide, {**state, **moving}, arguments, keywords)

        moving = {name: state[name] for name in names}
        f = outputs(moving)
        jacobian = jacrev(outputs)(moving)
        j = torch.cat([jacobian[name].reshape(f.numel(), -1) for name in names], 1)
        w = np.concatenate([state[name].numpy().ravel() for name in names])
        first = w if first is None else first
        farthest = max(farthest, float(np.linalg.norm(w - first)))
        parts.append((f, j, torch.from_numpy(w - first), y))

    def mean(u: np.ndarray) -> tuple[float, np.ndarray]:
        v = torch.from_numpy(u).requires_grad_()
        total = sum(criterion(f + (j @ (v - moved)).reshape(f.shape), y) for f, j, moved, y in parts) / len(parts)
        total.backward()
        return float(total.detach()), v.grad.numpy()

    return mean, 2 * farthest


def by_scipy(mean: Any, radius: float, dimension: int) -> float:
    """The optimum over the ball by projected L-BFGS steps through a map of all space into the ball."""
    constraint = {"type": "ineq", "fun": lambda u: radius**2 - u @ u, "jac": lambda u: -2 * u}
    found = scipy_minimize(mean, np.zeros(dimension), jac=True, constraints=[constraint], method="SLSQP", options={"maxiter": 500, "ftol": 1e-13})
    u = found.x * min(1.0, radius / max(np.linalg.norm(found.x), 1e-30))
    return mean(u)[0]


def check_against_dense(trace: Path, out: Path, model: nn.Module, criterion: Any, network: list[str]) -> None:
    """The last prefix of the network lies in `[value - gap, value]`."""
    mean, radius = dense_problem(trace, model, criterion, network)
    row = [row for row in rows(out) if row["scale"] == "network"][-1]
    dimension = sum(int(np.prod(model.get_parameter(name).shape)) for name in network)
    optimum = by_scipy(mean, radius, dimension)
    assert float(row["radius"]) == pytest.approx(radius, rel=1e-6)
    value, gap = float(row["taylor_optimum"]), float(row["gap"])
    assert gap <= 1e-4 * float(row["mean_loss"])
    assert value - gap - 1e-9 <= optimum and value <= optimum + gap + 1e-6 * float(row["mean_loss"])


def huber(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.huber_loss(outputs, targets, delta=0.5)


def logistic(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.softplus(-outputs * torch.sign(targets)).mean()


@pytest.mark.parametrize("memory", [None, 1 << 13], ids=["kept", "by passes"])
@pytest.mark.parametrize(("loss", "criterion"), [("mse", F.mse_loss), ("huber", huber), ("logistic", logistic)])
def test_optima_are_those_of_the_dense_problem(loss: str, criterion: Any, memory: int | None, tmp_path: Path) -> None:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(40, 3).double(), torch.randn(40, 2).double()
    trace = train(tmp_path / "trace", model, criterion, x, y, rounds=12, batch=8, loss=loss)
    settings: dict[str, Any] = {"scales": ["network"], "prefixes": 3, "tolerance": 1e-5, "memory": memory, "progress": False}
    out = analyze(trace, model=model, criterion=criterion, out=tmp_path / "out", **settings)
    assert out is not None
    check_against_dense(trace, out, model, criterion, ["0.weight", "0.bias", "2.weight", "2.bias"])
    assert json.loads((out / "summary.json").read_text())["loss"] == loss


def test_a_module_of_ones_own_with_several_inputs_and_a_frozen_parameter(tmp_path: Path) -> None:
    torch.manual_seed(5)
    model = Gated().double()
    inputs = {"a": torch.randn(40, 4).double(), "b": torch.randn(40, 4).double()}
    y = torch.randn(40, 2).double()
    trace = train(tmp_path / "trace", model, F.mse_loss, inputs, y, rounds=12, batch=8, loss="mse")
    out = analyze(trace, model=model, out=tmp_path / "out", prefixes=3, progress=False, tolerance=1e-5)
    assert out is not None
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    check_against_dense(trace, out, model, F.mse_loss, trainable)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["layers"] == ["Gated 1", "left: Linear 4 -> 6", "right: Linear 4 -> 6", "head: Linear 6 -> 2"]


def test_a_transformer_at_all_scales(tmp_path: Path) -> None:
    torch.manual_seed(6)
    model = Transformer()
    x, y = tokens(200)
    steps = torch.optim.Adam(model.parameters(), lr=3e-3)
    trace = train(tmp_path / "trace", model, F.cross_entropy, x, y, rounds=12, batch=16, loss="cross_entropy", optimizer=steps)
    out = analyze(trace, model=model, out=tmp_path / "out", prefixes=3, neurons=1, progress=False)
    assert out is not None
    with open(out / "adam" / "units.csv") as file:
        units = list(csv.DictReader(file))
    assert {row["scale"] for row in units} == {"network", "layer", "neuron"}
    for row in units:
        assert float(row["gap"]) <= 1.01e-4 * float(row["mean_loss"]), row
        assert 0 <= float(row["taylor_optimum"]) <= float(row["mean_loss"]) * 1.5


def test_batch_norm_in_training_couples_the_minibatch(tmp_path: Path) -> None:
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).double()
    x, y = torch.randn(40, 3).double(), torch.randn(40, 2).double()
    trace = train(tmp_path / "trace", model, F.mse_loss, x, y, rounds=8, batch=8, loss="mse")
    # As after an evaluation: the losses say in which mode training was.
    before = {name: value.clone() for name, value in model.eval().state_dict().items()}
    out = analyze(trace, model=model, out=tmp_path / "out", prefixes=2, progress=False, tolerance=1e-5)
    assert out is not None
    assert not model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    optimizer = json.loads((out / "summary.json").read_text())["optimizers"][0]
    assert any("train mode" in check for check in optimizer["checks"])
    assert any("whole minibatch" in check for check in optimizer["checks"])
    check_against_dense(trace, out, model.train(), F.mse_loss, [name for name, _ in model.named_parameters()])
    # At neuron scale the values are those of a dense problem as well: a column of the network's.
    unit = next(row for row in rows(out, "units.csv") if row["scale"] == "neuron" and row["layer"] == "1" and row["neuron"] == "0")
    assert float(unit["dimension"]) == 2 and float(unit["gap"]) <= 1e-6


def test_sampled_rounds_have_their_true_numbers(tmp_path: Path) -> None:
    model, _, shape = mlp()
    x, y = torch.randn(50, *shape), torch.randn(50, 3)
    trace = train(tmp_path / "trace", model, F.mse_loss, x, y, rounds=30, batch=10, loss="mse", every=3)
    out = analyze(trace, model=model, out=tmp_path / "out", scales=["network"], prefixes=30, progress=False)
    assert out is not None
    found = rows(out)
    numbers = [int(row["rounds"]) for row in found]
    assert set(numbers) <= set(range(1, 31, 3)) and numbers[-1] == 28 and len(numbers) >= 7
    assert all(row["bound_sgd"] == "" for row in found)
    optimizer = json.loads((out / "summary.json").read_text())["optimizers"][0]
    assert optimizer["sampled_rounds"] == 10 and optimizer["window_rounds"] == 28


GLOO = """
import sys
import torch
from torch import distributed as dist
from models import Transformer
from taylorscope.torch_backend import analyze
rank, size, trace, out, store = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
# So little memory that neurons are kept, and the rest goes by passes.
done = analyze(trace, model=Transformer(), out=out, scales=("network", "neuron"), prefixes=3, neurons=1, memory=1 << 17, progress=False)
assert (done is not None) == (rank == 0)
dist.destroy_process_group()
"""


def test_two_ranks_give_what_one_gives(tmp_path: Path) -> None:
    torch.manual_seed(8)
    model = Transformer()
    x, y = tokens(100)
    trace = train(tmp_path / "trace", model, F.cross_entropy, x, y, rounds=9, batch=8, loss="cross_entropy")
    for size in (1, 2):
        arguments = [str(size), str(trace), str(tmp_path / f"out{size}"), str(tmp_path / f"store{size}")]
        started = [subprocess.Popen([sys.executable, "-c", GLOO, str(rank), *arguments], cwd=Path(__file__).parent) for rank in range(size)]
        assert [process.wait(timeout=300) for process in started] == [0] * size
    one, two = ({key(row): row for row in rows(tmp_path / f"out{size}")} for size in (1, 2))
    assert one.keys() == two.keys()
    for unit, row in one.items():
        for column in ("taylor_optimum", "mean_loss", "bound_zinkevich"):
            assert abs(float(row[column]) - float(two[unit][column])) <= 1e-9 * max(float(row["mean_loss"]), float(row[column])), (unit, column)


class Broken(nn.Module):
    """A linear map that raises, or gives what is no number, once it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def small_trace(folder: Path, model: nn.Module, criterion: Any = F.mse_loss, loss: str = "mse") -> Path:
    torch.manual_seed(9)
    return train(folder, model, criterion, torch.randn(30, 3), torch.randn(30, 2), rounds=6, batch=5, loss=loss)


def test_an_exception_of_the_criterion_comes_back_and_the_folder_says_that_it_is_not_complete(tmp_path: Path) -> None:
    model = Broken()
    calls = 0

    def criterion(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 40:
            raise KeyError("raised on purpose")
        return F.huber_loss(outputs, targets)

    trace = small_trace(tmp_path / "trace", model, F.huber_loss, "huber")
    with pytest.raises(KeyError, match="raised on purpose"):
        analyze(trace, model=model, criterion=criterion, out=tmp_path / "out", progress=False, max_products=64)
    if (tmp_path / "out").exists():
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert summary["status"] == "interrupted" and not (tmp_path / "out" / "report.html").exists()


def test_ctrl_c_leaves_a_folder_that_says_so(tmp_path: Path) -> None:
    torch.manual_seed(10)
    model = Transformer()
    x, y = tokens(100)
    trace = train(tmp_path / "trace", model, F.cross_entropy, x, y, rounds=9, batch=8, loss="cross_entropy")
    script = (
        "import sys; from models import Transformer; from taylorscope.torch_backend import analyze\n"
        "analyze(sys.argv[1], model=Transformer(), out=sys.argv[2], prefixes=9, tolerance=1e-12, max_products=5000, memory=1 << 13)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(trace), str(tmp_path / "out")], cwd=Path(__file__).parent, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "layer scale" in line:
            break
    process.send_signal(signal.SIGINT)
    said += process.stderr.read()
    assert process.wait(timeout=60) != 0 and "KeyboardInterrupt" in said
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    # It reaches a callback, or the search between two of them.
    message = summary["optimizers"][0]["message"]
    assert summary["status"] == "interrupted" and ("ended early" in message or "stopped in the analysis" in message)
    # It may be replaced, when asked to.
    with pytest.raises(ValueError, match="overwrite=True"):
        analyze(trace, model=model, out=tmp_path / "out", progress=False, scales=["network"], prefixes=2)
    assert analyze(trace, model=model, out=tmp_path / "out", progress=False, scales=["network"], prefixes=2, overwrite=True)


def test_another_model_is_told_from_the_recorded_one(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    trace = small_trace(tmp_path / "trace", model)
    with pytest.raises(ModelError, match="dropout"):
        analyze(trace, model=model, out=tmp_path / "out", progress=False)
    trace = small_trace(tmp_path / "trace2", Broken())
    with pytest.raises(ModelError, match="no trainable parameter"):
        analyze(trace, model=nn.Linear(3, 2), out=tmp_path / "out", progress=False)
    other = Broken()
    other.linear = nn.Linear(3, 3)
    with pytest.raises(ModelError, match="shape"):
        analyze(trace, model=other, out=tmp_path / "out", progress=False)
    with pytest.raises(ModelError, match="round 1 was recorded"):
        analyze(trace, model=Broken(), criterion=huber, out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_losses_that_are_not_convex_or_negative_are_refused(tmp_path: Path) -> None:
    def concave(outputs: Tensor, targets: Tensor) -> Tensor:
        return 5 - (outputs - targets).square().mean()

    def lowered(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs, targets) - 10

    for criterion, text in ((concave, "convex"), (lowered, "negative")):
        model = Broken()
        trace = small_trace(tmp_path / text, model, criterion, text)
        with pytest.raises(ValueError, match=text):
            analyze(trace, model=model, criterion=criterion, out=tmp_path / f"out-{text}", progress=False, scales=["network"])


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    model = Broken()
    trace = small_trace(tmp_path / "trace", model)
    with pytest.raises(ValueError, match="scales"):
        analyze(trace, model=model, out=tmp_path / "out", scales=["layers"])
    with pytest.raises(ValueError, match="rounds"):
        analyze(trace, model=model, out=tmp_path / "out", rounds=0)
    with pytest.raises(TypeError, match="Module"):
        analyze(trace, model=print, out=tmp_path / "out")  # type: ignore[arg-type]
    with pytest.raises(reader.TraceError, match="manifest"):
        analyze(tmp_path, model=model, out=tmp_path / "out")
    with pytest.raises(ValueError, match="one number"):
        analyze(trace, model=model, out=tmp_path / "out", criterion=nn.MSELoss(reduction="none"), progress=False)


def test_outputs_that_are_no_tensor_need_a_choice(tmp_path: Path) -> None:
    class Named(Broken):
        def forward(self, x: Tensor) -> Any:
            return {"logits": super().forward(x)}

    torch.manual_seed(11)
    model = Named()
    logits = lambda out: out["logits"]  # noqa: E731
    trace = train(tmp_path / "trace", model, F.mse_loss, torch.randn(30, 3), torch.randn(30, 2), rounds=6, batch=5, loss="mse", output=logits)
    with pytest.raises(ModelError, match="output="):
        analyze(trace, model=model, out=tmp_path / "out", progress=False)
    assert analyze(trace, model=model, output=logits, out=tmp_path / "out", scales=["module"], prefixes=2, progress=False)


def test_half_precision_states_are_read(tmp_path: Path) -> None:
    bits = torch.randn(3, 4, dtype=torch.bfloat16)
    header = {"state.w": {"dtype": "BF16", "shape": [3, 4], "data_offsets": [0, 24]}}
    text = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bits.view(torch.int16).numpy().tobytes())
    tensors, _ = reader._read_tensors(tmp_path / "a.safetensors")
    assert np.array_equal(tensors["state.w"].take([2, 0]), bits[[2, 0]].float().numpy())


def test_a_damaged_shard_ends_the_trace_before_it(tmp_path: Path) -> None:
    trace = train(tmp_path / "trace", Broken(), F.mse_loss, torch.randn(30, 3), torch.randn(30, 2), rounds=9, batch=5, loss="mse", shard=3)
    path = trace / "shard-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    read = reader.Trace(trace)
    assert len(read) == 6 and "shard-00002" in read.notes[0]
    assert math.isfinite(read.losses.sum()) and read.minibatch(5)[0][""].shape == (5, 3)


def test_the_package_hands_over_and_reads_the_folder(tmp_path: Path) -> None:
    model = Broken()
    trace = small_trace(tmp_path / "trace", model)
    run = taylorscope.analyze(trace, tmp_path / "out", backend="torch", model=model, scales=["network"], prefixes=2, progress=False)
    assert len(run.units) > 0 and (tmp_path / "out" / "report.html").exists()
