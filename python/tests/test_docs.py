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
    assert (tmp_path / "runs/comparison/report.html").exists()
    # What the page says of its own numbers.
    optimum, regret, loss = ({name: run.headline()[0][key] for name, run in names["runs"].items()} for key in ("taylor_optimum", "mean_regret", "mean_loss"))
    assert names["share"] < 0.1 and names["best"] == "momentum"
    assert optimum["momentum"] < 0.9 * optimum["sgd"] and regret["momentum"] > regret["sgd"]
    assert 0.1 < regret["momentum"] / loss["momentum"] < 0.25
