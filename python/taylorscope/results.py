"""Results: tables, figures and pages of runs, from the command line or from Python."""

from __future__ import annotations

import csv
import html
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from taylorscope import _folders

# Columns of whole numbers, which may have empty cells; of words; of switches. All others are real numbers.
_WHOLE = {
    "round", "epoch", "layer", "neuron", "rounds", "dimension", "iterations", "slope_points", "min_hamming", "previous_hamming", "bits",
    "switches", "rank",
}  # fmt: skip
_WORDS = {"scale", "comparator", "module", "name"}
_SWITCHES = {"attained", "dead"}

#: The tables that a run may have.
TABLES = ("rounds", "epochs", "validation", "regret", "units", "novelty", "neurons", "pool_novelty", "pool_neurons")


def read(folder: str | os.PathLike[str]) -> Run:
    """The results in a folder: a run directory of the command line, one of its optimizers' folders, or what `watch` left.

    Raises `FileNotFoundError` if there are none.
    """
    path = Path(folder)
    if not (path / "summary.json").exists():
        if (path / _folders.ANALYSIS / "summary.json").exists():
            path = path / _folders.ANALYSIS
        elif (path.parent / "summary.json").exists() and (path / "rounds.csv").exists():
            return read(path.parent)[path.name]
        else:
            raise FileNotFoundError(f"{path} holds no results: it has no summary.json")
    summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
    if summary.get("format", 1) > 1:
        raise ValueError(f"{path} has results of format {summary['format']}; get a newer taylorscope")
    return Run(path, summary)


@dataclass
class Run:
    """The results of a run. Of a run with several optimizers, `run["adam"]` has those of one, and tables say of which a row is.

    Tables are pandas data frames where pandas is installed (columns of whole numbers are `Int64`, so that cells may be empty), else
    dictionaries of NumPy arrays (whole numbers with empty cells are reals with NaN). docs/formats.md has the columns.
    """

    #: The run directory.
    folder: Path
    #: What `summary.json` says.
    summary: dict[str, Any]
    label: str | None = None
    _tables: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def optimizers(self) -> list[dict[str, Any]]:
        """What the summary says of each optimizer."""
        every: list[dict[str, Any]] = self.summary["optimizers"]
        return [entry for entry in every if self.label in (None, entry["label"])]

    def __getitem__(self, label: str) -> Run:
        labels = [entry["label"] for entry in self.summary["optimizers"]]
        if label not in labels:
            raise KeyError(f"{label!r} is none of the run's optimizers: {', '.join(labels)}")
        return Run(self.folder, self.summary, label)

    def __iter__(self) -> Iterator[Run]:
        return (self[entry["label"]] for entry in self.optimizers)

    def __len__(self) -> int:
        return len(self.optimizers)

    def table(self, name: str) -> Any:
        """One of `TABLES`, empty if the run does not have it."""
        if name not in TABLES:
            raise KeyError(f"{name!r} is no table; there are {', '.join(TABLES)}")
        if name not in self._tables:
            self._tables[name] = _frame(self._columns(name))
        return self._tables[name]

    def _columns(self, name: str) -> dict[str, list[str]]:
        columns: dict[str, list[str]] = {}
        several = len(self.optimizers) > 1
        for entry in self.optimizers:
            path = self.folder / entry["label"] / f"{name}.csv"
            if not path.exists():
                continue
            with path.open(newline="", encoding="utf-8") as file:
                rows = csv.reader(file)
                head = next(rows, [])
                if several:
                    head = ["optimizer", *head]
                for column in head:
                    columns.setdefault(column, [])
                for row in rows:
                    for column, cell in zip(head, [entry["label"], *row] if several else row, strict=True):
                        columns[column].append(cell)
        return columns

    @property
    def rounds(self) -> Any:
        """The loss of each round, before its update."""
        return self.table("rounds")

    @property
    def epochs(self) -> Any:
        """Losses and accuracies after each epoch, of runs that were trained by the program."""
        return self.table("epochs")

    @property
    def regret(self) -> Any:
        """Taylor optimum and regret of every unit for every prefix of the run, with gaps."""
        return self.table("regret")

    @property
    def units(self) -> Any:
        """The same for the longest prefix, with more about each unit."""
        return self.table("units")

    @property
    def novelty(self) -> Any:
        """How far each activation configuration is from those before."""
        return self.table("novelty")

    @property
    def neurons(self) -> Any:
        """Switches, rank and volumes of each hidden neuron."""
        return self.table("neurons")

    @property
    def layers(self) -> list[str]:
        """What the numbers in the columns `layer` stand for, in words."""
        return list(self.summary["layers"])

    def figure(self, name: str = "regret") -> Figure:
        """A figure of the page by its name; `run.figures` has the names."""
        path = self.folder / "figures" / f"{name}.svg"
        if not path.exists():
            raise KeyError(f"the run has no figure {name!r}; there are {', '.join(self.figures) or 'none'}")
        return Figure(path)

    @property
    def figures(self) -> list[str]:
        """The names of the figures."""
        return sorted(path.stem for path in (self.folder / "figures").glob("*.svg"))

    def report(self, show: bool = False) -> Path:
        """The page, made anew if it is missing; `show` opens it in a browser."""
        path = self.folder / "report.html"
        if not path.exists():
            _program(["report", str(self.folder)])
        if show:
            import webbrowser

            webbrowser.open(path.resolve().as_uri())
        return path

    def headline(self) -> list[dict[str, Any]]:
        """For each optimizer: mean loss, Taylor optimum, gap and regret of the coarsest scale that was analysed, over its longest prefix.

        With several units at that scale, their mean.
        """
        found = []
        for entry in self.optimizers:
            rows = _rows(self[entry["label"]]._columns("units"))
            rows = [row for row in rows if row["comparator"] == self.summary["headline"]]
            scales = ("network", "layer", "module", "neuron")
            scale = next((scale for scale in scales if any(row["scale"] == scale for row in rows)), None)
            rows = [row for row in rows if row["scale"] == scale]
            numbers: dict[str, Any] = {"optimizer": entry["label"], "scale": scale, "final_loss": entry.get("last_loss")}
            for name in ("mean_loss", "taylor_optimum", "gap", "mean_regret"):
                numbers[name] = sum(float(row[name]) for row in rows) / len(rows) if rows else None
            found.append(numbers)
        return found

    def log_to(self, writer: Any, prefix: str = "taylorscope") -> None:
        """Writes losses, regret and Taylor optimum of the coarsest scale, and novelty as scalars to TensorBoard's `SummaryWriter` or to a
        run of Weights & Biases (what has `add_scalar`, or `log`). Steps are rounds."""
        if hasattr(writer, "add_scalar"):
            for name, step, value in self._scalars(prefix):
                writer.add_scalar(name, value, step)
        elif hasattr(writer, "log"):
            # Steps of a W&B run only grow, so that rounds are a metric of their own.
            for name, step, value in self._scalars(prefix):
                writer.log({name: value, f"{prefix}/round": step})
        else:
            raise TypeError(f"{type(writer).__name__} has neither add_scalar, as SummaryWriter has, nor log, as a W&B run has")

    def _scalars(self, prefix: str) -> Iterator[tuple[str, int, float]]:
        for one in self:
            of = f"{prefix}/{one.label}" if len(self) > 1 else prefix
            for row in _rows(one._columns("rounds")):
                yield f"{of}/loss", int(row["round"]), float(row["loss"])
            rows = [row for row in _rows(one._columns("regret")) if row["comparator"] == self.summary["headline"] and not row["layer"]]
            for row in rows:
                for column in ("mean_regret", "taylor_optimum", "gap"):
                    yield f"{of}/{column}", int(row["rounds"]), float(row[column])
            for row in _rows(one._columns("novelty")):
                if row["min_hamming"]:
                    yield f"{of}/novelty", int(row["round"]), int(row["min_hamming"]) / max(1, int(row["bits"]))

    def __repr__(self) -> str:
        lines = [f"{self.summary['name']}: {self.folder}"]
        for row in self.headline():
            numbers = ", ".join(f"{name} {row[name]:.4g}" for name in ("mean_loss", "taylor_optimum", "gap", "mean_regret") if row[name] is not None)
            lines.append(f"  {row['optimizer']} ({row['scale']}): {numbers}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = ("optimizer", "scale", "final_loss", "mean_loss", "taylor_optimum", "gap", "mean_regret")
        cells = [[row[name] for name in head] for row in self.headline()]
        doubts = [doubt for entry in self.optimizers for doubt in entry.get("warnings", [])]
        body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in cells)
        names = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in head)
        main = next((name for name in ("split", "regret", "training") if name in self.figures), None)
        figure = self.figure(main)._repr_html_() if main else ""
        notes = "".join(f"<li>{html.escape(doubt)}</li>" for doubt in doubts)
        title = html.escape(str(self.summary["name"]))
        link = html.escape((self.folder / "report.html").resolve().as_uri())
        return (
            f"<div><b>{title}</b> <a href='{link}'>report</a><table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"
            f"{f'<ul>{notes}</ul>' if notes else ''}{figure}</div>"
        )


