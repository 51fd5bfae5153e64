"""The command line that the package brings, and what it does without other packages."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import taylorscope as ts


def run(*arguments):
    return subprocess.run(arguments, capture_output=True, text=True)


def test_the_command_and_the_module_are_the_program():
    command = Path(sysconfig.get_path("scripts")) / "taylorscope"
    for program in ([str(command)], [sys.executable, "-m", "taylorscope"]):
        assert run(*program, "--version").stdout == f"taylorscope {ts.__version__}\n"
        assert run(*program, "data", "verify", "digits").returncode == 0
        wrong = run(*program, "run", "nonsense", "--json")
        assert wrong.returncode == 2 and '"exit_code":2' in wrong.stdout


def test_what_is_missing_is_named():
    code = "import sys; sys.modules['torch'] = None\nimport taylorscope as ts\nassert ts.read and ts.exploration.novelty\nts.watch"
    failed = run(sys.executable, "-c", code)
    assert failed.returncode == 1 and "taylorscope.watch needs PyTorch: pip install torch" in failed.stderr, failed.stderr
