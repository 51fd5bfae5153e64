"""Analysis of recorded trainings: by the program's engine, or by products on torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from taylorscope import _folders
from taylorscope.results import Run, read

# glibc gives large blocks back to the system at every call and takes them again, cleared; the program's own allocator does not.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}


class AnalyzeError(RuntimeError):
    """An analysis failed; the message is the program's."""


def analyze(
    trace: Any,
    out: str | os.PathLike[str] | None = None,
    *,
    backend: str = "engine",
    overwrite: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Taylor optimum, regret and exploration of a recorded training.

    trace
        A scope of `watch`, its folder, or the folder of a trace of either format; for the engine also several of one network and dataset.
    out
        The folder of the results; `out/analysis` of the recording unless given.
    backend
        `"engine"`: the program, for models that are lists of layers. `"torch"`: products on torch, for any differentiable model, with
        `model=` and `criterion=` (those of the scope, if one is handed over; see `taylorscope.torch_backend.analyze` for the other settings).
    overwrite
        Whether earlier results in `out` are replaced.
    progress
        Whether the program's progress is shown.
    settings
        For the engine, those of the experiment file's `[regret]` and `[exploration]`: `scales=("network", "layer", "neuron")`,
        `prefixes=10`, `neurons=8`, `window=100`, `max_products=200`, `tolerance=1e-3`, `comparators=("ball",)`, `probe=500`, `every=10`; and
        `rounds` (of the trace, from the first), `loss_tolerance`, `threads`, `memory` (`"8G"`).

    Returns the run (None in processes of `torch.distributed` other than rank 0). Raises `AnalyzeError` with the program's message.
    """
    traces = [_trace(part) for part in (trace if isinstance(trace, list | tuple) else [trace])]
    destination = Path(out) if out is not None else _destination(traces[0])
    if backend == "torch":
        from taylorscope import torch_backend

        settings = _of_scope(trace) | settings
        if "model" not in settings:
            raise TypeError('backend="torch" needs the model that was recorded, with any weights: model=model, and criterion=criterion')
        folder = torch_backend.analyze(traces[0], out=destination, overwrite=overwrite, progress=progress, **settings)
        # Of processes that share the rounds, the first one writes.
        return read(folder) if folder is not None else None  # type: ignore[return-value]
    if backend != "engine":
        raise ValueError(f'backend is {backend!r}; it is "engine" or "torch"')
    if len(traces) == 1:
        _refuse(traces[0])
    arguments = ["analyze", *map(str, traces), "--out", str(destination), *_flags(settings, _probe(trace))]
    if overwrite:
        arguments.append("--overwrite")
    _run(arguments, progress)
    return read(destination)


def _trace(source: Any) -> Path:
    """The folder of a trace, from a scope or a path."""
    if isinstance(source, str | os.PathLike):
        folder = _folders.trace_of(source)
    else:
        folder = source.trace
    if not (folder / "manifest.json").exists():
        raise AnalyzeError(f"{folder} holds no trace: it has no manifest.json")
    return folder


def _of_scope(source: Any) -> dict[str, Any]:
    """Model and loss of a scope, which the torch backend needs."""
    if not hasattr(source, "loss_function"):
        return {}
    return {"model": source.model, "criterion": source.loss_function}


def _destination(trace: Path) -> Path:
    """Where the results of a trace go: beside the trace of a recording, else to the first free folder of `runs/TRACE`, ..."""
    if trace.name == _folders.TRACE:
        return trace.parent / _folders.ANALYSIS
    return _folders.first_free(trace.resolve().name)


def _refuse(trace: Path) -> None:
    """Fails if the trace is that of a model which is no list of layers."""
    try:
        manifest = json.loads((trace / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # The program says what is wrong.
    if manifest.get("format") == 2 and "layers" not in manifest:
        raise AnalyzeError(
            f"the engine does not know this network: {manifest.get('conversion', 'the trace has no layers')}. "
            'ts.analyze(..., backend="torch", model=model, criterion=criterion) analyses it by products on torch'
        )


def _probe(source: Any) -> int | None:
    probe = getattr(source, "probe", None)
    return probe if isinstance(probe, int) else None


_EXPLORATION = {"probe", "every", "pool_winners"}
_FLAGS = {"rounds", "loss_tolerance", "threads", "memory"}


def _flags(settings: dict[str, Any], probe: int | None) -> list[str]:
    """Settings as flags of the command line."""
    if probe is not None:
        settings = {"probe": probe, **settings}
    flags = []
    for name, value in settings.items():
        if value is None:
            continue
        if name in _FLAGS:
            flags += [f"--{name.replace('_', '-')}", str(value)]
            continue
        section = "exploration" if name in _EXPLORATION else "regret"
        flags += ["--set", f"{section}.{name}={_toml(value)}"]
    return flags


def _toml(value: Any) -> str:
    if isinstance(value, str | bool):
        return json.dumps(value)
    if isinstance(value, Iterable):
        return f"[{', '.join(_toml(part) for part in value)}]"
    return repr(value)


def _run(arguments: list[str], progress: bool) -> dict[str, Any]:
    """Runs the program, shows its progress, and gives what it answers."""
    command = [sys.executable, "-m", "taylorscope", *arguments, "--json"]
    environment = {**_KEEP_MEMORY, **os.environ}
    if not progress:
        command.append("--quiet")
    shown: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            for line in process.stderr:
                shown.append(line.rstrip("\n"))
                if progress and not line.startswith("error:"):
                    print(shown[-1], file=sys.stderr)
            answer = process.stdout.read()
            code = process.wait()
        except BaseException:
            # Ctrl-C reaches the program as well; it writes what it has.
            process.wait()
            raise
    try:
        result = json.loads(answer)
    except ValueError:
        result = {}
    if not isinstance(result, dict) or code != 0:
        message = result.get("error") if isinstance(result, dict) else None
        message = message or next((line.removeprefix("error: ") for line in shown if line.startswith("error:")), None)
        failed = [f"{entry['label']}: {entry['message']}" for entry in result.get("optimizers", []) if entry.get("message")]
        raise AnalyzeError(message or "; ".join(failed) or f"the program ended with exit code {code}")
    return result
