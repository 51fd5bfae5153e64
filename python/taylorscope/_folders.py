"""Where a recording and its analysis lie."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

TRACE = "trace"
ANALYSIS = "analysis"


def claim(out: str | os.PathLike[str] | None, name: str, overwrite: bool) -> Path:
    """The folder of a recording: the one that is asked for, or the first free one of `runs/NAME`, `runs/NAME-2`, ...

    Fails if there is a trace that must not be replaced.
    """
    folder = first_free(name) if out is None else Path(out)
    if not overwrite and (folder / TRACE / "manifest.json").exists():
        raise ValueError(f"{folder} holds a trace; choose another folder, or replace it by overwrite=True")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def trace_of(folder: str | os.PathLike[str]) -> Path:
    """The trace in the folder of a recording, or the folder itself where it is a trace."""
    path = Path(folder)
    return path / TRACE if not (path / "manifest.json").exists() and (path / TRACE / "manifest.json").exists() else path


def first_free(name: str) -> Path:
    """The first of `runs/NAME`, `runs/NAME-2`, ... that does not exist."""
    numbers = ("" if number == 1 else f"-{number}" for number in itertools.count(1))
    return next(path for path in (Path("runs") / (name + number) for number in numbers) if not path.exists())
