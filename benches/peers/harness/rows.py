"""The comparisons: which programs, which commands, and what both sides must agree on.

A row returns what `page.py` prints: the measured series, by name, and checks, each with what was compared, the largest difference found
and the tolerance.
"""

import math

from .sides import Series, SideError, alternate

# Rounds of the epoch whose Taylor losses are minimized.
ROUNDS = 937
# The relative gap to reach, and the products with the curvature that a search may take for it.
GAP, PRODUCTS = 1e-4, 192
SIZES, BATCH = (784, 50, 30, 20, 30, 50, 784), 64
LAYERS = len(SIZES) - 1
CONVOLUTION_BATCH = 128

# Floating-point operations of the training steps, two per multiplication and addition: forward, backward to the weights, and
# backward to the inputs except for the first layer.
_PRODUCTS = [a * b for a, b in zip(SIZES, SIZES[1:])]
EPOCH_FLOPS = ROUNDS * BATCH * 2 * (3 * sum(_PRODUCTS) - _PRODUCTS[0])
_CONVOLUTIONS = [32 * 32 * 64 * 75, 16 * 16 * 64 * 1600, 8 * 8 * 64 * 1600, 1024 * 192, 192 * 10]
STEP_FLOPS = CONVOLUTION_BATCH * 2 * (3 * sum(_CONVOLUTIONS) - _CONVOLUTIONS[0])
# A product with the curvature of the first layer: forward and backward through it, the layers between, and the Gram matrix of the last.
OPERATOR_FLOPS = ROUNDS * BATCH * 2 * (2 * 785 * 50 + 2 * sum(_PRODUCTS[1:-1]) + 50 * 50)


class Check:
    """Differences between the sides that must stay within a tolerance."""

    def __init__(self, what, tolerance):
        self.what, self.tolerance, self.found = what, tolerance, 0.0

    def compare(self, ours, theirs):
        """The largest difference, relative to the larger of the two; whole numbers must be equal if the tolerance is 0."""
        if len(ours) != len(theirs):
            self.found = math.inf
        for a, b in zip(ours, theirs):
            if a != b:
                both = a is not None and b is not None
                self.found = max(self.found, abs(a - b) / max(abs(a), abs(b)) if both else math.inf)
        return self

    def kept(self):
        return {"what": self.what, "tolerance": self.tolerance, "found": self.found, "passed": self.found <= self.tolerance}


def result(series, checks, **more):
    kept = {name: one.kept() if isinstance(one, Series) else one for name, one in series.items()}
    return {"series": kept, "checks": [check.kept() for check in checks], **more}


def variants(bench, program, arguments):
    """The eager and the compiled form of a program, and the eager one as it runs if nobody sets anything; a compiler that does not work here
    says why."""
    sides, failed = {}, {}
    for mode in ("eager", "compile", "unset"):
        try:
            sides[mode] = bench.peer(program, "eager" if mode == "unset" else mode, *arguments, keep=mode != "unset")
        except SideError as error:
            failed[mode] = {"error": str(error)}
    return sides, failed


def autoencoder(optimizer):
    def row(bench):
        ours = bench.ours("autoencoder", optimizer)
        peers, failed = variants(bench, "autoencoder", [optimizer])
        tasks = {"ours": (ours, ""), "limit": (bench.limits, "gemm"), **{mode: (side, "") for mode, side in peers.items()}}
        series = alternate(tasks, bench.repeats(7, 2))
        first, last = Check("mean loss of the first 100 rounds", 1e-4), Check("mean loss of the last 100 rounds", 2e-2)
        for mode in peers:
            a, b = series["ours"].facts[0]["losses"], series[mode].facts[0]["losses"]
            first.compare(a[:1], b[:1])
            last.compare(a[1:], b[1:])
        return result({**series, **failed}, [first, last], flops=EPOCH_FLOPS)

    return row


