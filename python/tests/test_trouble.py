"""What a trace is after trouble: killed processes, full disks, Ctrl-C."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

SCRIPT = textwrap.dedent(
    """
    import sys, torch
    from torch import nn
    import taylorscope as ts
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.rand(300, 20)
    y = (x.sum(1) > 10).long()
    model = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 2))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    criterion = nn.CrossEntropyLoss()
    PREPARE
    scope = ts.watch(model, optimizer, criterion, out=sys.argv[1])
    for number in range(ROUNDS):
        rows = torch.randint(0, 300, (32,))
        optimizer.zero_grad()
        criterion(model(x[rows]), y[rows]).backward()
        optimizer.step()
        if number == 5:
            print("begun", flush=True)
        EACH
    print("ended", scope.error is None, flush=True)
    """
)


def script(rounds, prepare="", each=""):
    return SCRIPT.replace("ROUNDS", str(rounds)).replace("PREPARE", prepare).replace("EACH", each)


def start(text, out):
    return subprocess.Popen([sys.executable, "-W", "always", "-c", text, str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check(trace):
    """The rounds of a trace count from 1 without a gap, and each has its rows."""
    rounds = trace["rounds"]
    assert rounds.tolist() == list(range(1, len(rounds) + 1))
    assert len(trace["rows"]) == trace["sizes"].sum() == 32 * len(rounds)
    assert trace["rows"].max() < len(trace["inputs"]) == len(trace["targets"])
    assert np.isfinite(trace["state.0.weight"]).all() and len(trace["state.0.weight"]) == len(rounds)
    return len(rounds)


def test_a_process_that_is_killed_leaves_its_rounds_up_to_the_last_shard(tmp_path, recorded):
    random.seed(0)
    text = script(10**9).replace("scope = ", "from taylorscope import _watch; _watch.SHARD_SECONDS = 0.05; scope = ")
    # One process after the other, two at a time: most of their time is that of importing torch.
    processes = [start(text, tmp_path / str(number)) for number in range(2)]
    lengths = []
    for number in range(20):
        process = processes[number]
        if number + 2 < 20:
            processes.append(start(text, tmp_path / str(number + 2)))
        assert process.stdout.readline() == "begun\n", process.stderr.read()
        time.sleep(random.uniform(0.2, 0.8))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.communicate()
        lengths.append(check(recorded(tmp_path / str(number) / "trace")))
    assert min(lengths) > 0 and max(lengths) > 20, lengths


def test_ctrl_c_and_errors_leave_a_closed_trace(tmp_path, recorded):
    for name, each in (("signal", "if number == 20: import os, signal; os.kill(os.getpid(), signal.SIGINT)"), ("error", "if number == 20: raise RuntimeError")):
        process = start(script(100, each=each), tmp_path / name)
        process.communicate()
        assert process.returncode != 0
        trace = recorded(tmp_path / name / "trace")
        assert check(trace) == 21
        assert trace.manifest["complete"] is False and trace.manifest["rounds"] == 21


@pytest.mark.skipif(sys.platform == "win32", reason="limits of the size of files")
def test_a_full_disk_stops_the_recording_and_not_the_training(tmp_path, recorded):
    # A limit of the size of files is to the writer what a full disk is.
    prepare = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); from taylorscope import _watch; _watch.SHARD_SECONDS = 0.2"
    process = start(script(3000, prepare), tmp_path)
    said, warned = process.communicate()
    assert process.returncode == 0 and said.endswith("ended False\n"), (said, warned)
    assert warned.count("taylorscope: recording ended") == 1 and "training goes on" in warned, warned


def test_a_folder_that_cannot_be_written_is_an_error_of_the_call_or_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    process = start(script(10), tmp_path / "file" / "run")
    _, warned = process.communicate()
    assert process.returncode != 0 and "NotADirectoryError" in warned
    (tmp_path / "run" / "trace").mkdir(parents=True)
    (tmp_path / "run" / "trace" / "thesis.tex").write_text("precious")
    process = start(script(10), tmp_path / "run")
    said, warned = process.communicate()
    assert process.returncode == 0 and said.endswith("ended False\n") and "thesis.tex" in warned
    assert os.listdir(tmp_path / "run" / "trace") == ["thesis.tex"]