@dataclass
class Figure:
    """A figure of a run; shows itself in a notebook."""

    path: Path

    @property
    def svg(self) -> str:
        """The figure as SVG."""
        return self.path.read_text(encoding="utf-8")

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        return self.svg


def compare(*runs: Run | str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Path:
    """A page that shows several runs side by side, in `out` or the first free one of `runs/comparison`, ... Returns the page's path."""
    if len(runs) < 2:
        raise ValueError("a comparison takes at least two runs")
    folders = [run.folder if isinstance(run, Run) else read(run).folder for run in runs]
    arguments = ["report", *map(str, folders)]
    if out is not None:
        arguments += ["--out", os.fspath(out)]
    return Path(_program(arguments)["report"])


def _program(arguments: list[str]) -> dict[str, Any]:
    """Runs a quick command of the program."""
    done = subprocess.run([sys.executable, "-m", "taylorscope", *arguments, "--json", "--quiet"], capture_output=True, text=True, encoding="utf-8")
    answer: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {}
    if done.returncode != 0:
        raise RuntimeError(answer.get("error") or done.stderr.strip())
    return answer


def _rows(columns: dict[str, list[str]]) -> Iterator[dict[str, str]]:
    return (dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))


def _array(name: str, cells: list[str]) -> np.ndarray:
    """A column; empty cells are NaN, in columns of words empty."""
    if name in _WORDS or name == "optimizer":
        return np.array(cells, dtype=object)
    if name in _SWITCHES and all(cells):
        return np.array([cell == "true" for cell in cells])
    if name in _WHOLE and all(cells):
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    return np.array([float(cell) if cell else np.nan for cell in cells])


def _frame(columns: dict[str, list[str]]) -> Any:
    """A data frame, or a dictionary of arrays without pandas."""
    arrays = {name: _array(name, cells) for name, cells in columns.items()}
    try:
        import pandas
    except ImportError:
        return arrays
    frame = pandas.DataFrame(arrays)
    for name in frame.columns:
        if name in _WHOLE:
            frame[name] = pandas.array([int(cell) if cell else None for cell in columns[name]], dtype="Int64")
    return frame