def convnet(bench):
    ours = bench.ours("convnet")
    peers, failed = variants(bench, "convnet", [])
    tasks = {"ours": (ours, ""), "limit": (bench.limits, "gemm"), **{mode: (side, "") for mode, side in peers.items()}}
    # Training goes on from command to command, so losses are compared in the first one.
    check = Check("losses of the first four steps", 1e-3)
    series = alternate(tasks, bench.repeats(9, 2), warm_up=0)
    for mode in peers:
        check.compare(series["ours"].facts[0]["losses"], series[mode].facts[0]["losses"])
    return result(series | failed, [check], flops=STEP_FLOPS)


def streaming(bench):
    ours, peer = bench.ours("streaming"), bench.peer("streaming")
    tasks = {
        "plain": (ours, "plain"),
        "streaming": (ours, "streaming"),
        "solved": (ours, "solved"),
        "peer plain": (peer, "plain 200"),
        "peer exact": (peer, "exact 6"),
        "peer mc": (peer, "mc 200"),
        "limit": (bench.limits, "gemm"),
    }
    series = alternate(tasks, bench.repeats(3, 1))
    a, b = ours.ask("curvature"), peer.ask("curvature 1")
    check = Check("Gauss-Newton diagonal of the first round, summed by layer", 1e-4)
    check.compare(a["facts"]["diagonal"], b["facts"]["diagonal"])
    return result(series, [check])


def optimum(bench):
    rounds = bench.size(ROUNDS, 64)
    ours = bench.ours("optimum", rounds)
    return rounds, ours, bench.peer("optimum", rounds)


def layers(bench):
    rounds, ours, peer = optimum(bench)
    blocks = [f"{l}..{l + 1}" for l in range(LAYERS)]
    # The first product of all takes its memory from the system.
    peer.ask(f"product {blocks[0]}")
    tasks = {"linearize": (ours, "linearize layers"), "ours": (ours, f"layers {PRODUCTS}"), "operator": (ours, "product 0..1")}
    tasks |= {f"product {l}": (peer, f"product {of}") for l, of in enumerate(blocks)}
    tasks |= {"limit": (bench.limits, "gemm")}
    series = alternate(tasks, 1, warm_up=0)
    form = Check("the norm of a product with each layer's curvature", 1e-3)
    for l, of in enumerate(blocks):
        mine, other = ours.ask(f"product {of}"), series[f"product {l}"]
        form.compare([mine["facts"]["norm"]], [other.facts[0]["norm"]])
    jacobians = {f"jacobians {l}": peer.ask(f"jacobians {l} 3")["seconds"] for l in range(LAYERS)}
    return result(series, [form], jacobians=jacobians, rounds=rounds, operator_flops=OPERATOR_FLOPS * rounds / ROUNDS)


def network(bench):
    rounds, ours, peer = optimum(bench)
    whole = f"0..{LAYERS}"
    peer.ask(f"product {whole}")
    tasks = {"linearize": (ours, "linearize network"), "ours": (ours, f"network {PRODUCTS}"), "product": (peer, f"product {whole}")}
    series = alternate(tasks, 1, warm_up=0)
    form = Check("the norm of a product with the network's curvature", 1e-3)
    form.compare([ours.ask(f"product {whole}")["facts"]["norm"]], [series["product"].facts[0]["norm"]])
    return result(series, [form], rounds=rounds)


def needs(bench):
    """How many products plain methods need for the gap that ours reached: counted with our products, under a time limit."""
    rounds = bench.size(ROUNDS, 64)
    ours = bench.ours("optimum", rounds)
    limit = bench.size(8, 1)
    found = [bench.results[name]["series"]["ours"]["facts"]["found"] for name in ("layers", "network")]
    units = [(f"{l}..{l + 1}", found[0][l]) for l in range(LAYERS)] + [(f"0..{LAYERS}", found[1][0])]
    counts = {}
    for blocks, own in units:
        gap = max(GAP, own["relative_gap"])
        counts[blocks] = {"gap": gap}
        for method in ("cg", "adam"):
            facts = ours.ask(f"{method} {blocks} {limit} {gap}")["facts"]
            counts[blocks][method] = facts | {"reached": facts["relative_gap"] <= gap}
    return result({}, [], counts=counts, limit=limit, rounds=rounds)


