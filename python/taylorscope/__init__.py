"""An instrument for the training dynamics of neural networks: how much of the loss is regret, how much is the Taylor optimum, and how
widely an optimizer explores.

    import taylorscope as ts

    scope = ts.watch(model, optimizer, criterion, out="runs/mine")
    ...                                                                # the training loop, as it is
    run = scope.close()

Names are imported when they are used, so PyTorch and pandas are needed only by what uses them.
"""

from __future__ import annotations

import importlib
from typing import Any

from taylorscope._native import VERSION as __version__

# Where each public name lives; modules that are public themselves have the value None.
_NAMES: dict[str, str | None] = {
    "AnalyzeError": "taylorscope.analysis",
    "Figure": "taylorscope.results",
    "Kinks": "taylorscope.landscape",
    "Minimum": "taylorscope.search",
    "NotRecordable": "taylorscope._tensors",
    "Run": "taylorscope.results",
    "Scope": "taylorscope._watch",
    "Trace": "taylorscope.reader",
    "TraceError": "taylorscope.reader",
    "analyze": "taylorscope.analysis",
    "callbacks": None,
    "compare": "taylorscope.results",
    "exploration": None,
    "kinks": "taylorscope.landscape",
    "minimize": "taylorscope.search",
    "read": "taylorscope.results",
    "watch": "taylorscope._watch",
}

__all__ = ["__version__", *_NAMES]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'taylorscope' has no attribute {name!r}")
    home = _NAMES[name]
    if home is None:
        return importlib.import_module(f"taylorscope.{name}")
    try:
        value = getattr(importlib.import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name == "torch":
            raise ModuleNotFoundError(f"taylorscope.{name} needs PyTorch: pip install torch", name="torch") from error
        raise
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
