"""Recomputes a run's tables from its trace, by other means, and compares.

    python tests/oracle/oracle.py RUN                 a run made with --keep-trace
    python tests/oracle/oracle.py TRACE TABLES        a trace of either format and the folder with its tables

Networks are dense or convolutional. A run whose regret was analysed on a sample of rounds says so in its experiment.toml; for
the second form give --sample. Needs numpy and scipy. Taylor optima are recomputed for a random sample of units, by dense linear algebra on
explicit Jacobians in float64; everything else for all rows. Prints the largest deviation of each kind and where it
is, and exits with 1 if any is beyond its tolerance (2 if the input cannot be used).
"""

import argparse
import bisect
import csv
import json
import sys
import tomllib
from pathlib import Path

import numpy as np

import exploration
from linearize import Round, vector
from optimum import problem
from tracefile import BadTrace, Trace


class Report:
    """Deviations and tolerances, by kind."""

    def __init__(self):
        self.kinds, self.notes = {}, []

    def check(self, kind, deviation, tolerance, where):
        entry = self.kinds.setdefault(kind, {"checked": 0, "failed": 0, "ratio": -1.0, "deviation": 0.0, "where": ""})
        deviation = float(deviation) if np.isfinite(deviation) else np.inf
        ratio = 0.0 if deviation <= 0 else deviation / tolerance if tolerance > 0 else np.inf
        entry["checked"] += 1
        entry["failed"] += ratio > 1
        if ratio > entry["ratio"]:
            entry.update(ratio=ratio, deviation=deviation, where=where)

    def equal(self, kind, ours, oracle, tolerance, where):
        if ours is None or oracle is None:
            self.check(kind, 0.0 if ours is oracle else np.inf, 1.0, where)
        else:
            self.check(kind, abs(ours - oracle), tolerance, where)

    def failed(self):
        return sum(entry["failed"] for entry in self.kinds.values())

    def print(self, title):
        print(f"\n{title}")
        print(f"  {'kind':<39}{'checked':>8}{'failed':>8}{'deviation':>12}{'/ allowed':>11}  worst")
        for kind, e in self.kinds.items():
            where = e["where"] if e["ratio"] > 0 else ""
            print(f"  {kind:<39}{e['checked']:>8}{e['failed']:>8}{e['deviation']:>12.3g}{e['ratio']:>11.3g}  {where}")
        for note in self.notes:
            print(f"  note: {note}")


# --- tables -------------------------------------------------------------------------------------------------------

WORDS = {"scale", "comparator", "attained", "dead"}
INTEGERS = {"round", "epoch", "layer", "neuron", "rounds", "dimension", "iterations", "slope_points", "min_hamming"} | {
    "previous_hamming", "bits", "switches", "rank"
}  # fmt: skip


def cell(name, text):
    if name in WORDS:
        return text
    return None if text == "" else int(text) if name in INTEGERS else float(text)


def table(folder, name):
    """The rows as dictionaries, empty cells as None; no rows when there is no such table."""
    path = folder / name
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [{k: cell(k, v) for k, v in row.items()} for row in csv.DictReader(file)]


def unit_of(trace, row):
    """The row's unit, with the number of its layer among those with weights instead of the layer's index."""
    k = None if row["layer"] is None else trace.indices.index(row["layer"])
    return row["scale"], k, row["neuron"]


def label(row):
    place = "/".join(str(row[c]) for c in ("layer", "neuron") if row.get(c) is not None)
    parts = [row.get("scale"), place, row.get("comparator"), f"N={row['rounds']}" if "rounds" in row else ""]
    return " ".join(p for p in parts if p)


# --- one pass over the rounds -------------------------------------------------------------------------------------


