"""Programs that are measured: each runs all the time and works when it is told to, one at a time."""

import json
import os
import statistics
import subprocess
import time

# A pause before each measurement, in which the threads of the side before come to rest.
REST = 0.25


class Side:
    """A program that answers every line by a line of JSON: see `programs/worker.py`."""

    def __init__(self, command, log, environment=None):
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.command = command
        self.peak = 0
        self._read()

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SideError(f"{self.command[0]} ended early")
        reply = json.loads(line)
        if "error" in reply:
            raise SideError(reply["error"])
        self.peak = max(self.peak, reply["peak_bytes"])
        return reply

    def ask(self, command):
        """Runs a command; returns seconds and facts."""
        time.sleep(REST)
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class SideError(Exception):
    """A program failed: what it said."""


class Series:
    """The measurements of one thing."""

    def __init__(self):
        self.seconds, self.facts, self.peak = [], [], 0

    def add(self, reply, side):
        self.seconds.append(reply["seconds"])
        self.facts.append(reply["facts"])
        self.peak = max(self.peak, side.peak)

    def kept(self):
        """What is stored: every time, and the facts of the last run."""
        return {"seconds": self.seconds, "facts": self.facts[-1], "peak_bytes": self.peak}


def alternate(tasks, repeats, warm_up=1):
    """Measures `tasks`, a dict from name to (side, command), one after the other, `repeats` times around; the first rounds, which
    warm up, are not kept."""
    series = {name: Series() for name in tasks}
    for around in range(warm_up + repeats):
        for name, (side, command) in tasks.items():
            reply = side.ask(command)
            if around >= warm_up:
                series[name].add(reply, side)
    return series


def quartiles(values):
    """Lower quartile, median, upper quartile."""
    if len(values) == 1:
        return values * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def ratios(ours, theirs):
    """Quartiles of the ratio of runs that followed each other."""
    return quartiles([a / b for a, b in zip(ours, theirs)])
