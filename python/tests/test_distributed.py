"""A training in two processes with `DistributedDataParallel`."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import taylorscope as ts

SCRIPT = """
import sys
import torch
import taylorscope as ts
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

rank, ranks, out, store, kind = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
torch.set_num_threads(1)
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
torch.manual_seed(0)
x = torch.rand(90, 12)
data = TensorDataset(x, (x.sum(1) > 6).long())
middle = nn.Tanh() if kind == "torch" else nn.ReLU()
model = DistributedDataParallel(nn.Sequential(nn.Linear(12, 6), middle, nn.Linear(6, 2)))
optimizer, criterion = torch.optim.SGD(model.parameters(), 0.1), nn.CrossEntropyLoss()
# Watched by both processes, or by one of them alone.
scope = ts.watch(model, optimizer, criterion, out=out) if rank == 0 or kind != "alone" else None
sampler = DistributedSampler(data, seed=1)
for epoch in range(3):
    sampler.set_epoch(epoch)
    for xb, yb in DataLoader(data, batch_size=10, sampler=sampler):
        optimizer.zero_grad()
        criterion(model(xb), yb).backward()
        optimizer.step()
settings = dict(prefixes=2, progress=False, scales=("network",), max_products=100)
run = scope.close(**settings, backend="torch" if kind == "torch" else "engine") if scope is not None else None
assert (run is not None) == (rank == 0)
if rank == 0:
    torch.save([parameter.detach() for parameter in model.parameters()], f"{store}.weights")
distributed.destroy_process_group()
"""


@pytest.mark.parametrize("kind", ["engine", "alone", "torch"])
def test_two_processes_are_one_training_that_rank_0_records(kind, tmp_path, recorded):
    import torch

    arguments = [str(tmp_path / "run"), str(tmp_path / "store"), kind]
    processes = [subprocess.Popen([sys.executable, "-c", SCRIPT, str(rank), "2", *arguments]) for rank in range(2)]
    try:
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    trace = recorded(tmp_path / "run" / "trace")
    # 45 rows for each process in minibatches of 10: the share of rank 0.
    assert trace["sizes"].tolist() == [10, 10, 10, 10, 5] * 3
    assert "rank 0 of 2 processes" in trace.manifest["model"] and "module" not in "".join(trace.arrays)
    final = torch.load(tmp_path / "store.weights")
    np.testing.assert_array_equal(trace.final["state.0.weight"], final[0].numpy())
    run = ts.read(tmp_path / "run")
    assert len(run.units) and len(run.rounds) == 15
    # Steps follow the mean gradient of both, not that of the share, so that there is no bound for them.
    assert run.regret["bound_sgd"].isna().all()