class Norms:
    """Running maxima and sums of every unit: `of(unit)` gives displacement, largest gradient, sum of its squares.

    `farthest(unit)` gives the largest displacement of a coordinate, `coordinates(unit)` the sum of the coordinates' norms
    over the rounds, `sum_j |g_{1:N,j}|`.
    """

    def __init__(self, start):
        self.start = start
        self.neurons = [np.zeros((3, len(w))) for w in start]
        self.layers = np.zeros((3, len(start)))
        self.network = np.zeros(3)
        self.apart = [np.zeros_like(w) for w in start]
        self.squares = [np.zeros_like(w) for w in start]

    def add(self, weights, gradient):
        for apart, kept, w, w1, g in zip(self.apart, self.squares, weights, self.start, gradient):
            np.maximum(apart, np.abs(w - w1), out=apart)
            kept += g**2
        moved = [np.sum((w - w1) ** 2, 1) for w, w1 in zip(weights, self.start)]
        squares = [np.sum(g**2, 1) for g in gradient]
        for kept, m, g in zip(self.neurons, moved, squares):
            self._join(kept, m, g)
        m, g = np.array([x.sum() for x in moved]), np.array([x.sum() for x in squares])
        self._join(self.layers, m, g)
        self._join(self.network, m.sum(), g.sum())

    @staticmethod
    def _join(kept, moved, squares):
        kept[0] = np.maximum(kept[0], np.sqrt(moved))
        kept[1] = np.maximum(kept[1], np.sqrt(squares))
        kept[2] = kept[2] + squares

    def snapshot(self):
        neurons, layers, network = [n.copy() for n in self.neurons], self.layers.copy(), self.network.copy()
        farthest = [apart.max(1) for apart in self.apart]
        coordinates = [np.sqrt(squares).sum(1) for squares in self.squares]

        def of(unit):
            scale, k, a = unit
            return network if scale == "network" else layers[:, k] if a is None else neurons[k][:, a]

        def over(kept, unit, join):
            scale, k, a = unit
            return join([join(part) for part in kept]) if scale == "network" else join(kept[k]) if a is None else kept[k][a]

        of.farthest = lambda unit: over(farthest, unit, np.max)
        of.coordinates = lambda unit: over(coordinates, unit, np.sum)
        return of