def exploration(bench):
    ours = bench.ours("exploration")
    peer = bench.peer("exploration")
    tasks = {
        "ours": (ours, "all"),
        "peer svd": (peer, "svd"),
        "peer gram": (peer, "gram"),
        "limit": (bench.limits, "popcount"),
    }
    series = alternate(tasks, bench.repeats(3, 1), warm_up=0)
    counts, volumes = Check("novelty and switches", 0.0), Check("log-volumes", 1e-4)
    for name in ("peer svd", "peer gram"):
        a, b = series["ours"].facts[0], series[name].facts[0]
        counts.compare(a["novelty"] + a["switches"], b["novelty"] + b["switches"])
        volumes.compare(a["log_volume"], b["log_volume"])
    for one in series.values():
        one.facts = [{}]
    return result(series, [counts, volumes])


def gram(bench):
    ours, peer = bench.ours("exploration"), bench.peer("exploration")
    tasks = {"ours": (ours, "gram"), "peer": (peer, "binary"), "limit": (bench.limits, "popcount")}
    series = alternate(tasks, bench.repeats(11, 2))
    check = Check("sum of all entries", 0.0)
    check.compare([series["ours"].facts[0]["total"]], [series["peer"].facts[0]["total"]])
    return result(series, [check])


def segments(bench):
    ours, peer = bench.ours("segments"), bench.peer("segments")
    tasks = {"ours": (ours, ""), "peer": (peer, "propagate"), "limit": (bench.limits, "gemm64")}
    series = alternate(tasks, bench.repeats(11, 2))
    counts, places = Check("kinks of every segment", 0.0), Check("sum of the places of all kinks", 1e-9)
    exact = series["ours"].facts[0]
    counts.compare(exact["kinks"], series["peer"].facts[0]["kinks"])
    places.compare([exact["places"]], [series["peer"].facts[0]["places"]])
    # Sampling: twice as many points until some segments show all kinks.
    some, most = bench.size(16, 2), bench.size(1 << 19, 1 << 14)
    points, samplings = 1024, []
    while points <= most:
        reply = peer.ask(f"sample {some} {points}")
        found = sum(reply["facts"]["kinks"])
        samplings.append({"points": points, "seconds": reply["seconds"] / some, "found": found})
        if reply["facts"]["kinks"] == exact["kinks"][:some]:
            break
        points *= 2
    total = len(exact["kinks"])
    sampling = {"segments": some, "kinks": sum(exact["kinks"][:some]), "runs": samplings, "total": total}
    for one in series.values():
        one.facts = [{}]
    return result(series, [counts, places], sampling=sampling)


# What cost may grow with, from the operation counts in docs/theory.md: the exponent of the leading term.
THEORY = {
    "streaming": {"rounds": 1, "datapoints": 1, "units": 3, "depth": 1},
    "recording": {"rounds": 1, "datapoints": 1, "units": 2, "depth": 1},
    "exploration": {"rounds": 3, "datapoints": 1, "units": 1},
    "operator": {"rounds": 1, "datapoints": 1, "units": 2, "depth": 1},
}


def scaling(bench):
    grown = {}
    doublings = bench.size(4, 2)
    for work, sizes in THEORY.items():
        for size in sizes:
            sides = [bench.ours("scaling", f"{work}/{size}", k) for k in range(doublings + 1)]
            series = alternate({k: (side, "") for k, side in enumerate(sides)}, bench.repeats(3, 1))
            grown[f"{work}/{size}"] = [series[k].kept() for k in range(doublings + 1)]
            for side in sides:
                bench.close(side)
    return result({}, [], scaling=grown, theory=THEORY)


ROWS = {
    "autoencoder-sgd": autoencoder("sgd:1"),
    "autoencoder-adam": autoencoder("adam:0.001"),
    "convnet": convnet,
    "streaming": streaming,
    "layers": layers,
    "network": network,
    "needs": needs,
    "exploration": exploration,
    "gram": gram,
    "segments": segments,
    "scaling": scaling,
}
