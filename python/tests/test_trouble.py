"""What a trace is after trouble: killed processes, full disks, Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import taylorscope as ts

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


def run(text, *arguments, seconds=120):
    """A script in a process group of its own, of which nothing is left when it returns: exit code, output, errors."""
    command = [sys.executable, "-W", "always", "-c", text, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        said, warned = process.communicate(timeout=seconds)
        return process.returncode, said, warned
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def check(trace):
    """The rounds of a trace count from 1 without a gap, and each has its rows."""
    rounds = trace["rounds"]
    assert rounds.tolist() == list(range(1, len(rounds) + 1))
    assert len(trace["rows"]) == trace["sizes"].sum() == 32 * len(rounds)
    assert trace["rows"].max() < len(trace["inputs"]) == len(trace["targets"])
    assert np.isfinite(trace["state.0.weight"]).all() and len(trace["state.0.weight"]) == len(rounds)
    return len(rounds)


# Forks one training after the other, so that torch is imported once, and kills each at a random moment.
KILLS = """
import os, random, select, signal, sys, time
import torch, taylorscope
from taylorscope import _watch
_watch.SHARD_SECONDS = 0.05
training, folder, count = compile(sys.argv[1], "training", "exec"), sys.argv[2], int(sys.argv[3])
random.seed(0)
for number in range(count):
    said, to_say = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(to_say, 1)
        sys.argv = ["training", os.path.join(folder, str(number))]
        try:
            exec(training, {})
        finally:
            os._exit(1)
    assert select.select([said], [], [], 60)[0], "the training does not begin"
    time.sleep(random.uniform(0, 0.5))
    os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, "it had ended before"
    os.close(said)
    os.close(to_say)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_process_that_is_killed_leaves_its_rounds_up_to_the_last_shard(tmp_path, recorded):
    kills = 20
    code, _, warned = run(KILLS, script(10**6), tmp_path, kills)
    assert code == 0, warned
    lengths = []
    for number in range(kills):
        folder = tmp_path / str(number) / "trace"
        if not (folder / "shard-00000.safetensors").exists():
            lengths.append(0)
            with pytest.raises(ts.AnalyzeError, match="shard"):
                ts.analyze(folder, progress=False)
            continue
        lengths.append(check(recorded(folder)))
        found = ts.analyze(folder, progress=False, rounds=min(lengths[-1], 10), scales=("network",), prefixes=2, probe=20)
        assert len(found.rounds) == min(lengths[-1], 10) and len(found.units)
    assert lengths.count(0) < 10 and max(lengths) > 20, lengths


def test_ctrl_c_and_errors_leave_a_closed_trace(tmp_path, recorded):
    for name, each in (("signal", "if number == 20: import os, signal; os.kill(os.getpid(), signal.SIGINT)"), ("error", "if number == 20: raise RuntimeError")):
        code, _, _ = run(script(100, each=each), tmp_path / name)
        assert code != 0
        trace = recorded(tmp_path / name / "trace")
        assert check(trace) == 21
        assert trace.manifest["complete"] is False and trace.manifest["rounds"] == 21


@pytest.mark.skipif(sys.platform == "win32", reason="limits of the size of files")
def test_a_full_disk_stops_the_recording_and_not_the_training(tmp_path, recorded):
    # A limit of the size of files is to the writer what a full disk is.
    prepare = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); from taylorscope import _watch; _watch.SHARD_SECONDS = 0.2"
    code, said, warned = run(script(3000, prepare), tmp_path)
    assert code == 0 and said.endswith("ended False\n"), (said, warned)
    assert warned.count("taylorscope: recording ended") == 1 and "training goes on" in warned, warned


def test_a_folder_that_cannot_be_written_is_an_error_of_the_call_or_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    code, _, warned = run(script(10), tmp_path / "file" / "run")
    assert code != 0 and "NotADirectoryError" in warned
    (tmp_path / "run" / "trace").mkdir(parents=True)
    (tmp_path / "run" / "trace" / "thesis.tex").write_text("precious")
    code, said, warned = run(script(10), tmp_path / "run")
    assert code == 0 and said.endswith("ended False\n") and "thesis.tex" in warned
    assert os.listdir(tmp_path / "run" / "trace") == ["thesis.tex"]