class Oracle:
    def __init__(self, trace, tables, arguments):
        self.trace, self.tables, self.arguments = trace, tables, arguments
        count, window = arguments.sample or (trace.rounds, trace.rounds)
        # Rounds that were analysed; those of a sample are evenly spaced, from the first.
        self.sampled = count < window
        self.analysed = [1 + i * window // count for i in range(count)] if self.sampled else range(1, trace.rounds + 1)
        self.report = Report()
        for name in ("rounds.csv", "units.csv", "novelty.csv", "neurons.csv"):
            if not (tables / name).exists():
                self.report.notes.append(f"{name} is missing: not checked")
        self.regret = table(tables, "regret.csv")
        if not self.regret:
            raise BadTrace(f"{tables}: regret.csv is missing or has no rows")
        self.random = np.random.default_rng(arguments.seed)
        self.rounding = 1e-6 if trace.single else arguments.rounding

    def run(self):
        self.choose()
        self.walk()
        for row in self.regret:
            self.check_row(row)
        self.check_losses()
        self.check_units()
        self.check_exploration()
        return self.report

    # Which optima to recompute: a sample of units at each scale, a few of their prefixes, as far as dense work goes.

    def choose(self):
        rows = {}
        for row in self.regret:
            rows.setdefault(unit_of(self.trace, row), []).append(row)
        self.chosen = {}
        for scale in ("neuron", "layer", "network"):
            units = sorted((u for u in rows if u[0] == scale), key=str)
            skipped = 0
            for i in self.random.permutation(len(units)):
                if sum(u[0] == scale for u in self.chosen) == self.arguments.units:
                    break
                longest = self.affordable(units[i])
                prefixes = sorted({r["rounds"] for r in rows[units[i]] if self.length(r["rounds"]) <= longest})
                if not prefixes:
                    skipped += 1
                    continue
                spread = np.linspace(0, len(prefixes) - 1, min(self.arguments.prefixes, len(prefixes)))
                kept = {prefixes[int(round(p))] for p in spread}
                self.chosen[units[i]] = [r for r in rows[units[i]] if r["rounds"] in kept]
            if skipped:
                self.report.notes.append(f"{skipped} units at {scale} scale are too large for dense linear algebra")

    def length(self, n):
        """How many of the rounds up to n were analysed."""
        return bisect.bisect_right(self.analysed, n)

    def affordable(self, unit):
        """The longest prefix whose dense solution stays within the limits."""
        scale, k, a = unit
        start = self.trace.state(0)
        dimension = vector(unit, start).size
        outputs, batch = len(start[-1]), max(map(len, self.trace.batches))
        limits = self.arguments
        if dimension > limits.max_dimension:
            return 0
        if self.trace.loss == "cross_entropy":
            entries = batch * outputs * dimension
            return int(min(limits.memory / entries, limits.work / (60 * 2 * entries * dimension)))
        directions = outputs if scale == "network" else min(outputs, 1 if a is not None else len(start[k]))
        return int(limits.work / (4 * batch * directions * dimension**2))

    def walk(self):
        """One pass over the rounds: losses, norms at every prefix of the table, and the chosen optima."""
        trace = self.trace
        start = trace.state(0)
        norms = Norms(start)
        problems = {u: problem(trace.loss, vector(u, start).size) for u in self.chosen}
        last = {u: max(r["rounds"] for r in rows) for u, rows in self.chosen.items()}
        prefixes = {row["rounds"] for row in self.regret}
        self.find_displacements(start)
        analysed = set(self.analysed)
        self.losses, self.snapshots, self.doubts = [], {}, 0
        for n in range(1, trace.rounds + 1):
            linear = Round(trace, n - 1)
            self.losses.append(linear.loss)
            self.doubts += linear.doubts
            norms.add(linear.weights, linear.gradient())
            if n in prefixes:
                self.snapshots[n] = norms.snapshot()
            for unit in [u for u in problems if n <= last[u]]:
                if n in analysed:
                    problems[unit].add(linear, unit, vector(unit, start))
                for row in self.chosen[unit]:
                    if row["rounds"] == n:
                        self.check_optimum(row, unit, problems[unit])
                if n == last[unit]:
                    del problems[unit]
            if self.arguments.verbose and n % 50 == 0:
                print(f"  round {n} of {trace.rounds}", file=sys.stderr)
        self.losses = np.array(self.losses)
        if self.doubts:
            note = f"{self.doubts} states in training lie within f32 rounding of a kink: gaps get the optima's tolerance"
            self.report.notes.append(note)
        chosen = [n - 1 for n in self.analysed if n <= len(self.losses)]
        means = np.cumsum(self.losses[chosen]) / np.arange(1, len(chosen) + 1)
        self.mean = {n + 1: mean for n, mean in zip(chosen, means)}

    def find_displacements(self, start):
        """D_train: how far each unit moves in all the rounds of its rows. Its ball is the same for all its prefixes."""
        longest = {}
        for row in self.regret:
            unit = unit_of(self.trace, row)
            longest[unit] = max(row["rounds"], longest.get(unit, 0))
        norms, snapshots = Norms(start), {}
        still = [np.zeros_like(w) for w in start]
        for n in range(1, max(longest.values()) + 1):
            norms.add(self.trace.state(n - 1), still)
            if n in longest.values():
                snapshots[n] = norms.snapshot()
        self.displacement = {unit: snapshots[n](unit)[0] for unit, n in longest.items()}

    def check_optimum(self, row, unit, exact):
        displacement = self.displacement[unit]
        mean = np.mean(self.losses)
        ours, gap, where = row["taylor_optimum"], row["gap"], label(row)
        kind = f"optimum, {row['scale']}, {row['comparator']}"
        if row["comparator"] == "ball":
            radius = self.arguments.ball_factor * displacement
            self.report.check("distance <= rho", row["distance"] - radius, 1e-4 * radius + 1e-9, where)
        else:
            radius = row["radius"]
        best, v = exact.best(radius)
        own = exact.bound(v, radius)
        rounding = self.arguments.tolerance if self.doubts else self.rounding
        self.report.check("gap of the oracle's optimum", own, 1e-6 * mean, where)
        self.report.check("gap is an upper bound", ours - best - gap * (1 + 1e-6), 1e-10 + rounding * mean, where)
        self.report.check(kind, abs(ours - best), gap + self.arguments.tolerance * mean, where)
        if row["comparator"] == "unconstrained" and self.trace.loss == "mse":
            least, _ = exact.best(np.inf)
            self.report.check(f"{kind}, all V", abs(ours - least), gap + self.arguments.tolerance * mean, where)

    # Everything that needs no optimum of ours.

    def check_row(self, row):
        where, n = label(row), row["rounds"]
        if n not in self.mean:
            self.report.check("prefix ends with an analysed round", np.inf, 1, where)
            return
        unit = unit_of(self.trace, row)
        displacement, (_, gradient, squares) = self.displacement[unit], self.snapshots[n](unit)
        mean = self.mean[n]
        self.report.equal("mean_loss", row["mean_loss"], mean, 1e-5 * mean, where)
        difference = row["mean_loss"] - row["taylor_optimum"]
        self.report.equal("mean_regret = loss - optimum", row["mean_regret"], difference, 1e-9 * mean, where)
        self.report.check("gap >= 0", -row["gap"], 1e-300, where)

        factor = self.arguments.ball_factor
        ball = factor * displacement
        # The diameter of the ball comparator, for both: the bound's setting does not depend on the comparator.
        zinkevich = 1.5 * gradient * 2 * ball / np.sqrt(n)
        kind = f"bound_zinkevich, {row['comparator']}"
        self.report.equal(kind, row["bound_zinkevich"], zinkevich, 2e-3 * zinkevich + 1e-9, where)
        if row["comparator"] == "ball":
            self.report.equal("radius", row["radius"], ball, 1e-4 * ball + 1e-9, where)
        else:
            # A point that a search of another prefix found may be nearer than that of the row's own search.
            least = 2 * max(row["distance"], displacement)
            self.report.check("radius, unconstrained", least - row["radius"], 1e-4 * least + 1e-9, where)

        optimizer = self.trace.manifest["optimizer"]
        name, eta = optimizer["name"], optimizer["learning_rate"]
        constant = not optimizer.get("schedule")
        # A bound on the regret of all rounds says nothing certain about that of a sample.
        whole = not (self.sampled and n > self.analysed[0])
        sgd = adagrad = None
        if name == "sgd" and constant and not optimizer.get("momentum") and whole:
            sgd = row["distance"] ** 2 / (2 * eta * n) + eta * squares / (2 * n)
        if name == "adagrad" and constant and whole:
            far = self.snapshots[n].farthest(unit) + row["distance"]
            adagrad = (far**2 / (2 * eta) + eta) * self.snapshots[n].coordinates(unit) / n
        for kind, bound in (("bound_sgd", sgd), ("bound_adagrad", adagrad)):
            self.report.equal(kind, row[kind], bound, 2e-3 * (bound or 0) + 1e-9, where)
            if bound is not None and row[kind] is not None:
                excess = row["mean_regret"] - row[kind]
                self.report.check(f"regret <= {kind}", excess, 1e-9 + self.arguments.tolerance * mean, where)

    def check_losses(self):
        mean = self.losses.mean()
        rounds = table(self.tables, "rounds.csv")
        if rounds:
            self.report.equal("number of rows in rounds.csv", len(rounds), self.trace.rounds, 0.5, "")
        for row in rounds:
            n = row["round"]
            if n <= self.trace.rounds:
                oracle = self.losses[n - 1]
                self.report.equal("rounds.csv loss", row["loss"], oracle, 1e-5 * (oracle + mean), f"round {n}")
        if self.trace.recorded is not None:
            for n, (given, oracle) in enumerate(zip(self.trace.recorded, self.losses), 1):
                self.report.equal("recorded losses", given, oracle, 1e-5 * (oracle + mean), f"round {n}")

    def check_units(self):
        longest = {}
        points = {}
        for row in self.regret:
            key = (unit_of(self.trace, row), row["comparator"])
            points.setdefault(key, []).append((row["rounds"], row["mean_regret"]))
            if key not in longest or row["rounds"] > longest[key]["rounds"]:
                longest[key] = row
        start = self.trace.state(0)
        units = table(self.tables, "units.csv")
        if units:
            self.report.equal("number of rows in units.csv", len(units), len(longest), 0.5, "")
        for row in units:
            unit, where = unit_of(self.trace, row), label(row)
            key = (unit, row["comparator"])
            if key not in longest:
                self.report.check("unit has prefixes", np.inf, 1, where)
                continue
            displacement, gradient, _ = self.snapshots[longest[key]["rounds"]](unit)
            self.report.equal("dimension", row["dimension"], vector(unit, start).size, 0.5, where)
            self.report.equal("displacement", row["displacement"], displacement, 1e-4 * displacement + 1e-9, where)
            self.report.equal("gradient_bound", row["gradient_bound"], gradient, 1e-3 * gradient + 1e-12, where)
            for name in ("mean_loss", "taylor_optimum", "mean_regret", "gap", "distance", "radius"):
                same = longest[key][name]
                self.report.equal("units.csv = longest prefix", row[name], same, 1e-9 * abs(same) + 1e-300, where)
            slope, used = fitted_slope(points[key])
            self.report.equal("slope_points", row["slope_points"], used, 0.5, where)
            self.report.equal("slope", row["slope"], slope, 1e-6 * (1 + abs(slope or 0)), where)

    def check_exploration(self):
        trace = self.trace
        self.check_configurations("novelty.csv", "neurons.csv", trace.indices, exploration.configurations)
        self.check_configurations("pool_novelty.csv", "pool_neurons.csv", trace.pools, exploration.winners)

    def check_configurations(self, novelty_name, neurons_name, layers, configurations):
        novelty, neurons = table(self.tables, novelty_name), table(self.tables, neurons_name)
        if not novelty:
            return
        rounds = [row["round"] for row in novelty]
        if max(rounds) >= self.trace.states:
            note = f"{novelty_name} goes to round {max(rounds)}, the trace has {self.trace.states} states"
            self.report.notes.append(note)
            return
        active, doubtful = configurations(self.trace, rounds, self.probe())
        doubts = sum(d.sum((1, 2)) for d in doubtful)
        nearest, previous, bits = exploration.novelty(active)
        for i, row in enumerate(novelty):
            slack, where = 0.5 + doubts[i] + doubts[:i].max(initial=0), f"{novelty_name} round {row['round']}"
            self.report.equal("min_hamming", row["min_hamming"], nearest[i], slack, where)
            slack = 0.5 + doubts[i] + (doubts[i - 1] if i else 0)
            self.report.equal("previous_hamming", row["previous_hamming"], previous[i], slack, where)
            self.report.equal("bits", row["bits"], bits, 0.5, where)
        self.check_neurons(neurons_name, neurons, layers, active, doubtful)

    def check_neurons(self, name, neurons, layers, active, doubtful):
        count = len(active[0])
        work = sum(a.size for a in active) * count
        spectra = set(range(len(neurons)))
        if work > 1e11:
            spectra = set(self.random.permutation(len(neurons))[: self.arguments.units].tolist())
        uncertain = 0
        for i, row in enumerate(neurons):
            k, where = layers.index(row["layer"]), label(row)
            a, d = active[k][:, :, row["neuron"]], doubtful[k][:, :, row["neuron"]]
            doubts = d.sum()
            self.report.equal("switches", row["switches"], int((a[1:] != a[:-1]).sum()), 0.5 + 2 * doubts, where)
            slack = 1e-9 + doubts / a.size
            self.report.equal("active_fraction", row["active_fraction"], a.mean(), slack, where)
            # No gradient passes on the negative side of a ReLU alone; channels of a pool are never dead.
            slopes = self.trace.blocks[self.trace.indices.index(row["layer"])].slopes if name == "neurons.csv" else None
            dead = slopes is not None and slopes[0] == 0 and not a[-1].any()
            right = (row["dead"] == "true") == dead
            self.report.check("dead", 0 if right else 1, 0.5 + d[-1].any(), where)
            if doubts:
                uncertain += 1
            elif i in spectra:
                rank, volume, determinant = exploration.spectrum(a)
                self.report.equal("rank", row["rank"], rank, 0.5, where)
                self.report.equal("log_volume", row["log_volume"], volume, 1e-6 * (1 + abs(volume)), where)
                self.report.equal("log_det", row["log_det"], determinant, 1e-8 * (1 + abs(determinant)), where)
        hidden = sum(a.shape[2] for a in active)
        self.report.equal(f"number of rows in {name}", len(neurons), hidden, 0.5, "")
        if uncertain:
            self.report.notes.append(f"{uncertain} neurons have states within f32 rounding of a kink: spectra not compared")

    def probe(self):
        for folder in (self.tables, self.tables.parent):
            path = folder / "probe.npy"
            if path.exists():
                rows = np.load(path)
                shape = self.trace.inputs.shape[1:]
                return self.trace.inputs[rows] if rows.ndim == 1 else rows.reshape(-1, *shape).astype(float)
        raise BadTrace(f"{self.tables}: probe.npy is missing")


def fitted_slope(points):
    """Slope of log regret on log N beyond the first 30 rounds, and the number of prefixes used."""
    used = np.array([(np.log(n), np.log(regret)) for n, regret in points if n > 30 and regret > 0])
    if len(used) < 2:
        return None, len(used)
    return float(np.polyfit(used[:, 0], used[:, 1], 1)[0]), len(used)


def pairs(paths):
    """(trace, tables) folders of a run, or the two given ones."""
    if len(paths) == 2:
        return [tuple(paths)]
    run = paths[0]
    if (run / "manifest.json").exists():
        return [(run, run.parent)]
    found = [(m.parent, m.parent.parent) for m in sorted(run.glob("*/trace/manifest.json"))]
    if not found:
        raise BadTrace(f"{run}: no */trace/manifest.json; run with --keep-trace")
    return found


def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="RUN, or TRACE TABLES")
    p.add_argument("--seed", type=int, default=0, help="of the sample of units")
    p.add_argument("--units", type=int, default=5, metavar="K", help="units at each scale whose optima are recomputed")
    p.add_argument("--prefixes", type=int, default=4, help="prefixes of each of them")
    p.add_argument("--ball-factor", type=float, default=2.0, help="rho / displacement of the ball comparator")
    p.add_argument("--tolerance", type=float, default=2e-4, help="allowed beyond the gap, relative to the mean loss")
    p.add_argument("--rounding", type=float, default=1e-9, help="the same for the gap itself (1e-6 for f32 traces)")
    p.add_argument("--max-dimension", type=int, default=3000, help="largest unit solved densely")
    p.add_argument("--work", type=float, default=1e12, help="floating-point operations for one unit")
    p.add_argument("--memory", type=float, default=1e8, help="Jacobian entries kept for one unit (cross-entropy)")
    p.add_argument(
        "--sample", type=int, nargs=2, metavar=("COUNT", "WINDOW"), help="regret is of COUNT rounds of the first WINDOW"
    )
    p.add_argument("--verbose", action="store_true")
    return p


