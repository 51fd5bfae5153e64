"""Phases of an analysis on the terminal, with the time that is left."""

from __future__ import annotations

import sys
import time
from typing import TextIO

__all__ = ["Progress"]


class Progress:
    """Called with `phase`, `note` or `progress`; prints to standard error, the progress only on a terminal."""

    def __init__(self, shown: bool, file: TextIO | None = None) -> None:
        self._file = file or sys.stderr
        self._shown = shown
        self._live = shown and self._file.isatty()
        self._phase, self._begun, self._last = "", 0.0, 0.0

    def __call__(self, kind: str, text: str, done: int, of: int) -> None:
        if not self._shown:
            return
        now = time.monotonic()
        if kind == "phase":
            self.end()
            self._phase, self._begun = text, now
            if not self._live:
                print(text, file=self._file, flush=True)
        elif kind == "note":
            self.end()
            print(text, file=self._file, flush=True)
        elif self._live and done > 0 and now - self._last > 0.2:
            self._last = now
            left = (now - self._begun) * (of - done) / done
            print(f"\r\033[K{self._phase}: {100 * done // max(of, 1)} %, {_duration(left)} left", end="", file=self._file, flush=True)

    def end(self) -> None:
        """Clears the line."""
        if self._live:
            print("\r\033[K", end="", file=self._file, flush=True)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
