"""The code of docs/pytorch.md, one block after the other."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "pytorch.md"


def test_the_code_of_the_page_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
    said = capsys.readouterr().out
    assert "% is regret" in said and said.count("optimum") >= 3
    assert (tmp_path / "runs/comparison/report.html").exists() and names["best"] in ("sgd", "momentum", "adam")
    # What the page says of its own numbers: regret dominates.
    assert names["share"] > 0.5, names["share"]