def sample_of(run, trace, arguments):
    """`(COUNT, WINDOW)` of the rounds that were analysed, from the run's experiment file."""
    path = run / "experiment.toml"
    if arguments.sample or not path.exists():
        return arguments.sample
    regret = tomllib.loads(path.read_text()).get("regret", {})
    if "rounds" not in regret:
        return None
    manifest = json.loads((trace / "manifest.json").read_text())
    per_epoch = manifest["rounds"] // tomllib.loads(path.read_text())["training"]["epochs"]
    window = regret.get("window", "epoch")
    window = {"all": manifest["rounds"], "epoch": per_epoch}.get(window, window)
    return regret["rounds"], min(window, manifest["rounds"])


def compare(trace, tables, arguments):
    return Oracle(Trace(trace), Path(tables), arguments).run()


def main():
    arguments = parser().parse_args()
    try:
        reports = {}
        for trace, tables in pairs(arguments.paths):
            sample = sample_of(tables.parent, trace, arguments)
            own = argparse.Namespace(**{**vars(arguments), "sample": sample})
            reports[str(trace)] = compare(trace, tables, own)
    except (BadTrace, OSError, KeyError, TypeError, ValueError) as error:
        print(f"oracle: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    for name, report in reports.items():
        report.print(name)
    failed = sum(report.failed() for report in reports.values())
    checked = sum(entry["checked"] for report in reports.values() for entry in report.kinds.values())
    print(f"\n{checked - failed} of {checked} comparisons agree" + (f", {failed} DO NOT" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
